"""Checks of the files before training or evaluation starts."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from flawmap.data.groups import groups_of, refuse_shared_groups
from flawmap.data.images.boxes import fit_as_corners, leave_image
from flawmap.data.images.dicom import dicom_patient, is_dicom
from flawmap.data.images.files import UnreadableImageError, decode_with_remarks, read_file
from flawmap.data.images.truth import truth_of, truth_of_defect
from flawmap.data.left_out import counted
from flawmap.data.sample import (
    Boxes,
    FileRemark,
    KnownDefect,
    LabelledImage,
    LeftOut,
    NormalImage,
    SkippedFile,
    TestData,
    TrainingData,
)
from flawmap.errors import UserError

MIN_IMAGES = 20  # a threshold from fewer says next to nothing
MIN_IMAGES_WITHOUT_THRESHOLD = 2  # of the paper's method
THREADS = 2


@dataclass(frozen=True)
class FileFacts:
    """One readable image file: hashes of its bytes and pixels, its upright size, its largest value (0 to 255).

    ``remarks`` say how it was read, and what is odd about its mask or boxes; those on a mask have its name as key.
    ``largest_of_16_bits`` is the largest value of an image of 16 bits, on the scale in which 65535 is white.
    ``patient`` is that of a DICOM file; it is compared and never written. ``marks_nothing``: its mask is empty.
    """

    key: str
    path: Path
    sha256: str
    pixels_sha256: str
    width_px: int
    height_px: int
    brightest: int
    remarks: tuple[FileRemark, ...] = ()
    largest_of_16_bits: int | None = None
    patient: str | None = field(default=None, repr=False)
    marks_nothing: bool = False


@dataclass(frozen=True)
class CheckedData:
    """Good images whose files have all been decoded, and facts of each image in the same order.

    ``duplicates`` are left out because their pixels equal those of an earlier image, whose key each of them has as its
    value. With one copy in training and the other setting the threshold, it would look safer than it is.
    """

    data: TrainingData
    facts: tuple[FileFacts, ...]
    duplicates: Mapping[str, str]


@dataclass(frozen=True)
class LeakCheck:
    """No test image is in training: ``num_compared`` images were compared, the ``skipped`` ones were not.

    ``remarks`` are on the compared images and their ground truth; ``left_out`` lies beside them.
    """

    num_compared: int
    skipped: tuple[SkippedFile, ...] = ()
    remarks: tuple[FileRemark, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def check_training_data(
    data: TrainingData,
    no_threshold: str | None,
    skip_unreadable: bool = False,
    fewest: int = MIN_IMAGES_WITHOUT_THRESHOLD,
) -> CheckedData:
    """Decode every training image, and drop duplicates.

    Args:
        data: good images.
        no_threshold: the setting that trains without a threshold, for which ``fewest`` images suffice; None where these
            suffice anyway.
        skip_unreadable: leave out files that cannot be decoded.
        fewest: images that can be trained on.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; or too few images.
    """
    facts, bad = facts_of(data.images, data.root, skip_unreadable)
    refuse_few(facts, no_threshold, data, fewest)
    return _without_duplicates(data, facts, bad)


def check_good_images(data: TrainingData, skip_unreadable: bool = False) -> CheckedData:
    """Decode every good image that a threshold is to be set on, and drop duplicates.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; or none can.
    """
    facts, bad = facts_of(data.images, data.root, skip_unreadable)
    if not facts:
        raise UserError("no image can be read", str(data.root), "copy the images again")
    return _without_duplicates(data, facts, bad)


def check_test_data(
    data: TestData,
    skip_unreadable: bool = False,
    trained: Mapping[str, str] | None = None,
    trained_groups: Mapping[str, str] | None = None,
) -> TestData:
    """Decode every test image and its mask before any is scored.

    Args:
        data: what is to be scored.
        skip_unreadable: leave out images that cannot be decoded, or whose mask cannot, and list them in ``skipped``.
        trained: names of the images that the detector was trained on, by the hash of their bytes or pixels.
        trained_groups: the name of one such image for each of their groups.

    Raises:
        UserError: files that cannot be decoded, unless ``skip_unreadable``; no image can be; a mask whose size is not
            its image's; a box outside its image; a test image that was trained on, or whose group was.
    """
    checked, facts = _check_samples(data, skip_unreadable)
    if not facts:
        raise UserError("no test image can be read", str(data.root), "copy the images again")
    _refuse_trained(facts, trained or {}, data.root)
    refuse_shared_groups(checked.samples, trained_groups or {}, data.grouped_by, str(data.root))
    return checked


def check_leak(
    checked: CheckedData,
    tests: TestData | None,
    skip_unreadable: bool = False,
    further: Sequence[FileFacts] = (),
    known: Sequence[KnownDefect] = (),
) -> LeakCheck | None:
    """Compare the test images with the training images, their pixels and their groups; labels are not used.

    A good image that the layout offers for both training and test (a folder that the recipe names) does not count:
    the check before an evaluation refuses it.

    Args:
        checked: the training images.
        tests: all test images beside them; None if there are none.
        skip_unreadable: leave out test images that cannot be decoded.
        further: of other images that training sees: those of stage 1, and known defects.
        known: defects, of which the groups count, too.

    Returns:
        None if there are no test images.

    Raises:
        UserError: a test image has the pixels or the group of a training image or a known defect; or as
            :func:`check_test_data`.
    """
    if tests is None:
        return None
    data = checked.data
    good = {image.key for image in data.images} | {file.key for file in data.skipped} | set(data.unused)
    others = tuple(sample for sample in tests.samples if sample.key not in good)
    kept, facts = _check_samples(replace(tests, samples=others), skip_unreadable)
    trained = {fact.pixels_sha256: fact.key for fact in (*further, *checked.facts)}
    _refuse_trained(facts, trained, data.root)
    refuse_shared_groups(kept.samples, groups_of(known) | groups_of(data.images), tests.grouped_by, str(data.root))
    return LeakCheck(len(facts), kept.skipped, kept.remarks, kept.left_out)


def refuse_unwritable_names(names: Iterable[str]) -> None:
    """Refuse file names that manifests and results, which are UTF-8, cannot hold.

    Raises:
        UserError: a name that is not UTF-8.
    """
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = name.encode("utf-8", "backslashreplace").decode("utf-8")
            raise UserError("a file name is not UTF-8", shown, "rename it; flawmap writes names into UTF-8") from error


def _without_duplicates(data: TrainingData, facts: Sequence[FileFacts], bad: Sequence[SkippedFile]) -> CheckedData:
    first = {fact.pixels_sha256: fact for fact in reversed(facts)}
    unique = tuple(fact for fact in facts if first[fact.pixels_sha256] is fact)
    image_of = {image.key: image for image in data.images}
    images = tuple(replace(image_of[fact.key], path=fact.path, sha256=fact.sha256) for fact in unique)
    kept = {fact.key: first[fact.pixels_sha256] for fact in facts}
    duplicates = {fact.key: kept[fact.key].key for fact in facts if kept[fact.key] is not fact}
    checked = replace(
        data,
        images=images,
        skipped=data.skipped + tuple(bad),
        unused=data.unused + tuple(duplicates),
        remarks=data.remarks + _remarks_of(facts),
    )
    return CheckedData(checked, unique, duplicates)


def refuse_few(
    facts: Sequence[FileFacts],
    no_threshold: str | None,
    data: TrainingData,
    fewest: int = MIN_IMAGES_WITHOUT_THRESHOLD,
) -> None:
    """Refuse data with too few images; for the arguments see :func:`check_training_data`.

    Raises:
        UserError: they are too few to train or to set a threshold.
    """
    needed = MIN_IMAGES if no_threshold else fewest
    copies = Counter(fact.pixels_sha256 for fact in facts)
    if len(copies) >= needed:
        return
    noun = "image" if len(facts) == 1 else "images"
    num_identical = sum(number for number in copies.values() if number > 1)
    identical = f" ({num_identical} identical by content)" if num_identical else ""
    remedy = "add images"
    if no_threshold and len(copies) >= fewest:
        remedy += f", or --set {no_threshold} and calibrate later"
    purpose = "to set a threshold" if no_threshold else "to train"
    beside = f"; {counted(data.left_out)}" if data.left_out else ""
    are = "is" if needed == 1 else "are"
    problem = f"{len(facts)} good {noun}{identical}; at least {needed} {are} needed {purpose}{beside}"
    raise UserError(problem, str(data.root), remedy)


def _refuse_trained(tests: Sequence[FileFacts], trained: Mapping[str, str], root: Path) -> None:
    """Refuse test files with the bytes or pixels of a training file (``trained``: hash to name)."""
    hashes = ((fact.key, content) for fact in tests for content in (fact.pixels_sha256, fact.sha256))
    matches = {key: trained[content] for key, content in hashes if content in trained}
    if not matches:
        return
    key, training_key = next(iter(matches.items()))
    more = f", and {len(matches) - 1} more" if len(matches) > 1 else ""
    if key == training_key:
        problem = f"{key} was trained on{more}: these good images cannot be the test's"
        remedy = "test with good images that training has not seen: --set data.normal=OTHER_FOLDER"
        raise UserError(problem, str(root), remedy)
    problem = f"{key} is also in training as {training_key} (same content){more}"
    raise UserError(problem, str(root), "remove one copy; scores would be meaningless")


def _check_samples(data: TestData, skip_unreadable: bool) -> tuple[TestData, list[FileFacts]]:
    """The test data without unreadable files, and facts of the images that are left, in the same order."""
    facts, bad = facts_of(data.samples, data.root, skip_unreadable)
    unreadable = {file.key for file in bad}
    kept = tuple(sample for sample in data.samples if sample.key not in unreadable)
    remarks = (*data.remarks, *_remarks_of(facts), *_remarks_on_corners(kept, facts))
    return replace(data, samples=kept, skipped=data.skipped + tuple(bad), remarks=remarks), facts


def _remarks_of(facts: Sequence[FileFacts]) -> tuple[FileRemark, ...]:
    return tuple(remark for fact in facts for remark in fact.remarks)


def _remarks_on_corners(samples: Sequence[LabelledImage], facts: Sequence[FileFacts]) -> tuple[FileRemark, ...]:
    """The same remark on all images with boxes, if the boxes of all look like corners (x1, y1, x2, y2).

    A single image does not tell: read as x, y, width and height, the corners of a small box near the upper left of the
    image lie inside it, too.
    """
    with_boxes = [
        (sample.key, sample.truth, (fact.height_px, fact.width_px))
        for sample, fact in zip(samples, facts, strict=True)
        if isinstance(sample.truth, Boxes)
    ]
    num_leaving = sum(leave_image(boxes, *size) for _, boxes, size in with_boxes)
    if not num_leaving or not all(fit_as_corners(boxes, *size) for _, boxes, size in with_boxes):
        return ()
    text = (
        f"boxes are read as x, y, width and height, and those of {num_leaving} of {len(with_boxes)} images leave their "
        "image; read as corners x1, y1, x2, y2, all would lie inside: if they are corners, write width and height"
    )
    return tuple(FileRemark(key, text) for key, _, _ in with_boxes)


def facts_of(
    images: Sequence[NormalImage | LabelledImage | KnownDefect], root: Path, skip_unreadable: bool
) -> tuple[list[FileFacts], list[SkippedFile]]:
    """Facts of the readable images and reasons for the others, in order.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; or a mask or box that does
            not fit its image.
    """
    with ThreadPoolExecutor(max_workers=THREADS) as threads:
        results = list(threads.map(lambda image: _read(image, root), images))
    facts = [result for result in results if isinstance(result, FileFacts)]
    unreadable = [result for result in results if isinstance(result, _Unreadable)]
    bad = [result.file for result in unreadable]
    if bad and not skip_unreadable:
        shown = ", ".join(f"{file.key} ({file.reason})" for file in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        problem = f"{len(bad)} {'file' if len(bad) == 1 else 'files'} cannot be decoded: {shown}{more}"
        raise UserError(problem, str(root), _remedy(unreadable))
    return facts, bad


@dataclass(frozen=True)
class _Unreadable:
    """A file that cannot be decoded, and what helps."""

    file: SkippedFile
    remedy: str


def _remedy(unreadable: Sequence[_Unreadable]) -> str:
    """What helps with the kinds of files that are not read; damaged ones can only be left out."""
    first: dict[str, str] = {}
    for result in unreadable:
        if "remove it" not in result.remedy:
            first.setdefault(result.remedy, result.file.key)
    remedies = [remedy if len(unreadable) == 1 else f"{key}: {remedy}" for remedy, key in first.items()]
    them = "it" if len(unreadable) == 1 else "them"
    return "; ".join((*remedies[:3], f"move {them} to another folder, or --skip-unreadable"))


def _read(image: NormalImage | LabelledImage | KnownDefect, root: Path) -> FileFacts | _Unreadable:
    """An unreadable mask makes its image unreadable; a mask or box that does not fit its image is an error."""
    try:
        data = read_file(image.path)
        decoded = decode_with_remarks(data, place=str(image.path))
    except UnreadableImageError as error:
        return _Unreadable(SkippedFile(image.key, error.problem), error.remedy)
    pixels, remarks = decoded.pixels, [FileRemark(image.key, remark) for remark in decoded.remarks]
    height, width = pixels.shape[:2]
    marks_nothing = False
    if not isinstance(image, NormalImage) and image.truth is not None:
        size_px = height, width
        try:
            if isinstance(image, KnownDefect):
                truth = truth_of_defect(image, *size_px, decoded.orientation)
            else:
                truth = truth_of(image, *size_px, decoded.orientation)
        except UnreadableImageError as error:
            reason = f"its mask {Path(error.place).name}: {error.problem}"
            return _Unreadable(SkippedFile(image.key, reason), error.remedy)
        key = image.key if truth.path is None else _key_of(truth.path, root)
        remarks += [FileRemark(key, remark) for remark in truth.remarks]
        marks_nothing = truth.pixels is None
    pixel_hash = hashlib.sha256(repr(pixels.shape).encode())
    pixel_hash.update(np.ascontiguousarray(pixels).data)  # no copy: an image may have 170 million pixels
    content = hashlib.sha256(data).hexdigest()
    return FileFacts(
        image.key,
        image.path,
        content,
        pixel_hash.hexdigest(),
        width,
        height,
        brightest=int(pixels.max()),
        remarks=tuple(remarks),
        largest_of_16_bits=decoded.largest_of_16_bits,
        patient=dicom_patient(data) if is_dicom(data) else None,
        marks_nothing=marks_nothing,
    )


def _key_of(path: Path, root: Path) -> str:
    """The name of a file for people: relative to the data, where it lies there."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

"""Everything that can be wrong with the files, found before training starts."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flawmap.data.images.files import read_image, read_mask
from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import has_test_data, open_test_data, open_training_data
from flawmap.data.sample import LabelledImage, MaskFile, NormalImage, SkippedFile, TestData, TrainingData
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import file_sha256

MIN_IMAGES = 20  # fewer leave nothing worth holding out for the threshold
MIN_IMAGES_WITHOUT_THRESHOLD = 2
THREADS = 2


@dataclass(frozen=True)
class FileFacts:
    """One readable image file; ``sha256`` is of its bytes, the rest of its decoded pixels (``brightest`` of 255)."""

    key: str
    path: Path
    sha256: str
    pixels_sha256: str
    width_px: int
    height_px: int
    brightest: int


@dataclass(frozen=True)
class CheckedData:
    """Good images, of which every file was decoded.

    Attributes:
        data: without the files that were skipped, and each content once.
        facts: of each image, in the same order.
        num_duplicates: images that were left out because their pixels equal an earlier one's: held out beside their
            twin, they would make a threshold look safer than it is.
    """

    data: TrainingData
    facts: tuple[FileFacts, ...]
    num_duplicates: int


@dataclass(frozen=True)
class LeakCheck:
    """No test file has the content of a training file; ``num_compared`` were looked at, the ``skipped`` were not."""

    num_compared: int
    skipped: tuple[SkippedFile, ...] = ()


def check_training_data(data: TrainingData, held_out_fraction: float, skip_unreadable: bool = False) -> CheckedData:
    """Decode every training image.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; or too few images.
    """
    facts, bad = _read_all(data.images)
    if bad and not skip_unreadable:
        raise _unreadable(bad, data.root)
    _check_count(facts, held_out_fraction, data.root)
    return _each_content_once(data, facts, bad)


def check_good_images(data: TrainingData, skip_unreadable: bool = False) -> CheckedData:
    """Decode every good image before any is scored, as for a new threshold; of each content one is kept.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; nothing is left.
    """
    facts, bad = _read_all(data.images)
    if bad and not skip_unreadable:
        raise _unreadable(bad, data.root)
    if not facts:
        raise UserError("no image can be read", str(data.root), "copy them again")
    return _each_content_once(data, facts, bad)


def check_test_data(
    data: TestData, skip_unreadable: bool = False, trained: Mapping[str, str] | None = None
) -> TestData:
    """Decode every test image and its mask before any is scored.

    Args:
        data: what is to be scored.
        skip_unreadable: leave out, and list in ``skipped``, images that cannot be decoded or whose mask cannot.
        trained: hashes, of bytes or of pixels, of the images that the detector was trained on, with their names.

    Raises:
        UserError: files that cannot be decoded, unless ``skip_unreadable``; a mask of another size than its image; a
            box outside it; a test image that was trained on; nothing is left.
    """
    checked, facts = _decode_tests(data, skip_unreadable)
    if not facts:
        raise UserError("no test image can be read", str(data.root), "copy them again")
    _refuse_trained(facts, trained or {}, data.root)
    return checked


def _each_content_once(data: TrainingData, facts: Sequence[FileFacts], bad: Sequence[SkippedFile]) -> CheckedData:
    first = {fact.pixels_sha256: fact for fact in reversed(facts)}
    unique = tuple(fact for fact in facts if first[fact.pixels_sha256] is fact)
    keys = {fact.key for fact in unique}
    kept = tuple(image for image in data.images if image.key in keys)
    checked = replace(data, images=kept, skipped=data.skipped + tuple(bad))
    return CheckedData(checked, unique, len(facts) - len(unique))


def _unreadable(bad: Sequence[SkippedFile], root: Path) -> UserError:
    shown = ", ".join(f"{file.key} ({file.reason})" for file in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    noun = "file" if len(bad) == 1 else "files"
    return UserError(
        f"{len(bad)} {noun} cannot be decoded: {shown}{more}",
        str(root),
        "remove them, or --skip-unreadable",
    )


def check_leak(
    checked: CheckedData,
    location: str | Path,
    settings: DataSettings,
    skip_unreadable: bool = False,
    pool: Sequence[FileFacts] = (),
) -> LeakCheck | None:
    """Compare the contents of test files, if the location has any, with the training files'.

    Test images and masks are only decoded here, and images hashed; no label is used. A file that the layout offers
    for both (good images of a folder that the recipe names) is left to the check before an evaluation. The ``pool``
    of stage 1 is training, too.

    Raises:
        UserError: a test image has the same pixels as a training image; or as :func:`check_test_data`.
    """
    if not has_test_data(location, settings):
        return None
    every = open_training_data(location, replace(settings, train_subset=None)).images
    own = {image.key for image in every}  # those that repeat another one's pixels, or are not used, among them
    tests = open_test_data(location, replace(settings, test_subset=None))
    others = tuple(sample for sample in tests.samples if sample.key not in own)
    kept, facts = _decode_tests(replace(tests, samples=others), skip_unreadable)
    trained = {fact.pixels_sha256: fact.key for fact in (*pool, *checked.facts)}
    _refuse_trained(facts, trained, checked.data.root)
    return LeakCheck(len(facts), kept.skipped)


def _refuse_trained(tests: Sequence[FileFacts], trained: Mapping[str, str], root: Path) -> None:
    """Raise if a test file has the bytes or pixels of a training file (hash to name)."""
    hashes = ((fact.key, (fact.sha256, fact.pixels_sha256)) for fact in tests)
    twins = [(key, trained[of]) for key, both in hashes for of in dict.fromkeys(both) if of in trained]
    if not twins:
        return
    key, of_training = twins[0]
    keys = {key for key, _ in twins}
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    if key == of_training:
        raise UserError(
            f"{key} was trained on{more}: these good images cannot be the test's",
            str(root),
            "test with good images that training has not seen: --set data.normal=OTHER_FOLDER",
        )
    raise UserError(
        f"{key} is also in training as {of_training} (same content){more}",
        str(root),
        "remove one copy; scores would be meaningless",
    )


def _check_count(facts: Sequence[FileFacts], held_out_fraction: float, root: Path) -> None:
    needed = MIN_IMAGES if held_out_fraction > 0 else MIN_IMAGES_WITHOUT_THRESHOLD
    copies = Counter(fact.pixels_sha256 for fact in facts)
    if len(copies) >= needed:
        return
    noun = "image" if len(facts) == 1 else "images"
    same = sum(number for number in copies.values() if number > 1)
    identical = f" ({same} identical by content)" if same else ""
    remedy = "add images"
    if held_out_fraction > 0 and len(copies) >= MIN_IMAGES_WITHOUT_THRESHOLD:
        remedy += ", or --set calibration.held_out_fraction=0 and calibrate later"
    purpose = "to hold some out for the threshold" if held_out_fraction > 0 else "to train"
    raise UserError(f"{len(facts)} good {noun}{identical}; at least {needed} are needed {purpose}", str(root), remedy)


def _decode_tests(data: TestData, skip_unreadable: bool) -> tuple[TestData, list[FileFacts]]:
    """The test data without what cannot be decoded, and facts of the images that are left, in the same order."""
    facts, bad = _read_all(data.samples)
    if bad and not skip_unreadable:
        raise _unreadable(bad, data.root)
    by_key = {fact.key: fact for fact in facts}
    kept = tuple(sample for sample in data.samples if sample.key in by_key)
    for sample in kept:  # the size of a mask and the place of a box are looked at here, too
        read_truth(sample, by_key[sample.key].height_px, by_key[sample.key].width_px)
    return replace(data, samples=kept, skipped=data.skipped + tuple(bad)), facts


def _read_all(images: Sequence[NormalImage | LabelledImage]) -> tuple[list[FileFacts], list[SkippedFile]]:
    """Facts of the readable images and the reasons of the others, in order."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        results = list(pool.map(_read, images))
    facts = [result for result in results if isinstance(result, FileFacts)]
    return facts, [result for result in results if isinstance(result, SkippedFile)]


def _read(image: NormalImage | LabelledImage) -> FileFacts | SkippedFile:
    try:
        pixels = read_image(image.path)
    except UserError as error:
        return SkippedFile(image.key, error.problem)
    if isinstance(image, LabelledImage) and isinstance(image.truth, MaskFile):
        try:
            read_mask(image.truth.path)
        except UserError as error:
            return SkippedFile(image.key, f"its mask {image.truth.path.name}: {error.problem}")
    content = file_sha256(image.path)
    of_pixels = hashlib.sha256(repr(pixels.shape).encode())
    of_pixels.update(np.ascontiguousarray(pixels).data)  # no copy: an image may have 170 million pixels
    height, width = pixels.shape[:2]
    return FileFacts(image.key, image.path, content, of_pixels.hexdigest(), width, height, int(pixels.max()))

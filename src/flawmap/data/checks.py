"""Everything that can be wrong with the files, found before training starts."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.image_files import read_image
from flawmap.data.open_data import has_test_data, open_test_data
from flawmap.data.sample import NormalImage, SkippedFile, TestData, TrainingData
from flawmap.errors import UserError
from flawmap.recipe import DataSettings

MIN_IMAGES = 20  # fewer leave nothing worth holding out for the threshold
MIN_IMAGES_WITHOUT_THRESHOLD = 2
THREADS = 2


@dataclass(frozen=True)
class FileFacts:
    """One readable image file; ``sha256`` is of its bytes, ``pixels_sha256`` of its decoded pixels."""

    key: str
    path: Path
    sha256: str
    pixels_sha256: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class CheckedData:
    """Training data of which every file was decoded.

    Attributes:
        data: without the files that were skipped.
        facts: of each image, in the same order.
        num_duplicates: images whose content equals an earlier one's.
    """

    data: TrainingData
    facts: tuple[FileFacts, ...]
    num_duplicates: int


@dataclass(frozen=True)
class LeakCheck:
    """No test file has the content of a training file; ``num_compared`` test files were looked at."""

    num_compared: int


def check_training_data(data: TrainingData, held_out_fraction: float, skip_unreadable: bool = False) -> CheckedData:
    """Decode every training image.

    Raises:
        UserError: files that cannot be decoded (all are listed), unless ``skip_unreadable``; or too few images.
    """
    facts, bad = _read_all(data.images)
    if bad and not skip_unreadable:
        raise _unreadable(bad, data.root)
    readable = {fact.key for fact in facts}
    kept = tuple(image for image in data.images if image.key in readable)
    num_unique = len({fact.pixels_sha256 for fact in facts})
    _check_count(len(kept), num_unique, held_out_fraction, data)
    checked = replace(data, images=kept, skipped=data.skipped + tuple(bad))
    return CheckedData(checked, tuple(facts), len(kept) - num_unique)


def check_test_data(data: TestData, skip_unreadable: bool = False) -> TestData:
    """Decode every test image before any is scored.

    Raises:
        UserError: files that cannot be decoded, unless ``skip_unreadable``; they are then listed in ``skipped``.
    """
    facts, bad = _read_all([NormalImage(sample.key, sample.path) for sample in data.samples])
    if bad and not skip_unreadable:
        raise _unreadable(bad, data.root)
    readable = {fact.key for fact in facts}
    kept = tuple(sample for sample in data.samples if sample.key in readable)
    return replace(data, samples=kept, skipped=data.skipped + tuple(bad))


def _unreadable(bad: Sequence[SkippedFile], root: Path) -> UserError:
    shown = ", ".join(f"{file.key} ({file.reason})" for file in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    noun = "file" if len(bad) == 1 else "files"
    return UserError(
        f"{len(bad)} {noun} cannot be decoded: {shown}{more}",
        str(root),
        "remove them, or --skip-unreadable (they are listed in the report)",
    )


def check_leak(checked: CheckedData, location: str | Path, settings: DataSettings) -> LeakCheck | None:
    """Compare the contents of test files, if the location has any, with the training files'.

    Test images are only hashed here, neither their labels nor their masks are used.

    Raises:
        UserError: a test file has the same bytes as a training file, or the same pixels.
    """
    if not has_test_data(location, settings):
        return None
    tests = open_test_data(location, replace(settings, test_subset=None)).samples
    trained = {fact.sha256: fact.key for fact in checked.facts}
    trained_pixels = {fact.pixels_sha256: fact.key for fact in checked.facts}
    facts, _ = _read_all([NormalImage(sample.key, sample.path) for sample in tests])
    for fact in facts:
        twin = trained.get(fact.sha256) or trained_pixels.get(fact.pixels_sha256)
        if twin is not None:
            raise UserError(
                f"{fact.key} is also in training as {twin} (same content)",
                str(checked.data.root),
                "remove one copy; scores would be meaningless",
            )
    return LeakCheck(len(facts))


def _check_count(num_images: int, num_unique: int, held_out_fraction: float, data: TrainingData) -> None:
    needed = MIN_IMAGES if held_out_fraction > 0 else MIN_IMAGES_WITHOUT_THRESHOLD
    if num_unique >= needed:
        return
    same = f" ({num_images - num_unique + 1} identical by content)" if num_unique < num_images else ""
    remedy = "add images"
    if held_out_fraction > 0 and num_unique >= MIN_IMAGES_WITHOUT_THRESHOLD:
        remedy += ", or --set calibration.held_out_fraction=0 and calibrate later"
    purpose = "to hold some out for the threshold" if held_out_fraction > 0 else "to train"
    raise UserError(f"{num_images} good images{same}; at least {needed} are needed {purpose}", str(data.root), remedy)


def _read_all(images: Sequence[NormalImage]) -> tuple[list[FileFacts], list[SkippedFile]]:
    """Facts of the readable images and the reasons of the others, in order."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        results = list(pool.map(_read, images))
    facts = [result for result in results if isinstance(result, FileFacts)]
    return facts, [result for result in results if isinstance(result, SkippedFile)]


def _read(image: NormalImage) -> FileFacts | SkippedFile:
    try:
        pixels = read_image(image.path)
    except UserError as error:
        return SkippedFile(image.key, error.problem)
    content = hashlib.sha256(image.path.read_bytes()).hexdigest()
    of_pixels = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return FileFacts(image.key, image.path, content, of_pixels, pixels.shape[1], pixels.shape[0])

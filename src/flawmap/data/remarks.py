"""Remarks on good images that can be trained on but will give poor results; made before training starts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from flawmap.data.checks import MIN_IMAGES, FileFacts

DARK = 64  # of 255: the brightest value of 14-bit data in 16-bit files; two of the eight bits are unused
CAMERA_BITS = (8, 10, 12, 14)
TILES = "--set data.tiles=auto also looks at each part of an image (up to five times as slow)"
MUCH_LARGER = 4.0  # an image side relative to what the model sees: details begin to vanish


def detail_lost(facts: Sequence[FileFacts], seen_px: int, remedy: str = TILES) -> str | None:
    """What happens to small defects in images much larger than what the model sees; None if there are none.

    Args:
        facts: of the images.
        seen_px: side of the largest square that they are resized to.
        remedy: against it.
    """
    sides = [(max(fact.width_px, fact.height_px), fact.key) for fact in facts]
    large = [(side, key) for side, key in sides if side >= MUCH_LARGER * seen_px]
    if not large:
        return None
    longest, largest = max(large)
    where = "" if len(large) == len(facts) else f" (in {len(large)} of {len(facts)} images, largest {largest})"
    kept = 10 * seen_px / longest
    return (
        f"an image side of {longest} px{where} is seen as {seen_px} px, a defect of 10 px as {kept:.1f} px: for small "
        f"defects {remedy}"
    )


def few_images(count: int) -> str | None:
    """What so few good images mean for a method on tokens; None where there are enough."""
    if count >= MIN_IMAGES:
        return None
    if count == 1:
        return f"1 good image sets no threshold, so nothing is called anomalous; {MIN_IMAGES} or more are better"
    return (
        f"{count} good images: no false-alarm rate below {1 / (count + 1):.0%} can be promised; "
        f"{MIN_IMAGES} or more are better"
    )


def nearly_black(facts: Sequence[FileFacts]) -> str | None:
    """Why most images are nearly black, such as 12-bit camera values in 16-bit files; None if they are not.

    16-bit values are read on one fixed scale. They are not stretched, because every image that the model ever sees
    would have to be stretched in the same way.
    """
    brightest = sorted(fact.brightest for fact in facts)[len(facts) // 2]  # of the median image
    if brightest > DARK:
        return None
    if brightest == 0:
        return "most images are black"
    dark = f"most images have no pixel brighter than {brightest} of 255, so little is visible"
    values = [fact.largest_of_16_bits for fact in facts]
    largest = max((value for value in values if value is not None), default=0)
    bits = next((bits for bits in CAMERA_BITS if largest < 2**bits), None)
    if None in values or bits is None:  # no factor makes these images brighter without cutting off values
        return f"{dark}: take or export all of them brighter, in the same way"
    return (
        f"{dark}: if a camera wrote its {bits} bits into 16-bit files (the largest value of all is {largest:,}), "
        f"multiply every value by {2 ** (16 - bits)}, but to no more than 65535, in all images alike: those for "
        "training, for tests and for later"
    )


def ungrouped_patients(facts: Sequence[FileFacts]) -> str | None:
    """That DICOM files name patients with several images each, and how to keep these together; None if they do not.

    Args:
        facts: of images that are split one by one, though nobody has asked for it.
    """
    named = [fact for fact in facts if fact.patient is not None]
    images = Counter(fact.patient for fact in named)
    if len(images) < 2 or len(images) == len(named):
        return None
    places = {(fact.patient, PurePosixPath(fact.key).parent) for fact in named}
    has_folders = len(places) == len(images) and len({place for _, place in places}) > 1
    by_folder = "--set data.group_by=folder keeps each patient together, or " if has_folders else ""
    return (
        f"{len(named)} DICOM files are of {len(images)} patients (PatientID), and are split image by image, so the "
        f"threshold may be too low: {by_folder}name them in a column patient of a manifest.csv"
    )

"""Remarks on good images that can be trained on but will give poor results; made before training starts."""

from collections.abc import Sequence

from flawmap.data.checks import FileFacts

DARK = 64  # of 255: the brightest value of 14-bit data in 16-bit files; two of the eight bits are unused
CAMERA_BITS = (8, 10, 12, 14)
MUCH_LARGER = 4.0  # an image side relative to what the model sees: details begin to vanish


def detail_lost(
    facts: Sequence[FileFacts], seen_px: int, settings: Sequence[str] = ("data.image_size_px",)
) -> str | None:
    """What happens to small defects in images much larger than what the model sees; None if there are none.

    Args:
        facts: of the images.
        seen_px: side of the largest square that they are resized to.
        settings: those that decide it.
    """
    longest = max(max(fact.width_px, fact.height_px) for fact in facts)
    if longest < MUCH_LARGER * seen_px:
        return None
    kept = 10 * seen_px / longest
    closer = " ".join(f"--set {setting}={2 * seen_px}" for setting in settings)
    return (
        f"an image side of {longest} px is seen as {seen_px} px, a defect of 10 px as {kept:.1f} px: for small defects "
        f"cut images into parts, or {closer} (slower)"
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

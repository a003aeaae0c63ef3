"""What is no mistake and will still disappoint: said before training starts."""

import math
from collections.abc import Sequence

from flawmap.data.checks import FileFacts

DARK = 64  # of 255, what 14 bits reach of 16: where no pixel is brighter, two of the eight bits are unused
MUCH_LARGER = 4.0  # times what the model sees: details begin to vanish


def detail_lost(facts: Sequence[FileFacts], seen_px: int) -> str | None:
    """What becomes of small defects where images are much larger than what the model sees; None where they are not.

    Args:
        facts: of the images.
        seen_px: side of the largest square that they are resized to.
    """
    longest = max(max(fact.width_px, fact.height_px) for fact in facts)
    if longest < MUCH_LARGER * seen_px:
        return None
    kept = 10 * seen_px / longest
    return (
        f"an image side of {longest} px is seen as {seen_px} px, a defect of 10 px as {kept:.1f} px: for small defects "
        f"cut images into parts, or --set data.image_size_px={2 * seen_px} (slower)"
    )


def nearly_black(facts: Sequence[FileFacts]) -> str | None:
    """Why images are that dark, as 16-bit files with a 12-bit camera's values are; None where most are not.

    16 bits are read on one fixed scale. Nothing is stretched, because that would have to be the same for every image
    that is ever shown to the model.
    """
    brightest = sorted(fact.brightest for fact in facts)[len(facts) // 2]  # of the image in the middle
    if brightest > DARK:
        return None
    if brightest == 0:
        return "most images are black"
    bits = int(math.log2(256 / (brightest - 0.5)))  # values were rounded
    return (
        f"most images have no pixel brighter than {brightest} of 255, and little can be seen: if a camera wrote its "
        f"{16 - bits} bits into 16-bit files, multiply all values by {2**bits}, of training and test images alike"
    )

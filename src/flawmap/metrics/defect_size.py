"""Classes of defect size, by the share of the image that is anomalous."""

from typing import Literal

SizeClass = Literal["small", "medium", "large"]

# On magnetic tiles, blowholes and hairline cracks are small, breaks medium, uneven surfaces and fraying large; of the
# boxes on chest X-rays, half are medium and half large.
SMALL_BELOW = 0.005
LARGE_FROM = 0.05
SIZE_CLASS_MEANING: dict[SizeClass, str] = {
    "small": f"less than {100 * SMALL_BELOW:g} % of the image",
    "medium": f"{100 * SMALL_BELOW:g} % to {100 * LARGE_FROM:g} % of the image",
    "large": f"{100 * LARGE_FROM:g} % of the image or more",
}


def size_class(share: float) -> SizeClass:
    """``small`` below 0.5 % of the image's area, ``large`` from 5 % on, ``medium`` in between.

    Args:
        share: anomalous pixels over all pixels of the image at its original resolution, in (0, 1]; all regions count
            together.

    Raises:
        ValueError: a share outside (0, 1]; an image without anomalous pixels has no defect size.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the anomalous share of an image is {share}, must be above 0 and at most 1")
    if share < SMALL_BELOW:
        return "small"
    return "large" if share >= LARGE_FROM else "medium"

"""Saturated per-region overlap (sPRO), the measure of MVTec LOCO for defects whose outline is not what matters.

Of a missing part any place may be marked where it could have been, and finding a few of these pixels is enough. Each
defect has an area at which it counts as found in full: its overlap is min(found pixels / that area, 1) (Bergmann et
al., "Beyond Dents and Scratches", IJCV 2022). AU-sPRO is the area under the mean overlap of all defects over the
false-positive rate, as AUPRO is for connected regions, and with the saturation at a defect's whole area it is AUPRO.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.pixel_pool import PixelImage, counted_image
from flawmap.metrics.score_bins import ScoreCounts, as_finite_float32, as_flags, count_scores


def count_saturated(
    anomaly_map: ArrayLike, defects: Sequence[tuple[NDArray[np.bool_], int]], inside: NDArray[np.bool_] | None = None
) -> PixelImage:
    """Count an image for a pool in which ``aupro_30`` and ``aupro_05`` then are AU-sPRO.

    A pixel of a higher score is found earlier, so a defect's pixels add to its overlap from the highest score on until
    it saturates. What each bin of scores adds is summed over defects and takes the place of the region's share.

    Args:
        anomaly_map: (h, w), finite; rounded to float32; higher = more anomalous.
        defects: for each its pixels, bool (h, w), connected or not, and its saturation area, in px, from 1 to their
            number. Defects may share pixels. A pixel is normal if no defect has it. Empty for a good image.
        inside: (h, w), the pixels that count; a defect outside does not. None: all.

    Raises:
        ValueError: the shapes differ or are not (h, w), a value is not finite, or a saturation area is out of range.
    """
    values = as_finite_float32(anomaly_map)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a map has shape (height, width), but this one {values.shape}")
    union = np.zeros(values.shape, np.bool_)
    for pixels, saturation_px in defects:
        union |= as_flags(pixels, values.shape)
        area_px = int(np.count_nonzero(pixels))
        if not 1 <= saturation_px <= area_px:
            raise ValueError(f"a defect of {area_px} pixels cannot saturate at {saturation_px}")
    if inside is not None:
        values, union = values[inside], union[inside]  # (m,)
        defects = [(pixels[inside], saturation_px) for pixels, saturation_px in defects if pixels[inside].any()]
        defects = [(pixels, min(saturation_px, int(pixels.sum()))) for pixels, saturation_px in defects]
    counts = count_scores(values, union)
    overlap = np.zeros(counts.bins.size)
    for pixels, saturation_px in defects:
        of_defect = values[pixels]
        found = count_scores(of_defect, np.ones(of_defect.shape, np.bool_))
        from_top = np.minimum(np.cumsum(np.flip(found.anomalous)) / saturation_px, 1)
        overlap[np.searchsorted(counts.bins, found.bins)] += np.flip(np.diff(from_top, prepend=0))
    return counted_image(ScoreCounts(counts.bins, counts.normal, counts.anomalous, overlap), len(defects))

"""95 % intervals by resampling images: how far a number might move on other images of the same kind.

Images are drawn with replacement, normal and anomalous ones apart (stratified), so that each resample has as many of
both as the test set (Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 13 and 8). The pixels of one
image depend on each other and stay together. An interval is that of the percentiles. It knows nothing of another
camera, another lot or another training run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 1000
LEVEL = 0.95
# of a class that occurs; below it an interval would hold the truth far less often than it says: three of four times
# with three images, never with one that happens to lie above all normal ones
MIN_IMAGES = 5
_CHUNK = 1 << 20  # numbers per array: 8 MiB


@dataclass(frozen=True)
class Estimate:
    """A measure with its uncertainty.

    Attributes:
        value: on the test set; None when it has no normal or no anomalous images (or pixels).
        low: lower end of the 95 % interval; None where there are too few images for one.
        high: upper end.
        binning_error: the most by which ``value`` can differ from that of the scores before they were binned; 0 for
            image scores, which are not binned.
        interval_shift: what was added to ``low`` and ``high`` because the images' sketches, from which the interval
            comes, give a slightly different value; 0 for image scores.
    """

    value: float | None
    low: float | None
    high: float | None
    binning_error: float | None = 0.0
    interval_shift: float = 0.0


NOTHING = Estimate(None, None, None, None)


def resample_weights(
    is_anomalous: NDArray[np.bool_], n_resamples: int, generator: np.random.Generator, n_scores: int = 0
) -> Iterator[NDArray[np.float64]]:
    """How often each image was drawn, in chunks of resamples that keep memory bounded.

    Args:
        is_anomalous: (n,).
        n_resamples: how many in all chunks together.
        generator: decides what is drawn; each stratum has a stream of its own, so that chunks change no draw.
        n_scores: how many numbers per resample the caller will make from it, if more than n.

    Yields:
        (resamples of the chunk, n), whole numbers; each row adds up to the number of normal images over the normal
        ones, and to that of the anomalous over the anomalous ones.
    """
    per_chunk = max(1, _CHUNK // max(is_anomalous.size, n_scores, 1))
    strata = list(zip((np.flatnonzero(is_anomalous), np.flatnonzero(~is_anomalous)), generator.spawn(2), strict=True))
    for done in range(0, n_resamples, per_chunk):
        rows = min(per_chunk, n_resamples - done)
        weights = np.zeros((rows, is_anomalous.size))
        for members, stream in strata:
            if members.size:
                drawn = stream.integers(members.size, size=(rows, members.size))
                drawn += members.size * np.arange(rows)[:, None]  # one range of numbers for each row
                counts = np.bincount(drawn.ravel(), minlength=rows * members.size)
                weights[:, members] = counts.reshape(rows, members.size)
        yield weights


def has_enough_images(is_anomalous: NDArray[np.bool_]) -> bool:
    """Whether each class that occurs has ``MIN_IMAGES``, so that resampling can show how far a measure moves."""
    n_anomalous = int(is_anomalous.sum())
    return all(n >= MIN_IMAGES for n in (n_anomalous, is_anomalous.size - n_anomalous) if n)


def percentile_interval(resampled: NDArray[np.float64], shift: float = 0.0) -> tuple[float, float]:
    """The middle 95 % of a measure's resampled values, moved by ``shift`` and kept in [0, 1]."""
    ends = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    low, high = np.clip(ends, 0, 1)
    return float(low), float(high)

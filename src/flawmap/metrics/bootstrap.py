"""95 % intervals by resampling images: how far a measure might move on other images of the same kind.

Images are drawn with replacement, good and defective ones separately, so that each resample has as many of both as the
test set (Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 13 and 8). The pixels of one image depend
on each other and stay together, and so do the images of one group: groups are drawn instead of images where there are
some (Davison and Hinkley, "Bootstrap Methods and their Application", section 3.8). The interval is that of the
percentiles. It does not cover another camera, another lot or another training run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.metrics.group_numbers import Groups, group_numbers

N_RESAMPLES = 1000
LEVEL = 0.95
# With fewer images (or groups) of a class, an interval would hold the truth far less often than it claims: three times
# in four with three images, and never with a single one that happens to lie above all good ones.
MIN_IMAGES = 5
_CHUNK = 1 << 20  # numbers per array: 8 MiB


@dataclass(frozen=True)
class Estimate:
    """A measure with its uncertainty.

    Attributes:
        value: on the test set; None where good or defective images (or pixels) are missing.
        low: lower end of the 95 % interval; None where there are too few images for one.
        high: upper end.
    """

    value: float | None
    low: float | None
    high: float | None


NOTHING = Estimate(None, None, None)


def bootstrap_estimates(
    values: Mapping[str, float],
    measure: Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    is_anomalous: NDArray[np.bool_],
    generator: np.random.Generator,
    n_resamples: int,
    n_scores: int = 0,
    groups: Groups | None = None,
) -> dict[str, Estimate]:
    """Intervals for the values of several measures.

    An interval is moved by the difference between the value and what ``measure`` gives for the images as they are.
    This matters where ``measure`` is an approximation.

    Args:
        values: of the measures on the test set.
        measure: gives the measures (b,) when image i counts ``weights[:, i]`` times, ``weights`` being (b, n).
        is_anomalous: (n,).
        generator: decides what is drawn.
        n_resamples: how often images are drawn.
        n_scores: how many numbers per resample ``measure`` makes, if more than n.
        groups: of each image; None where each image is on its own.

    Returns:
        an estimate for each value; without an interval where a class that occurs has fewer than ``MIN_IMAGES`` images,
        or groups where there are some.
    """
    numbers = group_numbers(groups, is_anomalous.size)
    if any(0 < np.unique(numbers[is_anomalous == label]).size < MIN_IMAGES for label in (False, True)):
        return {name: Estimate(value, None, None) for name, value in values.items()}
    once_each = measure(np.ones((1, is_anomalous.size)))
    resampled = [
        measure(weights) for weights in resample_weights(is_anomalous, n_resamples, generator, n_scores, groups)
    ]
    estimates = {}
    for name, value in values.items():
        draws = np.concatenate([chunk[name] for chunk in resampled])
        estimates[name] = Estimate(value, *percentile_interval(draws, value - float(once_each[name][0])))
    return estimates


def resample_weights(
    is_anomalous: NDArray[np.bool_],
    n_resamples: int,
    generator: np.random.Generator,
    n_scores: int = 0,
    groups: Groups | None = None,
) -> Iterator[NDArray[np.float64]]:
    """How often each image was drawn, in chunks of resamples that keep memory bounded.

    Args:
        is_anomalous: (n,).
        n_resamples: how many in all chunks together.
        generator: decides what is drawn; each class has a stream of its own, so that the chunks change no draw.
        n_scores: how many numbers per resample the caller will make from it, if more than n.
        groups: of each image, which are drawn instead of images; None where each image is on its own.

    Yields:
        (resamples of the chunk, n), whole numbers, equal within a class of a group. In each row and class, as many
        groups are drawn as there are.
    """
    numbers = group_numbers(groups, is_anomalous.size)
    per_chunk = max(1, _CHUNK // max(is_anomalous.size, n_scores, 1))
    classes = list(zip((np.flatnonzero(is_anomalous), np.flatnonzero(~is_anomalous)), generator.spawn(2), strict=True))
    for done in range(0, n_resamples, per_chunk):
        rows = min(per_chunk, n_resamples - done)
        weights = np.zeros((rows, is_anomalous.size))
        for members, stream in classes:
            if members.size:
                drawable, group_of = np.unique(numbers[members], return_inverse=True)
                n = drawable.size
                drawn = stream.integers(n, size=(rows, n))
                drawn += n * np.arange(rows)[:, None]  # a range of numbers of its own for each row
                counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
                weights[:, members] = counts[:, group_of]
        yield weights


def percentile_interval(resampled: NDArray[np.float64], shift: float = 0.0) -> tuple[float, float]:
    """The middle 95 % of a measure's resampled values, moved by ``shift`` and kept in [0, 1]."""
    ends = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    low, high = np.clip(ends, 0, 1)
    return float(low), float(high)

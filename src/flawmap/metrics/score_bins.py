"""Fixed bins for float32 scores of any size and sign, and counts of scores in them.

A bin holds all float32 numbers that agree in their sign, exponent and upper 11 mantissa bits. No range has to be known
beforehand, and the order of the bins is the order of the numbers. A bin is never wider than 2^-11 (0.05 %) of its
scores, or 2^-137 among the subnormal numbers. One bin around zero holds +0.0, -0.0 and all numbers of either sign below
2^-137, so that negating all scores mirrors the bins exactly. A bin's number is int32 and ascends with the scores; 0 is
the bin around zero, and -b mirrors b.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DROPPED_BITS = 12  # of float32's 32; the sign, 8 exponent and 11 mantissa bits remain
_N_MAGNITUDES = 1 << (31 - _DROPPED_BITS)  # bins per sign
BINS_PER_OCTAVE = 1 << 11
_BLOCK = 1 << 15  # scores at a time: their bins then stay in the processor's cache


@dataclass(frozen=True)
class ScoreCounts:
    """How many scores lie in each bin that holds any.

    Attributes:
        bins: int32 (k,), the numbers of the bins, each once, ascending.
        normal: float64 (k,), normal scores per bin; whole numbers, exact up to 2^53.
        anomalous: float64 (k,), anomalous scores per bin; whole numbers.
        region_share: float64 (k,), the sum over all defect regions of the share of the region's pixels in the bin;
            zeros where regions were not asked for.
    """

    bins: NDArray[np.int32]
    normal: NDArray[np.float64]
    anomalous: NDArray[np.float64]
    region_share: NDArray[np.float64]


def count_scores(
    values: NDArray[np.float32], flags: NDArray[np.bool_], region_weight: NDArray[np.float64] | None = None
) -> ScoreCounts:
    """Count scores per bin.

    Args:
        values: any shape, finite.
        flags: the same shape; True = anomalous.
        region_weight: (number of True,), one over the size of the region of each anomalous score, in row-major order.
    """
    if values.size == 0:
        return ScoreCounts(np.zeros(0, np.int32), *np.zeros((3, 0)))
    bits = np.ascontiguousarray(values).view(np.uint32).ravel()
    lowest, highest = (int(extreme) >> _DROPPED_BITS for extreme in (bits.min(), bits.max()))
    # one count per bin of the range that occurs; scores of one sign share few exponents, so that it fits in the cache
    every = np.zeros(highest - lowest + 1, np.int64)
    for start in range(0, bits.size, _BLOCK):
        np.add.at(every, _codes(bits[start : start + _BLOCK]) - lowest, 1)
    occupied = np.flatnonzero(every != 0)  # several times faster on bool than on int64
    rows = np.zeros((3, occupied.size))
    rows[0] = every[occupied]
    if flags.any():
        inside = _codes(bits[flags.ravel()]) - lowest
        rows[1] = np.bincount(inside, minlength=every.size)[occupied]
        rows[0] -= rows[1]
        if region_weight is not None:
            rows[2] = np.bincount(inside, region_weight, minlength=every.size)[occupied]
    return _in_ascending_order(occupied + lowest, rows)


def _codes(bits: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The kept bits of float32 numbers."""
    return (bits >> np.uint32(_DROPPED_BITS)).astype(np.int64)


def _in_ascending_order(codes: NDArray[np.intp], rows: NDArray[np.float64]) -> ScoreCounts:
    """Counts by bin number, from ascending codes (k,), in which negative numbers come last and in mirrored order."""
    n_positive = int(np.searchsorted(codes, _N_MAGNITUDES))
    if n_positive == codes.size:
        return ScoreCounts(codes.astype(np.int32), *rows)
    order = np.concatenate([np.arange(codes.size - 1, n_positive - 1, -1), np.arange(n_positive)])
    bins = np.where(codes < _N_MAGNITUDES, codes, _N_MAGNITUDES - codes)[order].astype(np.int32)
    first = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))  # joins the bins of +0.0 and -0.0
    return ScoreCounts(bins[first], *np.add.reduceat(rows[:, order], first, axis=1))


def as_finite_float32(scores: ArrayLike) -> NDArray[np.float32]:
    """Scores in float32, which keeps their order. Raises ValueError where one is not finite in float32."""
    with np.errstate(over="ignore"):  # an overflow is reported below
        values = np.ascontiguousarray(scores, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite in float32, but some are NaN or infinite")
    return values.reshape(np.shape(scores))  # ascontiguousarray turns a scalar into a row


def as_flags(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Labels as bool. Raises ValueError where the shape differs or a label is neither 0 nor 1."""
    flags = np.asarray(labels)
    if flags.shape != shape:
        raise ValueError(f"scores have shape {shape}, but labels {flags.shape}")
    if flags.dtype == np.bool_:
        return flags
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("labels must be bool, or 0 (normal) and 1 (anomalous)")
    return flags.astype(np.bool_)

"""Fixed bins for float32 scores of any size and sign, and counts of scores in them.

A bin holds all float32 numbers that agree in their sign, exponent and upper 11 mantissa bits. So no range has to be
known beforehand, the order of the bins is the order of the numbers, and a bin is never wider than 2^-11 (0.05 %) of
its scores, or 2^-137 among the subnormal numbers. The one bin around zero holds +0.0, -0.0 and both signs of all that
is below 2^-137; negating all scores therefore mirrors the bins exactly. A bin's number is int32 and ascends with the
scores; 0 is the bin around zero, and -b the mirror image of b.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DROPPED_BITS = 12  # of float32's 32; the sign, 8 exponent and 11 mantissa bits remain
_N_MAGNITUDES = 1 << (31 - _DROPPED_BITS)  # bins per sign
_KEPT_BITS = np.uint32((1 << 32) - (1 << _DROPPED_BITS))
_LOWEST_BITS = np.uint32((1 << _DROPPED_BITS) - 1)
_BINS_PER_OCTAVE = 1 << 11
_BLOCK = 1 << 15  # scores at a time: what is made of them stays in the cache, and costs no new memory


@dataclass(frozen=True)
class ScoreCounts:
    """How many scores lie in each bin that holds any.

    Attributes:
        bins: int32 (k,), the numbers of the bins, each once, ascending.
        normal: float64 (k,), normal scores per bin; whole numbers, exact up to 2^53.
        anomalous: float64 (k,), anomalous scores per bin; whole numbers.
        region_share: float64 (k,), the sum over all defect regions of the share of the region's pixels in the bin;
            zeros where nobody asked for regions.
    """

    bins: NDArray[np.int32]
    normal: NDArray[np.float64]
    anomalous: NDArray[np.float64]
    region_share: NDArray[np.float64]


def count_scores(
    values: NDArray[np.float32], flags: NDArray[np.bool_], region_weight: NDArray[np.float64] | None = None
) -> ScoreCounts:
    """Counts scores per bin, in a table that spans the range of bins that occurs.

    Args:
        values: any shape, finite.
        flags: the same shape; True = anomalous.
        region_weight: (number of True,), for each anomalous score in row-major order one over the size of its region.
    """
    if values.size == 0:
        return ScoreCounts(np.zeros(0, np.int32), *np.zeros((3, 0)))
    bits = np.ascontiguousarray(values).view(np.uint32).ravel()
    lowest, highest = (int(extreme) >> _DROPPED_BITS for extreme in (bits.min(), bits.max()))
    every = np.zeros(highest - lowest + 1, np.int64)  # scores of one sign share few exponents: it fits in the cache
    for start in range(0, bits.size, _BLOCK):
        np.add.at(every, _codes(bits[start : start + _BLOCK]) - lowest, 1)
    occupied = np.flatnonzero(every != 0)  # of bool, which is several times faster than of int64
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
    return (bits >> np.uint32(_DROPPED_BITS)).astype(np.int64)


def _in_ascending_order(codes: NDArray[np.intp], rows: NDArray[np.float64]) -> ScoreCounts:
    """From ascending codes, where those of negative numbers come last and in mirrored order."""
    n_positive = int(np.searchsorted(codes, _N_MAGNITUDES))
    if n_positive == codes.size:
        return ScoreCounts(codes.astype(np.int32), *rows)
    order = np.concatenate([np.arange(codes.size - 1, n_positive - 1, -1), np.arange(n_positive)])
    bins = np.where(codes < _N_MAGNITUDES, codes, _N_MAGNITUDES - codes)[order].astype(np.int32)
    first = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))  # joins the bins of +0.0 and -0.0
    return ScoreCounts(bins[first], *np.add.reduceat(rows[:, order], first, axis=1))


class BinTable:
    """The sum of many :class:`ScoreCounts`. Grows with the range of the scores, up to 24 MiB."""

    def __init__(self) -> None:
        self._lowest = 0
        self._rows = np.zeros((3, 0))

    def add(self, counts: ScoreCounts) -> None:
        """Adds the counts of further scores."""
        if counts.bins.size == 0:
            return
        self._cover(int(counts.bins[0]), int(counts.bins[-1]))
        place = counts.bins - self._lowest
        for row, added in zip(self._rows, (counts.normal, counts.anomalous, counts.region_share), strict=True):
            if added.any():
                row[place] += added

    def counts(self) -> ScoreCounts:
        """All that has been added, the occupied bins only."""
        occupied = np.flatnonzero((self._rows[0] != 0) | (self._rows[1] != 0))
        return ScoreCounts((occupied + self._lowest).astype(np.int32), *self._rows[:, occupied])

    def _cover(self, lowest: int, highest: int) -> None:
        """Makes room for two bins and all between them, in whole octaves, so that it happens rarely."""
        width = self._rows.shape[1]
        if width and self._lowest <= lowest and highest < self._lowest + width:
            return
        if width:
            lowest, highest = min(lowest, self._lowest), max(highest, self._lowest + width - 1)
        lowest = lowest // _BINS_PER_OCTAVE * _BINS_PER_OCTAVE
        rows = np.zeros((3, (highest // _BINS_PER_OCTAVE + 1) * _BINS_PER_OCTAVE - lowest))
        rows[:, self._lowest - lowest : self._lowest - lowest + width] = self._rows if width else 0
        self._lowest, self._rows = lowest, rows


def quantise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The representative of each score's bin: its number nearest to zero, of the same shape."""
    bits = np.ascontiguousarray(values).view(np.uint32) & _KEPT_BITS
    return bits.view(np.float32).reshape(values.shape) + np.float32(0)  # -0.0 + 0.0 is +0.0


def lowest_score_of_bin(number: int) -> float:
    """The smallest float32 number in a bin: a score is at least this exactly if its bin is ``number`` or higher."""
    bits = np.uint32(abs(number) << _DROPPED_BITS)
    if number <= 0:
        bits |= _LOWEST_BITS | np.uint32(1 << 31)  # below zero, the number farthest from zero is the smallest
    return float(bits.view(np.float32))


def as_finite_float32(scores: ArrayLike) -> NDArray[np.float32]:
    """Scores in float32, which keeps their order. Raises ValueError when one is not finite there."""
    with np.errstate(over="ignore"):  # too large for float32 is reported below, as what it is
        values = np.ascontiguousarray(scores, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite in float32, but some are NaN or infinite")
    return values.reshape(np.shape(scores))  # ascontiguousarray turns a scalar into a row


def as_flags(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Labels as bool. Raises ValueError when the shape is another or a label is neither 0 nor 1."""
    flags = np.asarray(labels)
    if flags.shape != shape:
        raise ValueError(f"scores have shape {shape}, but labels {flags.shape}")
    if flags.dtype == np.bool_:
        return flags
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("labels must be bool, or 0 (normal) and 1 (anomalous)")
    return flags.astype(np.bool_)

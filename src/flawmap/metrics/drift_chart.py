"""Whether a stream of images has moved away from the good ones: a cumulative-sum chart with a known false-warning rate.

Of each image one thing counts: whether its value (its score, or how unlike the good images it looks) lies above a level
that at most half of good images exceed. In an unchanged stream of which at most one image in ten is defective, that is
so for at most 55 % of images, whatever the defects score. Page's chart ("Continuous inspection schemes", 1954) adds up
how much better a share of ``CHANGED_SHARES`` explains the images than 55 %, begins again whenever it falls to 0, and
warns at a limit. Its mean run length to a false warning is at least the exponential of the limit (Lorden, "Procedures
for reacting to a change in distribution", 1971), here for all charts of a camera together. That also holds where the
probabilities differ from image to image and none is above 55 %, because the chart's exponential then grows by at most
one per image on average.

Needs no scipy: the machine that runs an exported model has none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

IMAGES_PER_FALSE_WARNING = 100_000  # at least, on average, of one camera
DEFECTIVE_SHARE = 0.1  # of the stream, that cause no warning
UNCHANGED_SHARE = 0.5 * (1 - DEFECTIVE_SHARE) + DEFECTIVE_SHARE  # of images above the level, at most
CHANGED_SHARES = (0.65, 0.9)  # of images above the level: what gradual and abrupt changes look like
NUM_MEASURES = 2  # scores, and appearance
LIMIT = math.log(IMAGES_PER_FALSE_WARNING * NUM_MEASURES * len(CHANGED_SHARES))
MISJUDGED_LEVEL = 0.001  # how often the good images that set the level misjudge it


def half_exceed(values: Sequence[float], n_independent: int) -> float | None:
    """A level that at most half of all good images exceed: the middle of these, raised by what chance may hide.

    The k-th smallest of n values lies below the median with the probability that k of n tosses are heads. The smallest
    k for which that is rare (``MISJUDGED_LEVEL``) is taken.

    Args:
        values: of good images, ascending.
        n_independent: how many groups the images are of; as many as images where each is on its own.

    Returns:
        the level; None for fewer than ten, of which none would be surely above the median.
    """
    n = min(n_independent, len(values))
    allowed, tail, k = MISJUDGED_LEVEL * 2**n, 1, n  # tail: the ways in which n tosses show k heads or more
    if n == 0 or tail > allowed:
        return None
    while tail + math.comb(n, k - 1) <= allowed:
        k -= 1
        tail += math.comb(n, k)
    return values[math.ceil(k * len(values) / n) - 1]


@dataclass(frozen=True)
class Chart:
    """The state of one measure after some images.

    Attributes:
        sums: of each of ``CHANGED_SHARES``, how much better it explains the images than no change; 0 to ``LIMIT``.
        n_since: of each, images since the sum was 0: those after the most probable moment of a change.
        n_above: of each, how many of these lay above the level.
        is_warning: whether a sum has reached the limit, and not all have fallen to 0 since.
    """

    sums: tuple[float, ...] = (0.0,) * len(CHANGED_SHARES)
    n_since: tuple[int, ...] = (0,) * len(CHANGED_SHARES)
    n_above: tuple[int, ...] = (0,) * len(CHANGED_SHARES)
    is_warning: bool = False

    def after(self, is_above: bool) -> "Chart":
        """The state after one more image. No sum exceeds the limit, so that a warning ends soon after its cause."""
        sums = tuple(
            min(LIMIT, max(0.0, total + _gain(share, is_above)))
            for total, share in zip(self.sums, CHANGED_SHARES, strict=True)
        )
        n_since, n_above = (
            tuple(n + one if total > 0 else 0 for n, total in zip(counts, sums, strict=True))
            for counts, one in ((self.n_since, 1), (self.n_above, int(is_above)))
        )
        return Chart(sums, n_since, n_above, max(sums) >= LIMIT or (self.is_warning and max(sums) > 0))

    @property
    def since(self) -> tuple[int, int]:
        """Images since the most probable moment of a change, and how many of them lay above the level; or zeros."""
        most = self.sums.index(max(self.sums))
        return self.n_since[most], self.n_above[most]


def _gain(share: float, is_above: bool) -> float:
    """What one image says for a share of images above the level, against that of an unchanged stream."""
    if is_above:
        return math.log(share / UNCHANGED_SHARE)
    return math.log((1 - share) / (1 - UNCHANGED_SHARE))

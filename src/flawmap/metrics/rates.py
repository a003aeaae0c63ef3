"""A threshold for a false-alarm rate, from scores of good images alone, and how likely false alarms are under it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flawmap.metrics.group_numbers import Groups, group_numbers

_TOLERANCE = 1e-9  # 100 * 0.29, which is 28.999999999999996 in floating point, counts as 29


@dataclass(frozen=True)
class Threshold:
    """A score above which an image is called anomalous, and the false-alarm rate that it guarantees.

    Attributes:
        value: ``is_anomalous`` means ``score > value``.
        rate: the false-alarm rate that was asked for, in (0, 1).
        n: the number of groups of held-out good images whose scores it comes from; an image without a group is one.
        smallest_resolvable_rate: 1 / (n + 1); n groups cannot guarantee a smaller rate.
    """

    value: float
    rate: float
    n: int
    smallest_resolvable_rate: float

    @property
    def is_resolved(self) -> bool:
        """Whether n groups suffice for ``rate``; otherwise only ``smallest_resolvable_rate`` is guaranteed."""
        return (self.n + 1) * self.rate + _TOLERANCE >= 1


def threshold_for_false_alarm_rate(held_out_scores: ArrayLike, rate: float, groups: Groups | None = None) -> Threshold:
    """The smallest threshold whose expected false-alarm rate on a new good image is at most ``rate``.

    Derivation (split conformal prediction; Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World"). Let
    s(1) <= ... <= s(n) be the held-out scores in order, and s the score of a new good image, exchangeable with them.
    Without ties, its rank among all n + 1 is uniform. s > s(k) needs a rank of at least k + 1, which has the
    probability (n + 1 - k) / (n + 1); ties only make it rarer. The smallest k that keeps this at or below the rate is
    k = n + 1 - floor((n + 1) rate). A rate below 1 / (n + 1) would need an (n + 1)-th score. In its place, the number
    just above the largest score is returned, which guarantees 1 / (n + 1) (``is_resolved`` is False).

    Images of one group (a patient, a board) are not exchangeable with those of another: what is exchangeable are the
    groups. A group of m images then has one score in all, of which each image is 1 / m (hierarchical conformal
    prediction; Lee, Barber and Willett, "Distribution-free inference with hierarchical data"). With n groups, the
    threshold is the smallest score above which no more than (n + 1) rate - 1 groups lie. The guarantee is for an image
    of a new group. With one image per group this is the threshold above.

    The guarantee is a mean over held-out sets. For a given held-out set without ties, the rate of a long run follows a
    Beta(n + 1 - k, k) distribution: with few held-out images it can be far from its mean.

    Args:
        held_out_scores: scores of good images that training has not seen, any shape, finite, at least one.
        rate: in (0, 1).
        groups: of each score, in the order of the flattened scores; None where each image is on its own.

    Raises:
        ValueError: there is no score, one is not finite, the rate is outside (0, 1), or there are not as many groups
            as scores.
    """
    scores = np.asarray(held_out_scores, dtype=np.float64).ravel()
    if scores.size == 0:
        raise ValueError("a threshold needs at least one held-out score, but there is none")
    if not np.isfinite(scores).all():
        raise ValueError("held-out scores must be finite, but some are NaN or infinite")
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate is {rate}, must be between 0 and 1 (both excluded)")
    numbers = group_numbers(groups, scores.size)
    sizes = np.bincount(numbers)
    n = int(sizes.size)
    order = np.argsort(scores, kind="stable")
    scores, shares = scores[order], 1 / sizes[numbers[order]]
    n_above = np.append(shares[::-1].cumsum()[::-1], 0.0)  # groups that lie at a place in the order or behind it
    n_above = n_above[np.searchsorted(scores, scores, side="right")]  # above each score, without those equal to it
    suffices = n_above + 1 <= (n + 1) * rate + _TOLERANCE
    value = scores[suffices.argmax()] if suffices.any() else np.nextafter(scores[-1], np.inf)
    return Threshold(float(value), float(rate), n, 1.0 / (n + 1))


def images_for_rate(rate: float) -> int:
    """The smallest number of good images whose threshold can guarantee a false-alarm rate, in (0, 1)."""
    return math.ceil(1 / rate - _TOLERANCE) - 1  # the smallest n with 1 / (n + 1) <= rate


def rate_interval(count: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a rate (Clopper and Pearson, 1934), from ``count`` events in n independent trials.

    Either end is where so many events, or as extreme a number, would be seen with a probability of 2.5 %. Without an
    event the upper end is 1 - 0.025^(1 / n).

    Args:
        count: 0 to n.
        n: at least 1.
    """
    from scipy.stats import beta  # of the extra "train", which an exported model does without

    low = float(beta.ppf(0.025, count, n - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return low, high


def wilson_interval(count: float, n: float) -> tuple[float, float]:
    """An approximate 95 % interval of a rate (Wilson, 1927), which needs no scipy and takes estimated counts.

    Args:
        count: 0 to n.
        n: at least 1.
    """
    z_squared = 1.959964**2  # of the normal distribution
    middle, spread = count + z_squared / 2, math.sqrt(z_squared * (count * (n - count) / n + z_squared / 4))
    return max(0.0, (middle - spread) / (n + z_squared)), min(1.0, (middle + spread) / (n + z_squared))


def probability_of_alarms(n_alarms: int, n_good: int, n_held_out: int, rate: float) -> float:
    """How often chance alone raises so many false alarms or more although the threshold's guarantee holds.

    Args:
        n_alarms: observed false alarms, 0 to ``n_good``.
        n_good: the number of new good images.
        n_held_out: the number of scores that the threshold comes from, at least 1.
        rate: the false-alarm rate that was asked for, in (0, 1).

    Returns:
        P(false alarms >= ``n_alarms``), in [0, 1].
    """
    return min(1.0, sum(alarm_probabilities(n_good, n_held_out, rate)[n_alarms:]))


def alarm_probabilities(n_good: int, n_held_out: int, rate: float) -> list[float]:
    """How probable each number of false alarms is on new good images, where the threshold's guarantee holds.

    The threshold of :func:`threshold_for_false_alarm_rate` is an order statistic. The rate of a long run follows a
    Beta(l, n + 1 - l) distribution, where l is the number of held-out scores that may lie at the threshold or above.
    The false alarms among m new good images are then beta-binomial,
    P(k) = C(m, k) B(k + l, m - k + n + 1 - l) / B(l, n + 1 - l).

    Args:
        n_good: m, the number of new good images.
        n_held_out: n, the number of scores that the threshold comes from, at least 1.
        rate: the false-alarm rate that was asked for, in (0, 1). Below 1 / (n + 1), that rate counts instead.

    Returns:
        P(k) for k = 0, ..., m.
    """
    allowed = max(1, min(math.floor((n_held_out + 1) * rate + _TOLERANCE), n_held_out))
    a, b = allowed, n_held_out + 1 - allowed

    def log_beta(x: int, y: int) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    def probability(k: int) -> float:
        ways = math.lgamma(n_good + 1) - math.lgamma(k + 1) - math.lgamma(n_good - k + 1)
        return math.exp(ways + log_beta(k + a, n_good - k + b) - log_beta(a, b))

    return [probability(k) for k in range(n_good + 1)]

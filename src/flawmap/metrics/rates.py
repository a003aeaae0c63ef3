"""False-alarm rates: a threshold with a promise, from normal scores alone, and intervals for rates."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_TOLERANCE = 1e-9  # so that 100 * 0.29, which is 28.999999999999996 in floating point, counts as 29


@dataclass(frozen=True)
class Threshold:
    """A score above which an image is called anomalous, and what that promises.

    Attributes:
        value: ``is_anomalous`` means ``score > value``.
        rate: the false-alarm rate that was asked for, in (0, 1).
        n: how many held-out normal scores it comes from.
        smallest_resolvable_rate: 1 / (n + 1); no smaller rate can be promised from n scores.
    """

    value: float
    rate: float
    n: int
    smallest_resolvable_rate: float

    @property
    def is_resolved(self) -> bool:
        """Whether n scores suffice for ``rate``; otherwise only ``smallest_resolvable_rate`` is promised."""
        return (self.n + 1) * self.rate + _TOLERANCE >= 1


def threshold_for_false_alarm_rate(held_out_scores: ArrayLike, rate: float) -> Threshold:
    """The smallest threshold whose expected false-alarm rate on a new normal image is at most ``rate``.

    Derivation (split conformal prediction; Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
    World"). Let s(1) <= ... <= s(n) be the held-out scores in order and s a new normal score, exchangeable
    with them: its rank among all n + 1 is uniform if there are no ties. s > s(k) needs k scores below s, thus
    a rank of at least k + 1, which has the probability (n + 1 - k) / (n + 1); ties only make ``>`` rarer. The
    smallest k that keeps this at or below the rate is k = n + 1 - floor((n + 1) rate). For a rate below 1 /
    (n + 1) this asks for the (n + 1)-th score, which does not exist: the number just above the largest score
    is returned then, whose promise is 1 / (n + 1) (``is_resolved`` is False).

    The promise is a mean over held-out sets. Given one held-out set without ties, the rate of a long run
    follows a Beta(n + 1 - k, k) distribution: with few held-out images it can be far from its mean.

    Args:
        held_out_scores: scores of normal images that training has not seen, any shape, finite, at least one.
        rate: in (0, 1).

    Raises:
        ValueError: when there is no score, one is not finite, or the rate is outside (0, 1).
    """
    scores = np.sort(np.asarray(held_out_scores, dtype=np.float64), axis=None)
    if scores.size == 0:
        raise ValueError("a threshold needs at least one held-out normal score, but there is none")
    if not np.isfinite(scores).all():
        raise ValueError("held-out scores must be finite, but some are NaN or infinite")
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate is {rate}, must be between 0 and 1 (both excluded)")
    n = int(scores.size)
    n_allowed_above = min(math.floor((n + 1) * rate + _TOLERANCE), n)
    value = scores[n - n_allowed_above] if n_allowed_above > 0 else np.nextafter(scores[-1], np.inf)
    return Threshold(float(value), float(rate), n, 1.0 / (n + 1))


def probability_of_alarms(n_alarms: int, n_good: int, n_held_out: int, rate: float) -> float:
    """How often chance alone gives so many false alarms or more, though the threshold keeps its promise.

    The threshold of :func:`threshold_for_false_alarm_rate` is an order statistic: the rate of a long run follows a
    Beta(l, n + 1 - l) distribution, with l the number of held-out scores that may lie at it or above. The alarms among
    m new normal images are then beta-binomial, P(k) = C(m, k) B(k + l, m - k + n + 1 - l) / B(l, n + 1 - l).

    Args:
        n_alarms: observed, 0 to ``n_good``.
        n_good: m, normal images that were looked at.
        n_held_out: n, normal scores that the threshold comes from, one at least.
        rate: that it was asked for, in (0, 1).

    Returns:
        P(alarms >= ``n_alarms``), in [0, 1].
    """
    allowed = max(1, min(math.floor((n_held_out + 1) * rate + _TOLERANCE), n_held_out))
    a, b = allowed, n_held_out + 1 - allowed

    def log_beta(x: int, y: int) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    def probability(k: int) -> float:
        ways = math.lgamma(n_good + 1) - math.lgamma(k + 1) - math.lgamma(n_good - k + 1)
        return math.exp(ways + log_beta(k + a, n_good - k + b) - log_beta(a, b))

    return min(1.0, sum(probability(k) for k in range(n_alarms, n_good + 1)))


def wilson_interval(n_events: int, n: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Interval for a rate of which ``n_events`` out of ``n`` were observed (95 % with the default ``z``).

    Wilson's score interval ("Probable inference, the law of succession, and statistical inference", 1927):
    all rates p whose distance from n_events / n is at most z sqrt(p (1 - p) / n). Unlike the textbook one it
    stays in [0, 1] and has a width when nothing was observed, which is the usual case for false alarms.

    Returns:
        (low, high) in [0, 1], or None when n is 0.

    Raises:
        ValueError: when not 0 <= n_events <= n.
    """
    if not 0 <= n_events <= n:
        raise ValueError(f"{n_events} events out of {n} is impossible")
    if n == 0:
        return None
    share = n_events / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if n_events == 0 else max(centre - half_width, 0.0)
    high = 1.0 if n_events == n else min(centre + half_width, 1.0)
    return low, high

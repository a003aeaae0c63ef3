"""False alarms that thresholds from a run's own good images raise on the test, and the band that chance allows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.data.sample import LabelledImage
from flawmap.metrics.rates import Threshold, alarm_probabilities, threshold_for_false_alarm_rate

RATES = (0.01, 0.05)
BAND_LEVEL = 0.99
MIN_GOOD = 40  # good test images; fewer say next to nothing about 5 %
MISSED_RATE = 0.05
ROUNDING = 1e-9  # of a sum of probabilities


@dataclass(frozen=True)
class FalseAlarms:
    """One board, method and wanted rate.

    Attributes:
        rate: that was wanted.
        alarms: good test images above the threshold, by seed.
        n_good: good test images.
        n_calibration: independent good images, or groups of them, behind the threshold.
        band: fewest and most false alarms that are expected, see :func:`alarm_band`.
    """

    rate: float
    alarms: Mapping[int, int]
    n_good: int
    n_calibration: int
    band: tuple[int, int]

    @property
    def mean(self) -> float:
        """Alarms, on average over the seeds."""
        return sum(self.alarms.values()) / len(self.alarms)

    @property
    def is_inside(self) -> bool:
        """Whether the mean over the seeds lies in the band, ends included."""
        return self.band[0] <= self.mean <= self.band[1]

    @property
    def smallest_rate(self) -> float:
        """The smallest rate that so many images can support."""
        return 1 / (self.n_calibration + 1)


@dataclass(frozen=True)
class MissedDefects:
    """Shares of the defective test images, means over the seeds.

    Attributes:
        at_threshold: missed at the threshold for 5 % false alarms.
        at_quantile: missed at the 95th percentile of the test set's own good images. A diagnostic: no threshold may be
            chosen so.
    """

    at_threshold: float
    at_quantile: float

    @property
    def beyond(self) -> float:
        """How much more the threshold misses."""
        return self.at_threshold - self.at_quantile


def alarm_band(n_good: int, n_calibration: int, rate: float, level: float = BAND_LEVEL) -> tuple[int, int]:
    """The two-sided band of the number of false alarms: each tail outside has a probability of (1 - level) / 2 at most.

    The number is beta-binomial, see :func:`flawmap.metrics.rates.alarm_probabilities`; the ends are its quantiles
    (1 - level) / 2 and (1 + level) / 2, the smallest numbers whose cumulative probability reaches them.

    Args:
        n_good: new good images.
        n_calibration: scores that the threshold comes from, at least 1.
        rate: that was asked for, in (0, 1).
        level: of the band, in (0, 1).
    """
    reached = list(itertools.accumulate(alarm_probabilities(n_good, n_calibration, rate)))
    low, high = (
        next((count for count, sum_so_far in enumerate(reached) if sum_so_far + ROUNDING >= share), n_good)
        for share in ((1 - level) / 2, (1 + level) / 2)
    )
    return low, high


def threshold_of(result: Mapping[str, Any], rate: float) -> Threshold | None:
    """The threshold for any rate from the scores that a run gave its good images; None where it gave none."""
    scores = result.get("good_scores") or []
    if not scores:
        return None
    return threshold_for_false_alarm_rate([score for score, _ in scores], rate, [group for _, group in scores])


def false_alarms(results: Mapping[int, Mapping[str, Any]], samples: Sequence[LabelledImage]) -> list[FalseAlarms]:
    """One for each of the :data:`RATES`; none with fewer than ``MIN_GOOD`` good test images, or without thresholds.

    Args:
        results: by seed, with ``good_scores`` and ``image_scores``.
        samples: the test images.
    """
    n_good = sum(not sample.is_anomalous for sample in samples)
    found = []
    for rate in RATES:
        thresholds = {seed: threshold_of(result, rate) for seed, result in results.items()}
        known = {seed: threshold for seed, threshold in thresholds.items() if threshold is not None}
        if not known or n_good < MIN_GOOD:
            return []
        alarms = {
            seed: int((_scores(results[seed], samples, False) > threshold.value).sum())
            for seed, threshold in known.items()
        }
        n = min(threshold.n for threshold in known.values())
        found.append(FalseAlarms(rate, alarms, n_good, n, alarm_band(n_good, n, rate)))
    return found


def missed_defects(results: Mapping[int, Mapping[str, Any]], samples: Sequence[LabelledImage]) -> MissedDefects | None:
    """At the threshold for 5 %, and at the test's own quantile; None without thresholds, or one of the classes.

    The quantile is the smallest score of a good image above which at most 5 % of them lie.
    """
    shares = []
    for result in results.values():
        threshold = threshold_of(result, MISSED_RATE)
        good, defective = (_scores(result, samples, label) for label in (False, True))
        if threshold is None or not good.size or not defective.size:
            continue
        quantile = np.quantile(good, 1 - MISSED_RATE, method="inverted_cdf")
        shares.append([(defective <= limit).mean() for limit in (threshold.value, quantile)])
    if not shares:
        return None
    at_threshold, at_quantile = np.mean(shares, axis=0)
    return MissedDefects(float(at_threshold), float(at_quantile))


def _scores(result: Mapping[str, Any], samples: Sequence[LabelledImage], is_anomalous: bool) -> NDArray[np.float64]:
    scores = result["image_scores"]
    return np.array([scores[sample.key] for sample in samples if sample.is_anomalous is is_anomalous], np.float64)

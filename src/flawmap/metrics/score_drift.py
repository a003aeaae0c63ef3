"""Whether good images still raise the false alarms that the threshold was set for, and score as those that set it."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.rates import images_for_rate, probability_of_alarms, rate_interval

SUSPICIOUS_P = 0.01  # one comparison of unchanged data in a hundred is called a drift
SURPRISING_P = 0.025  # what chance does less often on this side needs another explanation
WHAT_CHANGES = "lighting, camera or position"
LARGE_DIFFERENCE = 0.5  # of two cumulative distributions; images that cannot show it are too few to compare
_CRITICAL = math.sqrt(-math.log(SUSPICIOUS_P / 2) / 2)  # of Kolmogorov's distribution

AlarmFinding = Literal["more", "fewer", "as wanted", "too few images"]
ScoreFinding = Literal["higher", "lower", "alike", "too few images"]


@dataclass(frozen=True)
class Drift:
    """Good images now, compared with those of the calibration.

    Attributes:
        n_calibration: the number of scores that the threshold was set with.
        n_now: the number of scores now.
        statistic: Kolmogorov and Smirnov's D, the largest difference of the two cumulative distributions, in [0, 1].
        p_value: how often unchanged data would differ as much or more.
        text: all of it in plain sentences.
        n_alarms: images now above the threshold; None, as what follows, in a record of flawmap 0.1.0.
        wanted_rate: the false-alarm rate that the threshold was set for, in (0, 1).
        rate_low, rate_high: ends of the 95 % interval of the rate now.
        alarms: the rate now against the wanted one.
        scores: the scores now against those of the calibration.
    """

    n_calibration: int
    n_now: int
    statistic: float
    p_value: float
    text: str
    n_alarms: int | None = None
    wanted_rate: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    alarms: AlarmFinding | None = None
    scores: ScoreFinding | None = None

    @property
    def is_remarkable(self) -> bool:
        """Whether something has changed, or the rate is not the wanted one."""
        return self.alarms in ("more", "fewer") or self.scores in ("higher", "lower")


@dataclass(frozen=True)
class _Images:
    """So many images, of so many groups; None: each image is on its own."""

    n: int
    n_groups: int | None

    @property
    def n_independent(self) -> int:
        return self.n if self.n_groups is None else self.n_groups

    @property
    def words(self) -> str:
        """``12 images``, or ``12 images (5 groups)``."""
        groups = "" if self.n_groups is None else f" ({self.n_groups} group{'' if self.n_groups == 1 else 's'})"
        return f"{self.n} image{'' if self.n == 1 else 's'}{groups}"


def score_drift(
    calibration_scores: ArrayLike,
    threshold: float,
    wanted_rate: float,
    scores_now: ArrayLike,
    former: str = "",
    n_groups: tuple[int | None, int | None] = (None, None),
) -> Drift | None:
    """Compare the rate of false alarms with the wanted one, and the scores with those of the calibration.

    The rate now has an exact interval (Clopper and Pearson). Where the wanted rate is outside, the question is why:
    so many false alarms may be what a threshold from so few images does (a beta-binomial distribution,
    :func:`flawmap.metrics.rates.probability_of_alarms`); if not, the images differ. The scores as a whole are compared
    by the two-sample Kolmogorov-Smirnov test with its exact p-value, which also finds a change far from the threshold.
    Where images are of groups (of one patient, of one board), each group counts as one image: no more is independent
    for certain.

    Args:
        calibration_scores: of the good images that set the threshold, any shape, finite.
        threshold: that they set; a score above it is a false alarm.
        wanted_rate: that it was set for, in (0, 1).
        scores_now: of other good images, such as those of the test set, any shape, finite.
        former: how the threshold is called where ``scores_now`` set another one (``former``, ``default``); then the
            text says what would have happened without it, and gives no advice.
        n_groups: that the images of the calibration and those now are of; None where each image is on its own.

    Returns:
        the comparison, or None where one of the two is empty.

    Raises:
        ValueError: a score is not finite.
    """
    before, now = (np.asarray(s, np.float64).ravel() for s in (calibration_scores, scores_now))
    if before.size == 0 or now.size == 0:
        return None
    if not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise ValueError("scores must be finite, but some are NaN or infinite")
    images = _Images(before.size, n_groups[0]), _Images(now.size, n_groups[1])
    n_before, n_now = (side.n_independent for side in images)
    statistic, sign, p_value = _compared(before, now, n_before, n_now)
    n_alarms = int((now > threshold).sum())
    independent_alarms = round(n_alarms * n_now / now.size)
    low, high = rate_interval(independent_alarms, n_now)
    alarms = _alarm_finding(low, high, n_now, wanted_rate)
    scores = _score_finding(n_before, n_now, p_value, sign)
    numbers = n_alarms, wanted_rate, low, high
    drift = Drift(before.size, now.size, statistic, p_value, "", *numbers, alarms, scores)
    is_explained = _is_explained(alarms, independent_alarms, n_now, n_before, wanted_rate)
    return replace(drift, text=_in_words(drift, *images, is_explained, former))


def _compared(
    before: NDArray[np.float64], now: NDArray[np.float64], n_before: int, n_now: int
) -> tuple[float, int, float]:
    """Statistic, sign and p-value of Kolmogorov and Smirnov for as many independent scores."""
    from scipy.stats import ks_2samp, kstwo  # of the extra "train", which an exported model does without

    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of a p-value that rounds to above 1
        test: Any = ks_2samp(before, now)  # exact for up to 10,000 scores; scipy has no types
    statistic, p_value = float(test.statistic), float(test.pvalue)
    if (n_before, n_now) != (before.size, now.size):  # of one sample, as scipy computes the p-value of large ones
        p_value = float(kstwo.sf(statistic, max(1, round(n_before * n_now / (n_before + n_now)))))
    return statistic, int(test.statistic_sign), p_value


def _in_words(drift: Drift, before: _Images, now: _Images, is_explained: bool, former: str) -> str:
    alarms, scores, n_alarms, wanted = drift.alarms, drift.scores, drift.n_alarms, drift.wanted_rate
    low, high = drift.rate_low, drift.rate_high
    assert alarms and scores and n_alarms is not None and wanted is not None and low is not None and high is not None
    sentences = [
        _alarm_sentence(alarms, n_alarms, now, wanted, (low, high), former),
        *_reason(alarms, is_explained, before),
        _score_sentence(scores, before, now, drift.p_value, former),
        *([] if former else _advice(alarms, scores, is_explained, before, wanted)),
    ]
    return " ".join(sentences)


def _alarm_finding(low: float, high: float, n: int, wanted: float) -> AlarmFinding:
    if low > wanted:
        return "more"
    if high < wanted:
        return "fewer"
    # not even without a false alarm could so many images exclude twice the wanted rate
    return "too few images" if rate_interval(0, n)[1] >= 2 * wanted else "as wanted"


def _score_finding(n_before: int, n_now: int, p_value: float, sign: int) -> ScoreFinding:
    """``sign`` is 1 where the scores now are higher: the earlier distribution function lies above theirs."""
    if p_value < SUSPICIOUS_P:
        return "higher" if sign > 0 else "lower"
    smallest_visible = _CRITICAL * math.sqrt((n_before + n_now) / (n_before * n_now))
    return "too few images" if smallest_visible > LARGE_DIFFERENCE else "alike"


def _is_explained(finding: AlarmFinding, n_alarms: int, n_now: int, n_before: int, wanted: float) -> bool:
    """Whether a threshold from so few images alone explains a rate that is not the wanted one."""
    at_least = probability_of_alarms(n_alarms, n_now, n_before, wanted)
    if finding == "more":
        return at_least >= SURPRISING_P
    more_than = probability_of_alarms(n_alarms + 1, n_now, n_before, wanted) if n_alarms < n_now else 0.0
    return 1 - more_than >= SURPRISING_P


def _alarm_sentence(
    finding: AlarmFinding, n_alarms: int, now: _Images, wanted: float, interval: tuple[float, float], former: str
) -> str:
    images = f"these {now.words}" if former else now.words.replace("image", "good test image", 1)
    count = "No false alarm" if n_alarms == 0 else "1 false alarm" if n_alarms == 1 else f"{n_alarms} false alarms"
    start = f"{count} on {images}" + (f" with the {former} threshold" if former else "")
    low, high = (percent(end) for end in interval)
    between = f"a rate up to {high}" if n_alarms == 0 else f"a rate from {low} to {high}"
    return {
        "more": f"{start}: more than the wanted {percent(wanted)} ({between}).",
        "fewer": f"{start}: fewer than the wanted {percent(wanted)} ({between}).",
        "as wanted": f"{start}: that fits the wanted {percent(wanted)} ({between}).",
        "too few images": f"{start}: too few images to tell whether the rate is the wanted {percent(wanted)}, because "
        f"{between} fits as well.",
    }[finding]


def _reason(finding: AlarmFinding, is_explained: bool, before: _Images) -> list[str]:
    if finding not in ("more", "fewer"):
        return []
    threshold = f"A threshold from {before.words}"
    if is_explained:
        return [f"{threshold} can be that far off."]
    return [
        f"{threshold} is not that far off by chance: these images differ from those, for example in {WHAT_CHANGES}."
    ]


def _score_sentence(finding: ScoreFinding, before: _Images, now: _Images, p_value: float, former: str) -> str:
    if finding == "too few images":
        what = "images" if (before.n_groups, now.n_groups) == (None, None) else "groups of images"
        both = f"{now.n_independent} and {before.n_independent} {what}"
        return f"{both} are too few to compare their scores (p = {p_value:.2g})."
    relation = {"higher": "are higher than", "lower": "are lower than", "alike": "show no difference from"}[finding]
    calibration = f"{former} calibration" if former else "calibration"
    return f"Their scores {relation} those of the {before.words} of the {calibration} (p = {p_value:.2g})."


def _advice(
    alarms: AlarmFinding, scores: ScoreFinding, is_explained: bool, before: _Images, wanted: float
) -> list[str]:
    if alarms == "more" and is_explained:
        needed = images_for_rate(wanted)
        how_many = f", at least {needed}" if before.n_groups is None else f", of at least {needed} groups"
        how_many = how_many if before.n_independent < needed else ""
        return [f"Calibrate with more good images{how_many} (flawmap calibrate)."]
    if alarms == "more" or scores == "higher":
        return ["Calibrate with good images from here (flawmap calibrate)."]
    if alarms == "fewer" or scores == "lower":
        return ["A threshold from good images from here may find more defects (flawmap calibrate)."]
    return []


def percent(rate: float) -> str:
    """A rate with at most three digits: ``1 %``, ``18.9 %``, ``0.0422 %``."""
    return f"{100 * rate:.3g} %"

"""Whether good images still score like those that the threshold was set with."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SUSPICIOUS_P = 0.01  # one comparison of unchanged data in a hundred is called a drift


@dataclass(frozen=True)
class Drift:
    """Scores of good images now, compared with those of the calibration.

    Attributes:
        n_calibration: the number of scores that the threshold was set with.
        n_now: the number of scores now.
        statistic: Kolmogorov and Smirnov's D, the largest difference of the two cumulative distributions, in [0, 1].
        p_value: how often unchanged data would differ as much or more.
        text: the same as a plain sentence.
    """

    n_calibration: int
    n_now: int
    statistic: float
    p_value: float
    text: str


def score_drift(calibration_scores: ArrayLike, scores_now: ArrayLike, sets_new_threshold: bool = False) -> Drift | None:
    """The two-sample Kolmogorov-Smirnov test with its exact p-value.

    Args:
        calibration_scores: of held-out good images, any shape, finite.
        scores_now: of other good images, such as those of the test set, any shape, finite.
        sets_new_threshold: the images of ``scores_now`` replace those of the calibration; only the text differs.

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
    from scipy.stats import ks_2samp  # of the extra "train", which an exported model does without

    test: Any = ks_2samp(before, now)  # exact for up to 10,000 scores; scipy has no types
    statistic, p_value = float(test.statistic), float(test.pvalue)
    numbers = f"largest difference of the distributions {statistic:.2f}, p = {p_value:.2g}"
    if 2 / math.comb(before.size + now.size, now.size) >= SUSPICIOUS_P:  # even where all scores of one side are higher
        text = f"{now.size} new and {before.size} calibration images are too few to detect a difference."
    else:
        direction = 0 if p_value >= SUSPICIOUS_P else int(test.statistic_sign)  # 1: now the scores are higher
        text = _in_words(before.size, now.size, numbers, direction, sets_new_threshold)
    return Drift(int(before.size), int(now.size), statistic, p_value, text)


def _in_words(n_before: int, n_now: int, numbers: str, direction: int, sets_new_threshold: bool) -> str:
    """The comparison in words; a direction of 0 means that chance explains the difference."""
    level, change = {1: ("higher than", "more"), 0: ("like", ""), -1: ("lower than", "fewer")}[direction]
    if sets_new_threshold:
        comparison = f"These {n_now} images score {level} the {n_before} of the former calibration ({numbers})"
        consequence = f": with the former threshold they would have raised {change} false alarms than promised"
        return f"{comparison}{consequence if direction else ''}."
    comparison = f"The {n_now} good test images score {level} the {n_before} of the calibration ({numbers})"
    if not direction:
        return f"{comparison}: there is no reason to recalibrate."
    remedy = "recalibrate with good images from here (flawmap calibrate)"
    return f"{comparison}: expect {change} false alarms than promised, and {remedy}."

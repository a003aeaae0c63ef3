"""Whether normal images still score as those did that the threshold was set with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SUSPICIOUS_P = 0.01  # one comparison of unchanged data in a hundred is called a drift


@dataclass(frozen=True)
class Drift:
    """Scores of normal images seen now against those of the calibration.

    Attributes:
        n_calibration: scores the threshold was set with.
        n_now: scores of normal images now.
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
        calibration_scores: any shape, finite: of held-out normal images.
        scores_now: any shape, finite: of other normal images, such as those of the test.
        sets_new_threshold: the images of ``scores_now`` replace those of the calibration; only the text differs.

    Returns:
        what was found, or None when one of the two is empty.

    Raises:
        ValueError: when a score is not finite.
    """
    before, now = (np.sort(np.asarray(s, np.float64), axis=None) for s in (calibration_scores, scores_now))
    if before.size == 0 or now.size == 0:
        return None
    if not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise ValueError("scores must be finite, but some are NaN or infinite")
    lead = _largest_lead(before, now)
    p_value = _probability_of_lead(abs(lead), before.size, now.size)
    statistic = abs(lead) / (before.size * now.size)
    numbers = f"largest difference of the distributions {statistic:.2f}, p = {p_value:.2g}"
    sentence = _of_new_calibration if sets_new_threshold else _of_test
    if _probability_of_lead(before.size * now.size, before.size, now.size) >= SUSPICIOUS_P:
        text = f"{now.size} images beside the {before.size} of the calibration are too few to notice a difference."
    else:
        text = sentence(before.size, now.size, numbers, 0 if p_value >= SUSPICIOUS_P else lead)
    return Drift(int(before.size), int(now.size), statistic, p_value, text)


def _largest_lead(before: np.ndarray, now: np.ndarray) -> int:
    """The largest difference of the cumulative distributions times both sizes, signed; positive = ``now`` is higher."""
    places = np.concatenate([before, now])
    below_before = np.searchsorted(before, places, side="right")
    below_now = np.searchsorted(now, places, side="right")
    leads = below_before * now.size - below_now * before.size
    return int(leads[np.argmax(np.abs(leads))])


def _probability_of_lead(lead: int, n: int, m: int) -> float:
    """P(largest difference >= lead / (n m)) for samples of n and m from one continuous distribution.

    All orders of the n + m scores are equally likely: a walk from (0, 0) to (n, m) that steps up in the first sample
    with the probability (n - i) / (n + m - i - j). The probability of every walk that reaches the lead is taken out
    where it first does and summed, so that small values keep their digits. Ties make the result conservative.
    """
    i = np.arange(n + 1)
    reached = 0.0
    at = np.zeros(n + 1)
    at[0] = 1.0
    for step in range(n + m):
        j = step - i
        up = at * np.maximum(n - i, 0) / (n + m - step)
        across = at * np.clip(m - j, 0, None) / (n + m - step)
        at = across
        at[1:] += up[:-1]
        outside = np.abs(i * m - (step + 1 - i) * n) >= lead
        reached += float(at[outside].sum())
        at[outside] = 0.0
    return min(reached, 1.0)


def _of_test(n_before: int, n_now: int, numbers: str, lead: int) -> str:
    """In words; a lead of 0 stands for no difference that chance does not explain."""
    if not lead:
        return (
            f"The {n_now} good test images score like the {n_before} of the calibration ({numbers}): "
            "they give no reason to calibrate anew."
        )
    direction, consequence = ("higher", "more") if lead > 0 else ("lower", "fewer")
    return (
        f"The {n_now} good test images score {direction} than the {n_before} of the calibration ({numbers}): expect "
        f"{consequence} false alarms than promised, and recalibrate with good images from here (flawmap calibrate)."
    )


def _of_new_calibration(n_before: int, n_now: int, numbers: str, lead: int) -> str:
    if not lead:
        return f"These {n_now} images score like the {n_before} of the former calibration ({numbers})."
    direction, consequence = ("higher", "more") if lead > 0 else ("lower", "fewer")
    return (
        f"These {n_now} images score {direction} than the {n_before} of the former calibration ({numbers}): with the "
        f"former threshold they would have raised {consequence} false alarms than it promised."
    )

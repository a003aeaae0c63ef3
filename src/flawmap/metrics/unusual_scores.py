"""Which of many good images' scores are unusually high? Judged by those scores alone."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

BY_CHANCE = 0.05  # scores above the limit, expected among all of a Gaussian set
FEWEST = 8  # scores; of fewer, the upper quartile rests on one or two


def limit_of_usual(scores: ArrayLike) -> float:
    """The score above which an image looks unusual.

    A Gaussian is laid through the median and the upper quartile. Above the limit it has a twentieth of a score of all
    n, so that of twenty such sets about one has a score named by chance. Scores of good images are skewed to the right,
    so the lower quartile counts only where it lies farther from the median. How high the scores above the upper
    quartile are does not matter: some may be of defects.

    Args:
        scores: of n good images by fits that have not seen them, any shape, finite.

    Returns:
        ``median + width z(1 - 0.05 / n) / z(0.75)``, where z gives quantiles of the standard normal distribution. The
        width is that from the median to the upper quartile, or half of that between the quartiles if that is more.
        Infinity for fewer than :data:`FEWEST` scores.
    """
    values = np.asarray(scores, np.float64).ravel()
    if values.size < FEWEST:
        return math.inf
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    width = max(upper - median, (upper - lower) / 2)  # half of both is a better estimate where there are few scores
    z = NormalDist().inv_cdf
    return float(median + width * z(1 - BY_CHANCE / values.size) / z(0.75))


def unusual(scores: ArrayLike) -> NDArray[np.intp]:
    """Which scores lie above :func:`limit_of_usual`: their places, the highest score first."""
    values = np.asarray(scores, np.float64).ravel()
    order = np.argsort(-values, kind="stable")
    return order[values[order] > limit_of_usual(values)]

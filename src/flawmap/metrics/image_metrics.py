"""All measures of image scores with their intervals; exact."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics.bootstrap import (
    N_RESAMPLES,
    NOTHING,
    Estimate,
    has_enough_images,
    percentile_interval,
    resample_weights,
)
from flawmap.metrics.curves import (
    auroc_of_counts,
    average_precision_of_counts,
    f1_max_of_counts,
    fpr_at_tpr_of_counts,
    value_or_none,
)
from flawmap.metrics.ranking import counts_per_score
from flawmap.reproducibility import numpy_generator

IMAGE_METRICS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "auroc": auroc_of_counts,
    "average_precision": average_precision_of_counts,
    "f1_max": f1_max_of_counts,
    "fpr_at_tpr_95": partial(fpr_at_tpr_of_counts, tpr=0.95),
}


def image_estimates(
    scores: ArrayLike, is_anomalous: ArrayLike, generator: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> dict[str, Estimate]:
    """AUROC, average precision, F1-max and false-positive rate at 95 % found, each with a bootstrap interval.

    Args:
        scores: (n,), finite; higher = more anomalous.
        is_anomalous: (n,), bool.
        generator: of the bootstrap, e.g. ``numpy_generator(seed, "bootstrap")``.
        n_resamples: of the bootstrap; 1,000 take a tenth of a second for 500 images.

    Returns:
        an estimate for each name of ``IMAGE_METRICS``; all None when one of the classes is missing, and without
        interval when one has fewer than ``MIN_IMAGES``.

    Raises:
        ValueError: as :func:`flawmap.metrics.ranking.auroc`.
    """
    values, flags = np.asarray(scores), np.asarray(is_anomalous, np.bool_)
    _, normal, anomalous = counts_per_score(values, flags)
    if not flags.any() or flags.all():
        return dict.fromkeys(IMAGE_METRICS, NOTHING)
    measured = {name: value_or_none(metric(normal, anomalous)) for name, metric in IMAGE_METRICS.items()}
    if not has_enough_images(flags):
        return {name: Estimate(value, None, None) for name, value in measured.items()}
    order = np.argsort(values, kind="stable")
    first = np.flatnonzero(np.append(True, values[order][1:] != values[order][:-1]))  # of each distinct score
    resampled: dict[str, list[NDArray[np.float64]]] = {name: [] for name in IMAGE_METRICS}
    for weights in resample_weights(flags, n_resamples, generator):
        drawn_anomalous = np.add.reduceat((weights * flags)[:, order], first, axis=1)
        drawn_normal = np.add.reduceat((weights * ~flags)[:, order], first, axis=1)
        for name, metric in IMAGE_METRICS.items():
            resampled[name].append(metric(drawn_normal, drawn_anomalous))
    return {
        name: Estimate(value, *percentile_interval(np.concatenate(resampled[name]))) for name, value in measured.items()
    }


def image_estimates_by(
    groups: Sequence[str | None], scores: ArrayLike, is_anomalous: ArrayLike, seed: int, n_resamples: int = N_RESAMPLES
) -> dict[str, dict[str, Estimate]]:
    """The anomalous images of each group (defect kind, size) against all normal images.

    Args:
        groups: of length n, the group of each image; None for an image of no group, and ignored for a normal one.
        scores: (n,), finite.
        is_anomalous: (n,), bool.
        seed: of the bootstrap; a group's interval does not depend on which other groups there are.
        n_resamples: of the bootstrap.

    Returns:
        the estimates of :func:`image_estimates` for each group, groups in alphabetical order.

    Raises:
        ValueError: as :func:`image_estimates`, and when there are not as many groups as images.
    """
    values, flags = np.asarray(scores), np.asarray(is_anomalous, np.bool_)
    if len(groups) != flags.size:
        raise ValueError(f"{len(groups)} groups for {flags.size} images")
    members = {
        group: ~flags | np.array([other == group for other in groups], np.bool_)
        for group in sorted({group for group, flag in zip(groups, flags, strict=True) if flag and group is not None})
    }
    return {
        group: image_estimates(values[chosen], flags[chosen], numpy_generator(seed, "bootstrap", group), n_resamples)
        for group, chosen in members.items()
    }

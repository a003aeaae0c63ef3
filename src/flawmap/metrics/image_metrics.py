"""All measures of image scores, exact, with their intervals."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flawmap.metrics import curves
from flawmap.metrics.bootstrap import N_RESAMPLES, NOTHING, Estimate, bootstrap_estimates
from flawmap.metrics.fixed_threshold import F1_AT_THRESHOLD, f1_of_decisions
from flawmap.metrics.group_numbers import Groups
from flawmap.metrics.ranking import counts_per_score
from flawmap.reproducibility import numpy_generator

IMAGE_METRICS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "auroc": curves.auroc_of_counts,
    "average_precision": curves.average_precision_of_counts,
    "f1_max": curves.f1_max_of_counts,
    "fpr_at_tpr_95": partial(curves.fpr_at_tpr_of_counts, tpr=0.95),
}


def image_estimates(
    scores: ArrayLike,
    is_anomalous: ArrayLike,
    generator: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
    groups: Groups | None = None,
    verdicts: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """AUROC, average precision, F1-max and the false-positive rate at 95 % recall, each with a bootstrap interval.

    With verdicts, their F1, too.

    Args:
        scores: (n,), finite; higher = more anomalous.
        is_anomalous: (n,), bool.
        generator: of the bootstrap, e.g. ``numpy_generator(seed, "bootstrap")``.
        n_resamples: of the bootstrap; 1,000 take a tenth of a second for 500 images.
        groups: of each image; None where each image is on its own.
        verdicts: (n,), bool; which images are called anomalous, by thresholds that were fixed before any of these
            images was seen. None without thresholds.

    Returns:
        an estimate for each name of ``IMAGE_METRICS``, and of ``F1_AT_THRESHOLD`` with verdicts; all None where one
        of the classes is missing, and without an interval where one has fewer than ``MIN_IMAGES`` images, or groups
        where there are some.

    Raises:
        ValueError: as :func:`flawmap.metrics.ranking.auroc`.
    """
    values, flags = np.asarray(scores), np.asarray(is_anomalous, np.bool_)
    _, normal, anomalous = counts_per_score(values, flags)
    if not flags.any() or flags.all():
        return dict.fromkeys([*IMAGE_METRICS, *([] if verdicts is None else [F1_AT_THRESHOLD])], NOTHING)
    measured = {name: float(metric(normal, anomalous)) for name, metric in IMAGE_METRICS.items()}
    above = np.zeros_like(flags) if verdicts is None else np.asarray(verdicts, np.bool_)
    decisions = np.stack([above & flags, above & ~flags, ~above & flags], axis=-1).astype(np.float64)  # (n, 3)
    if verdicts is not None:
        measured[F1_AT_THRESHOLD] = float(f1_of_decisions(decisions.sum(axis=0)))
    order = np.argsort(values, kind="stable")
    first = np.flatnonzero(np.append(True, values[order][1:] != values[order][:-1]))  # of each distinct score

    def measure(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        # images per distinct score, both (b, k)
        drawn_normal, drawn_anomalous = (
            np.add.reduceat((weights * in_class)[:, order], first, axis=1) for in_class in (~flags, flags)
        )
        drawn = {name: metric(drawn_normal, drawn_anomalous) for name, metric in IMAGE_METRICS.items()}
        return drawn if verdicts is None else drawn | {F1_AT_THRESHOLD: f1_of_decisions(weights @ decisions)}

    return bootstrap_estimates(measured, measure, flags, generator, n_resamples, groups=groups)


def image_estimates_by(
    subsets: Sequence[str | None],
    scores: ArrayLike,
    is_anomalous: ArrayLike,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    groups: Groups | None = None,
    verdicts: ArrayLike | None = None,
) -> dict[str, dict[str, Estimate]]:
    """The defective images of each subset (defect kind, size) against all good images.

    Args:
        subsets: of length n, the subset of each image; None for an image of none, and ignored for a good one.
        scores: (n,), finite.
        is_anomalous: (n,), bool.
        seed: of the bootstrap; a subset's interval does not depend on which other subsets there are.
        n_resamples: of the bootstrap.
        groups: of each image; None where each image is on its own.
        verdicts: as in :func:`image_estimates`.

    Returns:
        the estimates of :func:`image_estimates` for each subset, subsets in alphabetical order.

    Raises:
        ValueError: as :func:`image_estimates`, and where there are not as many entries in ``subsets`` as images.
    """
    values, flags = np.asarray(scores), np.asarray(is_anomalous, np.bool_)
    if len(subsets) != flags.size:
        raise ValueError(f"{len(subsets)} subsets for {flags.size} images")
    members = {
        subset: ~flags | np.array([other == subset for other in subsets], np.bool_)
        for subset in sorted(
            {subset for subset, flag in zip(subsets, flags, strict=True) if flag and subset is not None}
        )
    }
    return {
        subset: image_estimates(
            values[chosen],
            flags[chosen],
            numpy_generator(seed, "bootstrap", subset),
            n_resamples,
            None if groups is None else [group for group, is_in in zip(groups, chosen, strict=True) if is_in],
            None if verdicts is None else np.asarray(verdicts, np.bool_)[chosen],
        )
        for subset, chosen in members.items()
    }

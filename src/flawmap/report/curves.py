"""The curves of a run as numbers: logged quantities of training, and ROC, precision-recall and region overlap.

:mod:`flawmap.report.charts` draws them for the page and :mod:`flawmap.report.figures` for files.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flawmap.metrics.curve_points import OVERLAP_LIMIT, Points, roc_points
from flawmap.metrics.ranking import counts_per_score
from flawmap.report.run_files import RunFiles
from flawmap.runs.evaluation import Measure

STAGE_TITLES = {
    "pretrain": "Stage 1: pre-training",
    "finetune": "Stage 2: fine-tuning",
    "residual": "Training the head on simulated defects",
}
_QUANTITIES = {
    "anomalous_share": "share of anomalous tokens",
    "dice_loss": "Dice loss",
    "found": "share of anomalous tokens found",
}
_COUNTERS = frozenset({"step", "steps", "epoch", "epochs", "seed", "time", "timestamp", "seconds", "seconds_left"})
_MIN_STEPS_TO_SMOOTH = 40


@dataclass(frozen=True)
class TrainingCurve:
    """A logged quantity over the steps of a stage.

    Attributes:
        name: in words.
        steps: (n,), ascending.
        values: (n,).
        smooth_steps: (m,), the middles of windows of a twentieth of the steps; empty for a curve that is short, or
            smooth as it is.
        smooth_values: (m,), the means over these windows.
        collapsed: the value of a collapsed model, where that is known.
    """

    name: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    smooth_steps: NDArray[np.float64]
    smooth_values: NDArray[np.float64]
    collapsed: float | None = None

    @property
    def end(self) -> float:
        """The value at the end, smoothed if the curve is."""
        return float((self.smooth_values if self.smooth_values.size else self.values)[-1])


@dataclass(frozen=True)
class RateCurve:
    """A curve of two rates. The y axis ends at 1.

    Attributes:
        summary: the area under it, in words.
        points: (k, 2), ascending in x.
        x_limit: where the x axis ends.
        guess: what random guessing gives at both ends of the x axis.
    """

    title: str
    summary: str
    x_title: str
    y_title: str
    points: Points
    x_limit: float = 1.0
    guess: tuple[float, float] = (0.0, 1.0)


def training_curves(
    log: Iterable[Mapping[str, Any]], uniform_entropy: float | None = None
) -> dict[str, tuple[TrainingCurve, ...]]:
    """Every numeric quantity of a log by stage, in the order of the stages; losses first, then by name.

    Values that are not finite are left out. ``uniform_loss`` gets no curve of its own: it is the value of ``loss`` in a
    collapsed model, which takes all prototypes for equally likely.

    Args:
        log: the records of log.jsonl.
        uniform_entropy: the value of ``target_entropy`` in a collapsed model, where that is known.
    """
    stages: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, record in enumerate(log):
        quantities = stages.setdefault(str(record.get("stage", "training")), {})
        step = record.get("step", number)
        for name, value in record.items():
            if name not in _COUNTERS and is_number(value) and is_number(step):
                quantities.setdefault(name, []).append((float(step), float(value)))
    curves = {}
    for stage, quantities in stages.items():
        uniform_loss = quantities.pop("uniform_loss", [])
        collapsed = {"loss": uniform_loss[-1][1] if uniform_loss else None, "target_entropy": uniform_entropy}
        names = sorted(quantities, key=lambda name: (name != "loss", "loss" not in name, name))
        if names:
            curves[stage] = tuple(_training_curve(name, quantities[name], collapsed.get(name)) for name in names)
    return curves


def _training_curve(name: str, points: list[tuple[float, float]], collapsed: float | None) -> TrainingCurve:
    steps, values = np.array(sorted(points, key=lambda point: point[0])).T
    smooth_steps = smooth_values = np.empty(0)
    if values.size >= _MIN_STEPS_TO_SMOOTH and _is_noisy(values):
        window = np.full(values.size // 20, 1 / (values.size // 20))
        smooth_steps, smooth_values = np.convolve(steps, window, "valid"), np.convolve(values, window, "valid")
    words = _QUANTITIES.get(name, name.replace("_", " ").replace("/", " / "))
    return TrainingCurve(words, steps, values, smooth_steps, smooth_values, collapsed)


def _is_noisy(values: NDArray[np.float64]) -> bool:
    """Whether it changes direction at more than every fifth step; a schedule does not."""
    return float(np.mean(np.diff(np.sign(np.diff(values))) != 0)) > 0.2


def is_number(value: object) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def image_roc(good: Sequence[float], anomalous: Sequence[float]) -> Points:
    """The ROC curve of image scores, (k, 2) from (0, 0) to (1, 1)."""
    labels = np.arange(len(good) + len(anomalous)) >= len(good)
    _, n_good, n_anomalous = counts_per_score(np.array([*good, *anomalous], np.float64), labels)
    return roc_points(n_good, n_anomalous)


def rate_curves(files: RunFiles) -> dict[str, RateCurve]:
    """The rate curves of an evaluation by name.

    Returns:
        ``roc_images`` where there are images of both classes; ``roc_pixels``, ``precision_recall`` and ``pro`` where
        there is ground truth for pixels.
    """
    evaluation = files.evaluation
    if evaluation is None:
        return {}
    good, anomalous, curves = files.scores(is_anomalous=False), files.scores(is_anomalous=True), {}
    if good and anomalous:
        area, roc = _area("AUROC", evaluation.image["auroc"]), image_roc(good, anomalous)
        curves["roc_images"] = RateCurve("ROC of images", area, "good images flagged", "anomalous images found", roc)
    pixels, measures = files.pixel_curves, evaluation.pixel
    if pixels is None or measures is None:
        return curves
    area, flagged = _area("AUROC", measures["auroc"]), "normal pixels flagged"
    curves["roc_pixels"] = RateCurve("ROC of pixels", area, flagged, "anomalous pixels found", pixels.roc)
    title, area, share = "Precision and recall of pixels", _area("AP", measures["ap"]), pixels.anomalous_share
    axes = "recall: anomalous pixels found", "precision: flagged pixels that are anomalous"
    curves["precision_recall"] = RateCurve(title, area, *axes, pixels.precision_recall, guess=(share, share))
    title, area, limit = "Overlap with defects (PRO)", _area("AUPRO", measures["aupro_30"]), OVERLAP_LIMIT
    curves["pro"] = RateCurve(title, area, flagged, "mean overlap with defects", pixels.overlap, limit, (0.0, limit))
    return curves


def _area(name: str, measure: Measure | None) -> str:
    return f"{name} –" if measure is None else f"{name} {measure.value:.3f}"

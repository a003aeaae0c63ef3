"""An evaluation with made-up measures, typed as the real one."""

from typing import Any

from flawmap.metrics.score_drift import Drift
from flawmap.runs.evaluation import Block, Evaluation, Measure, Measures, ScaleScore


def measures(names: str, first: float) -> Measures:
    """Values that fall by 0.01 from measure to measure, each with an interval."""
    values = {name: round(first - 0.01 * i, 4) for i, name in enumerate(names.split())}
    return {name: Measure(value, round(value - 0.05, 4), round(value + 0.04, 4)) for name, value in values.items()}


def block(n_good: int, n_anomalous: int, image: float, pixel: float | None) -> Block:
    """All measures of a set of images, from its two AUROCs."""
    return Block(
        n_good,
        n_anomalous,
        measures("auroc ap f1_max fpr_at_95_tpr", image),
        None if pixel is None else measures("auroc ap f1_max aupro_30 aupro_05", pixel),
    )


def made_up_evaluation(n_good: int, n_anomalous: int, **changes: Any) -> Evaluation:
    """An evaluation of so many images, without calibration; ``changes`` are fields of it."""
    everything = block(n_good, n_anomalous, 0.93125, 0.84217)
    sizes = [(224, 0.9012, 0.7741), (320, 0.9103, 0.8011), (448, 0.9066, 0.8105)]
    fields = {
        "n_good": n_good,
        "n_anomalous": n_anomalous,
        "image": everything.image,
        "pixel": everything.pixel,
        "data": "tiles",
        "layout": "MVTec folder",
        "root": "tiles",
        "command": "flawmap evaluate runs/demo tiles",
        "image_score": "vote_mean",
        "image_scores": {"vote": 0.8811, "vote_mean": 0.93125, "mean_logit": 0.9222, "map_max": None},
        "n_pixel_images": n_good + n_anomalous,
        "pixel_pool": "all",
        "evaluation_size_px": None,
        "by_kind": {"scratch": block(n_good, 20, 0.95, 0.87), "stain": block(n_good, 20, 0.91, None)},
        "by_size": {"large": block(n_good, 3, 0.9, None), "small": block(n_good, 7, 0.8, 0.7)},
        "by_stratum": {"camera=left": block(30, 20, 0.94, 0.85)},
        "per_scale": tuple(ScaleScore(*scale) for scale in sizes),
        "training_size_px": 224,
        "calibration": None,
        "realised_false_alarm_rate": None,
        "missed_rate": None,
        "drift": Drift(40, n_good, 0.21, 0.0345, "Good test images score higher."),
        "seconds_per_image": 0.4321,
        "threads": 2,
        "device": "cpu",
        "without_truth": (),
        "skipped": (),
    }
    return Evaluation(**(fields | changes))

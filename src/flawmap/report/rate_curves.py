"""ROC, precision-recall and region-overlap (PRO) curves of a run, laid out as charts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flawmap.errors import UserError
from flawmap.metrics.curve_points import OVERLAP_LIMIT, PixelCurves, Points, roc_points
from flawmap.metrics.ranking import counts_per_score
from flawmap.report.charts import Tick, round_numbers
from flawmap.report.run_files import RunFiles

FILE_NAME = "pixel_curves.json"


@dataclass(frozen=True)
class RateChart:
    """One curve in a frame of SVG units: x from 0 to ``size``, y from ``size`` (rate 0) to 0 (rate 1)."""

    title: str
    summary: str
    x_title: str
    y_title: str
    path: str
    size: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    chance: str


def image_roc(good: Sequence[float], anomalous: Sequence[float]) -> Points:
    """The ROC curve of image scores from (0, 0) to (1, 1): (k, 2)."""
    labels = np.arange(len(good) + len(anomalous)) >= len(good)
    _, n_good, n_anomalous = counts_per_score(np.array([*good, *anomalous], np.float64), labels)
    return roc_points(n_good, n_anomalous)


def pixel_curves(files: RunFiles) -> PixelCurves | None:
    """The pixel curves as the evaluation counted them, from ``evaluation/pixel_curves.json``; None without this file.

    Raises:
        UserError: the file is damaged.
    """
    path = files.run / "evaluation" / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        roc, precision_recall, overlap = (
            np.array(content[name], np.float64).reshape(-1, 2) for name in ("roc", "precision_recall", "overlap")
        )
        share, n_images = float(content["anomalous_share"]), int(content["n_images"])
        return PixelCurves(roc, precision_recall, overlap, share, n_images)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path.name} is not as flawmap writes it ({error!r})", str(path), "run `flawmap evaluate` again"
        ) from error


def rate_charts(files: RunFiles) -> dict[str, RateChart]:
    """Charts by name; areas are the evaluation's.

    Returns:
        ``roc_images`` where there are images of both classes, and where there is ground truth for pixels
        ``roc_pixels``, ``precision_recall`` and ``pro``.
    """
    good = [image.score for image in files.images if not image.is_anomalous]
    anomalous = [image.score for image in files.images if image.is_anomalous]
    charts = {}
    if good and anomalous:
        found = ("good pictures called anomalous", "anomalous pictures found")
        summary = f"AUROC {_area(files.metrics.get('image_auroc'))}"
        charts["roc_images"] = rate_chart("ROC of pictures", summary, found, image_roc(good, anomalous))
    curves = pixel_curves(files)
    if curves is None:
        return charts
    summary = f"AUROC {_area(files.metrics.get('pixel_auroc'))}"
    pixels = ("normal pixels called anomalous", "anomalous pixels found")
    charts["roc_pixels"] = rate_chart("ROC of pixels", summary, pixels, curves.roc)
    measures = files.metrics.get("pixel") or {}
    summary = f"AP {_area((measures.get('ap') or {}).get('value'))}"
    precise = ("recall: anomalous pixels found", "precision: alarms that are right")
    charts["precision_recall"] = rate_chart(
        "Precision and recall", summary, precise, curves.precision_recall, guessing=curves.anomalous_share
    )
    summary = f"AUPRO {_area((measures.get('aupro_30') or {}).get('value'))}"
    overlap = ("normal pixels called anomalous", "mean overlap with defects")
    charts["pro"] = rate_chart("PRO of defects", summary, overlap, curves.overlap, OVERLAP_LIMIT)
    return charts


def rate_chart(
    title: str,
    summary: str,
    titles: tuple[str, str],
    points: Points,
    limit: float = 1.0,
    guessing: float | None = None,
) -> RateChart:
    """Lays out a curve.

    Args:
        title: what it is of.
        summary: its area in words.
        titles: of the two axes.
        points: (k, 2), ascending in x.
        limit: where the x axis ends; the y axis ends at 1.
        guessing: y that guessing reaches at every x; None where it reaches y = x.
    """
    size = 240.0
    x = np.minimum(points[:, 0] / limit, 1) * size
    y = (1 - points[:, 1]) * size
    path = "M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    x_ticks = tuple(Tick(round(value / limit * size, 2), label) for value, label in round_numbers(0.0, limit, 5))
    y_ticks = tuple(Tick(round((1 - value) * size, 2), label) for value, label in round_numbers(0.0, 1.0, 5))
    first, last = (0.0, limit) if guessing is None else (guessing, guessing)
    chance = f"M0,{(1 - first) * size:.0f} L{size:.0f},{(1 - last) * size:.0f}"
    return RateChart(title, summary, *titles, path, size, x_ticks, y_ticks, chance)


def _area(value: float | None) -> str:
    return "–" if value is None else f"{float(value):.3f}"

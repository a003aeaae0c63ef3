"""ROC and region-overlap (PRO) curves of a run: read or counted, and laid out as charts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.errors import UserError
from flawmap.metrics.curve_points import PixelCurves, Points, overlap_points, roc_points
from flawmap.metrics.curves import aupro_of_counts, value_or_none
from flawmap.metrics.defect_regions import number_regions
from flawmap.metrics.ranking import counts_per_score
from flawmap.report.charts import Tick, round_numbers
from flawmap.report.run_files import RunFiles, ScoredImage
from flawmap.reproducibility import atomic_write_text

OVERLAP_LIMIT = 0.3  # the false-positive rate up to which AUPRO is counted
FILE_NAME = "pixel_curves.json"  # in the evaluation's folder, which a new evaluation replaces
_LEVELS = 1 << 16  # of a stored map


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
    """The pixel curves: read from ``evaluation/pixel_curves.json``, or counted on the stored maps and kept there.

    Stored maps have 16 bits between the ends of the colour scale. What lies closer together, or beyond the ends, is a
    tie here, so that areas can differ from those in metrics.json.

    Returns:
        None without ground truth or maps.

    Raises:
        UserError: the file is damaged.
    """
    path = files.run / "evaluation" / FILE_NAME
    if path.is_file():
        return _from_json(path)
    images = pooled_images(files)
    if not any(image.truth_file for image in images):
        return None
    rows, n_regions = np.zeros((3, _LEVELS)), 0  # normal pixels, anomalous pixels, Σ of shares of regions, per level
    for image in images:
        n_regions += _count(image, rows)
    occupied = rows[0] + rows[1] > 0
    normal, anomalous, region_share = rows[:, occupied]
    curves = PixelCurves(
        roc_points(normal, anomalous),
        overlap_points(normal, region_share, n_regions, OVERLAP_LIMIT),
        value_or_none(aupro_of_counts(normal, region_share, np.asarray(float(n_regions)), OVERLAP_LIMIT)),
        len(images),
    )
    _to_json(curves, path)
    return curves


def pooled_images(files: RunFiles) -> list[ScoredImage]:
    """Images whose pixels the evaluation counted: good ones only where the data set's protocol counts them."""
    with_map = [image for image in files.images if image.map_file is not None]
    with_truth = [image for image in with_map if image.truth_file is not None]
    good = [image for image in with_map if not image.is_anomalous]
    counted = files.metrics.get("n_pixel_images")
    return with_truth + good if counted is None or int(counted) > len(with_truth) else with_truth


def rate_charts(files: RunFiles) -> list[RateChart]:
    """The ROC curve of image scores, and those of pixels where there is ground truth; areas are the evaluation's."""
    good = [image.score for image in files.images if not image.is_anomalous]
    anomalous = [image.score for image in files.images if image.is_anomalous]
    if not good or not anomalous:
        return []
    found = ("good pictures called anomalous", "anomalous pictures found")
    area = _area(files.metrics.get("image_auroc"))
    charts = [rate_chart("ROC of pictures", f"AUROC {area}", found, image_roc(good, anomalous))]
    curves = pixel_curves(files)
    if curves is None:
        return charts
    aupro = ((files.metrics.get("pixel") or {}).get("aupro_30") or {}).get("value", curves.aupro_30)
    area = _area(files.metrics.get("pixel_auroc"))
    pixels = ("normal pixels called anomalous", "anomalous pixels found")
    charts.append(rate_chart("ROC of pixels", f"AUROC {area}", pixels, curves.roc))
    overlap = ("normal pixels called anomalous", "mean overlap with defects")
    charts.append(rate_chart("PRO of defects", f"AUPRO {_area(aupro)}", overlap, curves.overlap, OVERLAP_LIMIT))
    return charts


def rate_chart(title: str, summary: str, titles: tuple[str, str], points: Points, limit: float = 1.0) -> RateChart:
    """Lays out a curve.

    Args:
        title: what it is of.
        summary: its area in words.
        titles: of the two axes.
        points: (k, 2), ascending.
        limit: where the x axis ends; the y axis ends at 1.
    """
    size = 240.0
    x = np.minimum(points[:, 0] / limit, 1) * size
    y = (1 - points[:, 1]) * size
    path = "M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    x_ticks = tuple(Tick(round(value / limit * size, 2), label) for value, label in round_numbers(0.0, limit, 5))
    y_ticks = tuple(Tick(round((1 - value) * size, 2), label) for value, label in round_numbers(0.0, 1.0, 5))
    chance = f"M0,{size:.0f} L{size:.0f},{(1 - limit) * size:.0f}"
    return RateChart(title, summary, *titles, path, size, x_ticks, y_ticks, chance)


def _area(value: float | None) -> str:
    return "–" if value is None else f"{float(value):.3f}"


def _count(image: ScoredImage, rows: NDArray[np.float64]) -> int:
    """Adds one map's pixels to the counts; gives the number of its regions."""
    assert image.map_file is not None
    with Image.open(image.map_file) as file:
        levels = np.asarray(file).astype(np.int64)
    rows[0] += np.bincount(levels.ravel(), minlength=_LEVELS)
    if image.truth_file is None:
        return 0
    truth = _truth_at(image.truth_file, levels.shape)
    inside, regions = levels[truth], number_regions(truth)
    areas = np.bincount(regions)
    n_inside = np.bincount(inside, minlength=_LEVELS)
    rows[0] -= n_inside
    rows[1] += n_inside
    rows[2] += np.bincount(inside, 1 / areas[regions], minlength=_LEVELS)
    return areas.size


def _truth_at(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    with Image.open(path) as file:
        gray = file.convert("L")
        if gray.size != (shape[1], shape[0]):  # compared at a size of its own
            gray = gray.resize((shape[1], shape[0]), Image.Resampling.NEAREST)
        return np.asarray(gray) > 0


def _to_json(curves: PixelCurves, path: Path) -> None:
    content = {
        "roc": curves.roc.round(6).tolist(),
        "overlap": curves.overlap.round(6).tolist(),
        "aupro_30": curves.aupro_30,
        "n_images": curves.n_images,
    }
    atomic_write_text(path, json.dumps(content))


def _from_json(path: Path) -> PixelCurves:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        roc, overlap = (np.array(content[name], np.float64).reshape(-1, 2) for name in ("roc", "overlap"))
        return PixelCurves(roc, overlap, content["aupro_30"], int(content["n_images"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path.name} is not as flawmap writes it ({error!r})", str(path), "delete it; it will be counted again"
        ) from error

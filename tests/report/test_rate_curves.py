"""Curves of a run as charts: image scores counted, pixel curves as the evaluation left them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flawmap.errors import UserError
from flawmap.report.rate_curves import image_roc, pixel_curves, rate_chart, rate_charts
from flawmap.report.run_files import RunFiles, read_run


def area(points: np.ndarray) -> float:
    return float(np.trapezoid(points[:, 1], points[:, 0]))


def test_image_roc_has_scikit_learns_area_and_both_ends(made_up) -> None:
    points = image_roc(made_up.good.tolist(), made_up.anomalous.tolist())
    labels = np.arange(100) >= 60
    assert area(points) == pytest.approx(roc_auc_score(labels, [*made_up.good, *made_up.anomalous]), abs=1e-12)
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()


def test_charts_without_truth_or_without_one_class(made_up) -> None:
    files = read_run(made_up.run)
    charts = rate_charts(files)
    assert list(charts) == ["roc_images", "roc_pixels", "precision_recall", "pro"]
    summaries = [chart.summary for chart in charts.values()]
    assert summaries == ["AUROC 0.931", "AUROC 0.842", "AP –", "AUPRO –"]  # an evaluation without intervals
    good = tuple(image for image in files.images if not image.is_anomalous)
    assert list(rate_charts(RunFiles(made_up.run, images=good))) == ["roc_pixels", "precision_recall", "pro"]
    (made_up.run / "evaluation" / "pixel_curves.json").unlink()
    assert list(rate_charts(files)) == ["roc_images"]


def test_pixel_curves_are_those_of_the_evaluation(made_up) -> None:
    curves = pixel_curves(read_run(made_up.run))
    assert curves is not None and curves.roc.tolist() == [[0, 0], [0.1, 0.6], [1, 1]]
    assert curves.overlap.tolist() == [[0, 0], [0.3, 0.8]] and curves.anomalous_share == 0.04
    chart = rate_charts(read_run(made_up.run))["precision_recall"]
    assert chart.path == "M48.0,24.0 L240.0,192.0" and chart.chance == "M0,230 L240,230"


def test_a_chart_is_laid_out_in_its_frame() -> None:
    chart = rate_chart("t", "s", ("x", "y"), np.array([[0, 0], [0.15, 0.5], [0.3, 1.0]]), 0.3)
    assert chart.path == "M0.0,240.0 L120.0,120.0 L240.0,0.0"
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [(0, "0.0"), (80, "0.1"), (160, "0.2"), (240, "0.3")]
    assert chart.chance == "M0,240 L240,168"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"roc": [[0, 0]], "precision_recall": 3}',
        '{"roc": [[0, "x"]], "precision_recall": [], "overlap": []}',
    ],
)
def test_damaged_curves_are_named(made_up, content: str) -> None:
    (made_up.run / "evaluation" / "pixel_curves.json").write_text(content)
    with pytest.raises(UserError, match=r"pixel_curves\.json is not as flawmap writes it") as caught:
        pixel_curves(read_run(made_up.run))
    assert caught.value.place.endswith("pixel_curves.json") and "evaluate" in caught.value.remedy

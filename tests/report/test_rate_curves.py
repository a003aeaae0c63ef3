"""ROC and PRO curves against scikit-learn's and against overlaps counted region by region."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from flawmap.errors import UserError
from flawmap.metrics.curve_points import MAX_POINTS, overlap_points, roc_points
from flawmap.report.rate_curves import image_roc, pixel_curves, pooled_images, rate_chart, rate_charts
from flawmap.report.run_files import RunFiles, ScoredImage, read_run


def area(points: np.ndarray) -> float:
    return float(np.trapezoid(points[:, 1], points[:, 0]))


def test_image_roc_has_scikit_learns_area_and_both_ends(made_up) -> None:
    points = image_roc(made_up.good.tolist(), made_up.anomalous.tolist())
    labels = np.arange(100) >= 60
    assert area(points) == pytest.approx(roc_auc_score(labels, [*made_up.good, *made_up.anomalous]), abs=1e-12)
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    rng = np.random.default_rng(3)
    normal, anomalous = rng.integers(0, 9, 20_000).astype(float), rng.integers(0, 9, 20_000) * np.linspace(0, 1, 20_000)
    points = roc_points(normal, anomalous)
    assert len(points) <= MAX_POINTS + 1
    exact = np.sum(anomalous * (np.cumsum(normal) - normal / 2)) / normal.sum() / anomalous.sum()
    assert area(points) == pytest.approx(exact, abs=1e-3)


def test_overlap_is_cut_at_its_limit_in_the_middle_of_a_step() -> None:
    # scores 0, 1, 2: 5, 4 and 1 normal pixels; half a region at 2, the other half at 1
    points = overlap_points(np.array([5.0, 4.0, 1.0]), np.array([0.0, 0.5, 0.5]), 1, 0.3)
    assert points == pytest.approx(np.array([[0, 0], [0.1, 0.5], [0.3, 0.75]]))


def two_maps(folder: Path) -> tuple[RunFiles, list[np.ndarray], list[np.ndarray]]:
    """A good and an anomalous image with 16-bit maps; the second has two regions that touch at no corner."""
    rng = np.random.default_rng(9)
    levels = [rng.integers(0, 40_000, (20, 30)).astype(np.uint16) for _ in range(2)]
    truth = np.zeros((20, 30), bool)
    truth[2:6, 3:9] = truth[12:14, 20:23] = True
    levels[1][truth] += 15_000
    (folder / "evaluation").mkdir(parents=True)
    images = []
    for i, (level, mask) in enumerate(zip(levels, (None, truth), strict=True)):
        Image.fromarray(level).save(folder / f"map{i}.png")
        if mask is not None:
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"truth{i}.png")
        truth_file = None if mask is None else folder / f"truth{i}.png"
        images.append(ScoredImage(str(i), folder, "k", bool(i), float(i), False, folder / f"map{i}.png", truth_file))
    return RunFiles(folder, images=tuple(images)), levels, [np.zeros_like(truth), truth]


def test_pixel_curves_are_those_of_all_pixels_and_regions(tmp_path: Path) -> None:
    files, levels, masks = two_maps(tmp_path)
    curves = pixel_curves(files)
    assert curves is not None and curves.n_images == 2
    values, labels = np.concatenate([v.ravel() for v in levels]), np.concatenate([m.ravel() for m in masks])
    assert area(curves.roc) == pytest.approx(roc_auc_score(labels, values.astype(float)), abs=2e-3)
    regions, n = label(masks[1], np.ones((3, 3)))
    assert n == 2
    rates = np.array([(values[~labels] >= level).mean() for level in np.unique(values)])
    overlaps = [np.mean([(levels[1][regions == i] >= level).mean() for i in (1, 2)]) for level in np.unique(values)]
    for x, y in curves.overlap[1:-1]:  # the last one lies in the middle of a step
        assert np.hypot(rates - x, np.array(overlaps) - y).min() < 1e-6
    assert curves.aupro_30 == pytest.approx(area(curves.overlap) / 0.3, abs=2e-3)


def test_pixel_curves_are_counted_once_and_kept(tmp_path: Path) -> None:
    files, _, _ = two_maps(tmp_path)
    first = pixel_curves(files)
    (tmp_path / "map1.png").unlink()
    again = pixel_curves(files)
    assert first is not None and again is not None
    assert np.allclose(first.roc, again.roc, atol=1e-6) and first.aupro_30 == again.aupro_30


def test_good_pixels_count_only_where_the_protocol_counts_them(tmp_path: Path) -> None:
    files, _, _ = two_maps(tmp_path)
    for counted, keys in ((None, ["1", "0"]), (2, ["1", "0"]), (1, ["1"])):
        metrics = {} if counted is None else {"n_pixel_images": counted}
        chosen = pooled_images(RunFiles(tmp_path, metrics=metrics, images=files.images))
        assert [image.key for image in chosen] == keys


def test_charts_without_truth_or_without_one_class(made_up) -> None:
    files = read_run(made_up.run)
    titles = ["ROC of pictures", "ROC of pixels", "PRO of defects"]
    assert [chart.title for chart in rate_charts(files)] == titles
    assert rate_charts(files)[0].summary == "AUROC 0.931"
    good = tuple(image for image in files.images if not image.is_anomalous)
    assert rate_charts(RunFiles(made_up.run, images=good)) == []


def test_a_chart_is_laid_out_in_its_frame() -> None:
    chart = rate_chart("t", "s", ("x", "y"), np.array([[0, 0], [0.15, 0.5], [0.3, 1.0]]), 0.3)
    assert chart.path == "M0.0,240.0 L120.0,120.0 L240.0,0.0"
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [(0, "0.0"), (80, "0.1"), (160, "0.2"), (240, "0.3")]
    assert chart.chance == "M0,240 L240,168"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"roc": [[0, 0]], "overlap": 3}', '{"roc": [[0, "x"]], "overlap": []}']
)
def test_damaged_curves_are_named(tmp_path: Path, content: str) -> None:
    files, _, _ = two_maps(tmp_path)
    (tmp_path / "evaluation" / "pixel_curves.json").write_text(content)
    with pytest.raises(UserError, match=r"pixel_curves\.json is not as flawmap writes it") as caught:
        pixel_curves(files)
    assert caught.value.place.endswith("pixel_curves.json") and "delete it" in caught.value.remedy

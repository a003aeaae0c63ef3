"""Evaluation against scikit-learn, against the maps themselves, and against what the protocol says."""

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score, roc_curve

import flawmap.data.sample as data_types
from assertions import quantised_scores
from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import open_test_data
from flawmap.data.sample import Boxes, LabelledImage, Protocol
from flawmap.detect.detector import AnomalyDetector
from flawmap.evaluate.evaluate import evaluate
from flawmap.metrics.evaluation_size import at_evaluation_size
from flawmap.recipe.settings import DataSettings
from flawmap.runs.evaluation import Evaluation, read_evaluation
from images import NUM_TEST, SIDE_PX, pixels_of, striped, write_category, write_image
from shared_passes import sharing_passes
from tiny_detector import fitted_detector


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> data_types.TestData:
    return open_test_data(write_category(tmp_path_factory.mktemp("evaluated") / "tile"), DataSettings())


@pytest.fixture(scope="module")
def folder(data: data_types.TestData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metrics, maps and scores of the tiny detector on the category."""
    folder = tmp_path_factory.mktemp("results") / "evaluation"
    folder.mkdir()
    evaluate(calibrated(), data, folder, "flawmap evaluate RUN DATA")
    return folder


@pytest.fixture(scope="module")
def metrics(folder: Path) -> Evaluation:
    evaluation = read_evaluation(folder)
    assert evaluation is not None
    return evaluation


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def calibrated() -> AnomalyDetector:
    """With a threshold in the middle of the scores, so that both kinds of mistakes occur."""
    detector = copy.copy(fitted_detector())
    middle = float(np.median(detector.score_samples([striped(1000 + seed) for seed in range(5)])))
    detector.calibration_ = replace(detector.calibration_, threshold=middle)
    return detector


def column(rows: list[dict[str, str]], name: str, kinds: set[str] | None = None) -> np.ndarray:
    return np.array([float(row[name]) for row in rows if kinds is None or row["kind"] in kinds])


def maps_and_truth(data: data_types.TestData, kinds: set[str]) -> tuple[np.ndarray, np.ndarray]:
    samples = [sample for sample in data.samples if sample.kind in kinds]
    maps = [fitted_detector().predict(sample.path).anomaly_map.ravel() for sample in samples]
    truth = [read_truth(sample, SIDE_PX, SIDE_PX).ravel() for sample in samples]
    return np.concatenate(maps), np.concatenate(truth)


def precision_of_regions(maps: np.ndarray, truth: np.ndarray, threshold: float) -> float | None:
    """By scipy's labels of one map after the other; None without a region."""
    n_regions = n_on_defects = 0
    for above, marked in zip(
        maps.reshape(-1, SIDE_PX, SIDE_PX) > threshold, truth.reshape(-1, SIDE_PX, SIDE_PX), strict=True
    ):
        labels, count = ndimage.label(above, np.ones((3, 3)))
        n_regions += count
        n_on_defects += len(set(labels[marked].tolist()) - {0})
    return n_on_defects / n_regions if n_regions else None


# ---- batches


def test_an_evaluation_is_the_same_where_images_share_passes(data, folder, rows, tmp_path, monkeypatch):
    detector, done = calibrated(), []
    passes = sharing_passes(monkeypatch, detector, 4)
    evaluate(detector, data, tmp_path, "flawmap evaluate RUN DATA", lambda n, total: done.append((n, total)))
    num_images = len(data.samples)
    assert done == [(n, num_images) for n in range(1, num_images + 1)]
    full, rest = divmod(num_images, 4)
    assert sorted(passes) == sorted(([4] * full + [rest] * (rest > 0)) * len(detector.sizes_px))
    with (tmp_path / "per_image.csv").open(newline="") as file:
        together = list(csv.DictReader(file))
    assert [row["key"] for row in together] == [row["key"] for row in rows]
    np.testing.assert_allclose(column(together, "score"), column(rows, "score"), atol=1e-5)
    one, other = read_evaluation(tmp_path), read_evaluation(folder)
    assert one.image_auroc == other.image_auroc and one.pixel_auroc == pytest.approx(other.pixel_auroc, abs=1e-3)
    maps = {path.relative_to(folder) for path in folder.rglob("*.png")}
    assert maps and maps == {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}


# ---- image metrics


def test_the_image_auroc_is_scikit_learns_on_per_image_csv(metrics, rows):
    labels = column(rows, "is_anomalous")
    assert (metrics.n_good, metrics.n_anomalous) == (NUM_TEST, 2 * NUM_TEST)
    assert metrics.image_auroc == pytest.approx(roc_auc_score(labels, column(rows, "score")), abs=1e-12)
    for name, value in metrics.image_scores.items():
        assert value == pytest.approx(roc_auc_score(labels, column(rows, name)), abs=1e-12), name
    assert metrics.image_auroc == metrics.image_scores[metrics.image_score]


def test_each_kind_is_set_against_all_normal_images(metrics, rows):
    assert sorted(metrics.by_kind) == ["hole", "stain"]
    for kind, block in metrics.by_kind.items():
        chosen = {"good", kind}
        expected = roc_auc_score(column(rows, "is_anomalous", chosen), column(rows, "score", chosen))
        assert (block.n_good, block.n_anomalous) == (NUM_TEST, NUM_TEST)
        assert block.image_auroc == pytest.approx(expected, abs=1e-12)


def test_scores_are_those_of_the_detector_to_the_last_digit(data, rows):
    results = fitted_detector().predict([sample.path for sample in data.samples])
    assert [row["key"] for row in rows] == [sample.key for sample in data.samples]
    assert [float(row["score"]) for row in rows] == [result.score for result in results]
    assert [float(row["map_max"]) for row in rows] == [result.scores["map_max"] for result in results]


def test_thresholds_are_the_detectors_and_the_rates_follow(metrics, rows):
    threshold = calibrated().calibration_.threshold
    assert metrics.threshold == threshold
    flagged, labels = column(rows, "is_flagged") > 0, column(rows, "is_anomalous") > 0
    assert np.array_equal(flagged, column(rows, "score") > threshold)
    assert metrics.realised_false_alarm_rate == flagged[~labels].mean()
    assert metrics.missed_rate == (~flagged[labels]).mean()
    assert 0 < flagged.mean() < 1


# ---- pixel metrics


def test_the_pixel_auroc_is_scikit_learns_on_the_binned_maps(metrics, data):
    maps, truth = maps_and_truth(data, {"good", "hole"})  # stains have no masks
    binned = roc_auc_score(truth, quantised_scores(maps))
    assert metrics.n_pixel_images == 2 * NUM_TEST
    assert metrics.pixel_auroc == pytest.approx(binned, abs=1e-9)
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(truth, maps), abs=1e-3)
    assert metrics.by_kind["hole"].pixel_auroc == pytest.approx(binned, abs=1e-9)


def test_pixel_curves_have_the_areas_of_the_metrics(folder, metrics):
    curves = json.loads((folder / "pixel_curves.json").read_text())
    assert curves["n_images"] == metrics.n_pixel_images
    x, y = np.array(curves["roc"]).T
    assert float(np.trapezoid(y, x)) == pytest.approx(metrics.pixel["auroc"].value, abs=2e-3)
    recall, precision = np.array(curves["precision_recall"]).T
    best_f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert best_f1 == pytest.approx(metrics.pixel["f1_max"].value, abs=5e-3)
    x, y = np.array(curves["overlap"]).T
    assert float(np.trapezoid(y, x)) / 0.3 == pytest.approx(metrics.pixel["aupro_30"].value, abs=2e-3)
    assert 0 < curves["anomalous_share"] < 0.5 and max(len(curves[name]) for name in ("roc", "overlap")) <= 300


def test_a_kind_without_masks_has_no_pixel_auroc(metrics):
    assert metrics.by_kind["stain"].pixel_auroc is None


def test_each_scale_is_also_measured_alone(metrics, data):
    labels = [sample.is_anomalous for sample in data.samples]
    assert [scale.size_px for scale in metrics.per_scale] == [32, 64]
    assert metrics.single_scale == metrics.per_scale[0]  # trained at 32 px
    for scale in metrics.per_scale:
        alone = copy.copy(fitted_detector())
        sizes = replace(alone.recipe.detect, sizes_px=(scale.size_px,))
        alone.recipe = replace(alone.recipe, detect=sizes)
        only = evaluate(alone, data, None)
        assert scale.image_auroc == only.image_scores["mean_logit"]
        assert scale.pixel_auroc == only.pixel_auroc
        assert scale.image_auroc == pytest.approx(
            roc_auc_score(labels, alone.score_samples([sample.path for sample in data.samples])), abs=1e-12
        )


@pytest.fixture
def boxed(tmp_path: Path) -> data_types.TestData:
    """Two good and three anomalous images of two strata; of the anomalous ones two have a box."""
    box = Boxes(((4.0, 6.0, 10.0, 12.0),))
    samples = []
    for number, (anomalous, truth, sex) in enumerate(
        [(False, None, "F"), (False, None, "M"), (True, box, "F"), (True, box, "M"), (True, None, "F")]
    ):
        path = write_image(tmp_path / f"{number}.png", striped(600 + number))
        kind = "nodule" if anomalous else "good"
        samples.append(LabelledImage(path.name, path, anomalous, kind, truth, {"sex": sex}))
    protocol = Protocol("xray", pixel_pool="truth_only", strata=("sex",))
    return data_types.TestData("xray", tmp_path, "by hand", tuple(samples), protocol)


def test_the_protocol_may_pool_boxed_images_alone(boxed):
    metrics = evaluate(fitted_detector(), boxed, None)
    with_box = [sample for sample in boxed.samples if sample.truth is not None]
    maps = np.concatenate([fitted_detector().predict(s.path).anomaly_map.ravel() for s in with_box])
    truth = np.concatenate([read_truth(s, SIDE_PX, SIDE_PX).ravel() for s in with_box])
    assert metrics.n_pixel_images == 2
    assert metrics.pixel_auroc == pytest.approx(roc_auc_score(truth, quantised_scores(maps)), abs=1e-9)


def test_strata_are_reported_apart(boxed):
    metrics = evaluate(fitted_detector(), boxed, None)
    assert sorted(metrics.by_stratum) == ["sex=F", "sex=M"]
    women = [sample for sample in boxed.samples if sample.strata["sex"] == "F"]
    scores = fitted_detector().score_samples([sample.path for sample in women])
    block = metrics.by_stratum["sex=F"]
    assert (block.n_good, block.n_anomalous) == (1, 2)
    assert block.image_auroc == pytest.approx(roc_auc_score([s.is_anomalous for s in women], scores))
    boxed_woman = next(sample for sample in women if sample.truth is not None)
    anomaly_map = quantised_scores(fitted_detector().predict(boxed_woman.path).anomaly_map)
    truth = read_truth(boxed_woman, SIDE_PX, SIDE_PX)
    assert block.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), anomaly_map.ravel()), abs=1e-9)


def test_groups_are_counted_and_images_of_none_are_each_their_own(boxed):
    assert evaluate(fitted_detector(), boxed, None).n_groups is None
    samples = tuple(replace(s, group="P1" if number < 3 else None) for number, s in enumerate(boxed.samples))
    metrics = evaluate(fitted_detector(), replace(boxed, samples=samples, grouped_by="patient"), None)
    assert (metrics.n_groups, metrics.grouped_by) == (3, "patient")


def test_without_a_pixel_pool_there_is_no_pixel_metric(boxed):
    metrics = evaluate(fitted_detector(), replace(boxed, protocol=Protocol("x", pixel_pool="none")), None)
    assert metrics.pixel_auroc is None and metrics.n_pixel_images == 0
    assert metrics.single_scale.pixel_auroc is None and metrics.image_auroc is not None


def test_good_images_alone_have_no_auroc_but_a_false_alarm_rate(boxed):
    good = tuple(sample for sample in boxed.samples if not sample.is_anomalous)
    metrics = evaluate(calibrated(), replace(boxed, samples=good, protocol=Protocol("x")), None)
    assert (metrics.image_auroc, metrics.pixel_auroc, metrics.missed_rate) == (None, None, None)
    assert metrics.by_kind == {} and 0 <= metrics.realised_false_alarm_rate <= 1


# ---- measures with intervals (their own tests are in tests/metrics)


def test_the_image_measures_are_scikit_learns_each_inside_its_interval(metrics, rows):
    labels, scores = column(rows, "is_anomalous"), column(rows, "score")
    precision, recall, _ = precision_recall_curve(labels, scores)
    false_alarms, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    expected = {
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
        "f1_max": np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)),
        "fpr_at_95_tpr": false_alarms[found >= 0.95][0],
        "f1_at_threshold": f1_score(labels, np.array(scores) > metrics.threshold),
    }
    assert {name: measure.value for name, measure in metrics.image.items()} == pytest.approx(expected, abs=1e-9)
    for name, measure in metrics.image.items():
        assert 0 <= measure.low <= measure.value <= measure.high <= 1, name


def test_the_pixel_measures_are_scikit_learns_on_the_binned_maps(metrics, data):
    maps, truth = maps_and_truth(data, {"good", "hole"})
    binned = quantised_scores(maps)
    names = ["auroc", "ap", "f1_max", "aupro_30", "aupro_05", "f1_at_threshold"]
    precision = precision_of_regions(maps, truth, metrics.calibration.map_threshold)
    assert list(metrics.pixel) == (names if precision is None else [*names, "region_precision"])
    assert precision is None or metrics.pixel["region_precision"].value == pytest.approx(precision, abs=1e-12)
    at_threshold = f1_score(truth, maps > np.float32(metrics.calibration.map_threshold), zero_division=0)
    assert metrics.pixel["f1_at_threshold"].value == pytest.approx(at_threshold, abs=1e-12)
    assert metrics.pixel["ap"].value == pytest.approx(average_precision_score(truth, binned), abs=1e-9)
    assert metrics.pixel["auroc"].value == metrics.pixel_auroc
    assert metrics.pixel["auroc"].low < metrics.pixel_auroc < metrics.pixel["auroc"].high
    # one region per image, all of the same size: the overlap of regions is the true-positive rate
    false_alarms, found, _ = roc_curve(truth, binned, drop_intermediate=False)
    rates = np.append(false_alarms[false_alarms < 0.3], 0.3)
    area = np.trapezoid(np.interp(rates, false_alarms, found), rates) / 0.3
    assert metrics.pixel["aupro_30"].value == pytest.approx(area, abs=1e-9)


def test_kinds_and_sizes_have_all_measures(metrics):
    assert {kind: block.n_anomalous for kind, block in metrics.by_kind.items()} == {"hole": NUM_TEST, "stain": NUM_TEST}
    assert metrics.by_kind["hole"].image.keys() == metrics.image.keys()
    assert metrics.by_kind["stain"].pixel is None  # stains have no masks
    # a hole covers 12 x 14 of 48 x 48 pixels, and a stain's size is unknown
    assert {size: block.n_anomalous for size, block in metrics.by_size.items()} == {"large": NUM_TEST}
    assert metrics.by_size["large"].pixel_auroc == metrics.pixel_auroc


def test_the_same_scores_have_the_same_intervals(boxed):
    first, again = (evaluate(fitted_detector(), boxed, None) for _ in range(2))
    for name in ("image", "pixel", "by_kind", "by_size", "by_stratum"):
        assert getattr(first, name) == getattr(again, name)


def test_undefined_measures_are_null(boxed):
    good = tuple(sample for sample in boxed.samples if not sample.is_anomalous)
    metrics = evaluate(calibrated(), replace(boxed, samples=good, protocol=Protocol("x")), None)
    assert set(metrics.image.values()) == {None} and metrics.pixel is None
    assert metrics.by_kind == metrics.by_size == metrics.by_stratum == {}


def test_held_out_scores_and_their_drift_are_told(metrics, rows):
    calibration = fitted_detector().calibration_
    assert metrics.calibration.held_out_scores == calibration.held_out_scores
    good = column(rows, "score", {"good"})
    expected = ks_2samp(calibration.held_out_scores, good, method="exact")
    assert metrics.drift.statistic == pytest.approx(expected.statistic)
    assert metrics.drift.p_value == pytest.approx(expected.pvalue)
    assert (metrics.drift.n_calibration, metrics.drift.n_now) == (2, NUM_TEST)
    assert f"{NUM_TEST} and 2 images are too few to compare their scores" in metrics.drift.text
    n_alarms = sum(score > calibration.threshold for score in good)
    assert (metrics.drift.n_alarms, metrics.drift.wanted_rate) == (n_alarms, calibration.false_alarm_rate)
    assert metrics.realised_false_alarm_rate == pytest.approx(n_alarms / NUM_TEST)


# ---- a fixed evaluation size


def test_a_fixed_evaluation_size_compares_resized_maps_and_masks(data, metrics, tmp_path):
    small = evaluate(fitted_detector(), data, tmp_path, evaluation_size_px=24)
    assert metrics.evaluation_size_px is None and small.evaluation_size_px == 24
    pairs = [
        at_evaluation_size(
            fitted_detector().predict(sample.path).anomaly_map, read_truth(sample, SIDE_PX, SIDE_PX), 24, 24
        )
        for sample in data.samples
        if sample.kind in ("good", "hole")
    ]
    maps, truth = (np.stack(parts).ravel() for parts in zip(*pairs, strict=True))
    assert small.pixel_auroc == pytest.approx(roc_auc_score(truth, quantised_scores(maps)), abs=1e-9)
    assert small.pixel_auroc != metrics.pixel_auroc and small.image == metrics.image
    assert small.per_scale[0].pixel_auroc != metrics.per_scale[0].pixel_auroc
    first = next((tmp_path / "maps").iterdir())
    assert pixels_of(first).shape == (SIDE_PX, SIDE_PX)  # what people look at keeps its resolution


def test_a_defect_that_is_lost_at_the_evaluation_size_leaves_its_image_out(boxed):
    dot = Boxes(((4.0, 6.0, 1.0, 1.0),))  # halving keeps odd rows and columns
    samples = tuple(replace(s, truth=dot if s.strata["sex"] == "M" and s.truth else s.truth) for s in boxed.samples)
    lost = replace(boxed, samples=samples)
    assert evaluate(fitted_detector(), lost).n_pixel_images == 2
    metrics = evaluate(fitted_detector(), lost, None, evaluation_size_px=24)
    assert metrics.n_pixel_images == 1 and metrics.by_stratum["sex=M"].pixel is None
    # its size is still that at the original resolution
    assert {size: block.n_anomalous for size, block in metrics.by_size.items()} == {"large": 1, "small": 1}


# ---- no label flows back


def test_labels_change_no_score(boxed, tmp_path):
    flipped = tuple(replace(s, is_anomalous=not s.is_anomalous, truth=None) for s in boxed.samples)
    files = []
    for name, samples in (("a", boxed.samples), ("b", flipped)):
        (tmp_path / name).mkdir()
        evaluate(fitted_detector(), replace(boxed, samples=samples), tmp_path / name)
        with (tmp_path / name / "per_image.csv").open(newline="") as file:
            files.append([(row["key"], row["score"], row["map_max"]) for row in csv.DictReader(file)])
    assert files[0] == files[1]


def test_an_uncalibrated_detector_flags_nothing(boxed, tmp_path):
    detector = copy.copy(fitted_detector())
    detector.calibration_ = None
    metrics = evaluate(detector, boxed, tmp_path)
    assert metrics.calibration is None and metrics.threshold is None and metrics.drift is None
    assert (metrics.realised_false_alarm_rate, metrics.missed_rate) == (None, None)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        assert {row["is_flagged"] for row in csv.DictReader(file)} == {"0"}


# ---- files


def test_maps_are_16_bit_on_one_scale_and_truth_is_8_bit(folder, data, rows, metrics):
    low, high = metrics.map_scale.low, metrics.map_scale.high
    for sample, row in zip(data.samples, rows, strict=True):
        stored = pixels_of(folder / row["map"]).astype(np.float64)
        anomaly_map = fitted_detector().predict(sample.path).anomaly_map
        assert stored.shape == anomaly_map.shape
        expected = ((anomaly_map - low) / (high - low)).clip(0, 1) * 65535
        np.testing.assert_allclose(stored, expected, atol=0.6)
        if sample.truth is None:
            assert row["truth"] == ""
        else:
            truth = pixels_of(folder / row["truth"])
            assert np.array_equal(truth > 0, read_truth(sample, SIDE_PX, SIDE_PX))


def test_rows_name_the_pictures_by_their_whole_path(rows, data):
    assert all(Path(row["path"]).is_absolute() and Path(row["path"]).is_file() for row in rows)


def test_the_record_says_what_was_done(metrics):
    assert metrics.command == "flawmap evaluate RUN DATA"
    assert metrics.seconds_per_image > 0 and metrics.threads >= 1
    assert metrics.data == "tile" and metrics.skipped == ()


def test_a_very_long_name_is_no_obstacle(tmp_path):
    name = "ü" * 100 + ".png"
    path = write_image(tmp_path / "data" / name, striped(1))
    data = data_types.TestData("x", tmp_path, "", (LabelledImage(name, path, False, "good"),), Protocol("x"))
    (tmp_path / "out").mkdir()
    evaluate(fitted_detector(), data, tmp_path / "out")
    assert len(list((tmp_path / "out" / "maps").iterdir())) == 1


def test_without_a_folder_nothing_is_written_and_progress_is_told(boxed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, told = sorted(tmp_path.rglob("*")), []
    evaluate(fitted_detector(), boxed, None, progress=lambda done, total: told.append((done, total)))
    assert sorted(tmp_path.rglob("*")) == before
    assert told == [(n, 5) for n in range(1, 6)]

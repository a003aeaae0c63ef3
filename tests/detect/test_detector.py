"""AnomalyDetector: what goes in, what comes out, and that one image's score is its own."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flawmap.detect.fit_detector
from flawmap import AnomalyDetector, Detection, Recipe, UserError, load_images
from flawmap.data.sample import NormalImage
from flawmap.detect.detection import find_regions
from flawmap.detect.detector import as_rgb
from flawmap.recipe.settings import DataSettings
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE
from images import striped, write_good, write_image
from shared_passes import sharing_passes
from tiny_detector import fitted_detector, tiny_recipe


@pytest.fixture
def detector() -> AnomalyDetector:
    """Trained, calibrated, free to be changed: the networks are shared, and nothing here changes them."""
    return copy.copy(fitted_detector())


# ---- before and after fit


def test_the_constructor_only_stores_its_settings():
    recipe = tiny_recipe()
    detector = AnomalyDetector(recipe)
    assert detector.recipe is recipe and AnomalyDetector().recipe == Recipe()
    assert (detector.scorer_, detector.calibration_, detector.origin_, detector.proxy_) == (None,) * 4


@pytest.mark.parametrize(
    "use",
    [
        lambda detector: detector.predict(striped(0)),
        lambda detector: detector.predict([striped(0)]),
        lambda detector: detector.predict("no/such/file.png"),
        lambda detector: detector.score_samples([striped(0)]),
        lambda detector: detector.calibrate([striped(0)]),
        lambda detector: detector.save_pretrained("somewhere"),
        lambda detector: detector.sizes_px,
    ],
)
def test_an_unfitted_detector_says_so(use):
    with pytest.raises(UserError) as caught:
        use(AnomalyDetector(tiny_recipe()))
    assert caught.value.problem == "this detector is not fitted"
    assert caught.value.remedy == "call fit(), or from_pretrained()"


def test_fit_leaves_everything_that_was_learned(detector):
    assert detector.scorer_ is not None and not detector.scorer_.training
    assert detector.origin_.source == "random initialization, seed 0"
    assert sorted(detector.stage_keys_) == ["finetune", "pretrain"]
    assert detector.calibration_.n_held_out == 2  # a tenth of 24
    assert detector.proxy_.n == 2 and 0 <= detector.proxy_.pixel_auroc <= 1
    assert detector.sizes_px == (32, 64)


def test_fit_refuses_settings_that_do_not_hold(tmp_path):
    from dataclasses import replace

    recipe = replace(tiny_recipe(), seed=-1)
    with pytest.raises(UserError, match="seed is -1"):
        AnomalyDetector(recipe).fit(load_images(write_good(tmp_path, 4)))


def test_without_held_out_images_nothing_is_anomalous_until_calibration(tmp_path, monkeypatch):
    changes = ("pretrain.enabled=false", "finetune.steps=1", "calibration.held_out_fraction=0")
    detector = AnomalyDetector(tiny_recipe(*changes))
    detector.calibration_ = fitted_detector().calibration_  # of an earlier fit
    images = load_images(write_good(tmp_path / "good", 4))
    assert detector.fit(list(images.images), device="cpu") is detector
    assert (detector.calibration_, detector.proxy_) == (None, None)
    assert detector.map_scale == UNCALIBRATED_MAP_SCALE
    result = detector.predict(striped(0))
    assert (result.threshold, result.is_anomalous, result.regions) == (None, False, ())
    more = load_images(write_good(tmp_path / "more", 3, first_seed=50))
    assert detector.calibrate(more, false_alarm_rate=0.5) is detector
    scores = detector.score_samples(more)
    assert detector.calibration_.held_out_scores == tuple(sorted(scores))
    assert [d.is_anomalous for d in detector.predict(more)] == list(scores > detector.calibration_.threshold)
    assert sum(d.is_anomalous for d in detector.predict(more)) == 1  # of four, a new one included, two may be


# ---- input


def test_every_kind_of_input_gives_the_same_scores(detector, tmp_path):
    pixels = striped(3)
    path = write_image(tmp_path / "part.png", pixels)
    (normal_image,) = load_images(tmp_path).images
    with Image.open(path) as opened:
        kinds = [pixels, path, str(path), Image.fromarray(pixels), opened, normal_image]
        results = [detector.predict(kind) for kind in kinds]
    assert all(isinstance(result, Detection) for result in results)
    assert len({result.score for result in results}) == 1
    assert all(np.array_equal(result.anomaly_map, results[0].anomaly_map) for result in results)
    assert detector.score_samples(str(path)).tolist() == [results[0].score]
    assert [r.score for r in detector.predict(load_images(tmp_path))] == [results[0].score]


def test_gray_is_gray_in_all_its_forms(detector, tmp_path):
    gray = striped(4)[..., 0]
    sixteen = write_image(tmp_path / "16.png", gray.astype(np.uint16) * 257)
    as_float = gray / 255
    forms = [gray, gray[..., None], np.repeat(gray[..., None], 3, 2), Image.fromarray(gray), sixteen, as_float]
    assert len(set(detector.score_samples(forms))) == 1
    np.testing.assert_array_equal(as_rgb(sixteen), np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (40, 56)])
def test_a_map_is_as_large_as_the_image(detector, shape):
    result = detector.predict(striped(1, *shape))
    assert result.anomaly_map.shape == shape and result.anomaly_map.dtype == np.float32
    assert np.isfinite(result.anomaly_map).all() and np.isfinite(result.score)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), "an array of shape (2, 8, 8, 3) is not an image"),
        (np.zeros((0, 8, 3), np.uint8), "an array of shape (0, 8, 3) is not an image"),
        (np.full((8, 8), np.nan), "not finite"),
        ("no/such/file.png", "cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(detector, image, problem):
    with pytest.raises(UserError) as caught:
        detector.predict(image)
    assert problem in caught.value.problem


def test_one_image_gives_one_detection_and_a_list_gives_a_list(detector):
    assert isinstance(detector.predict(striped(0)), Detection)
    assert [type(d) for d in detector.predict([striped(0)])] == [Detection]
    assert detector.predict([]) == []
    assert detector.score_samples([]).shape == (0,)


def test_the_input_is_not_changed(detector):
    pixels = striped(0)
    before = pixels.copy()
    detector.predict(pixels)
    assert np.array_equal(pixels, before)


# ---- scores


def test_a_score_is_the_same_alone_in_a_list_and_in_another_order(detector):
    images = [striped(seed, 48, 40 + seed) for seed in range(4)]
    alone = [detector.predict(image) for image in images]
    together = detector.predict(images)
    backwards = detector.predict(images[::-1])[::-1]
    for one, other, third in zip(alone, together, backwards, strict=True):
        assert one.scores == other.scores == third.scores  # exactly
        assert np.array_equal(one.anomaly_map, other.anomaly_map)
        assert np.array_equal(one.anomaly_map, third.anomaly_map)
    assert detector.score_samples(images).tolist() == [one.score for one in alone]


def test_on_an_accelerator_images_share_passes_and_score_as_alone(detector, monkeypatch):
    images = [striped(seed, 48 + seed, 48) for seed in range(9)]
    alone = detector.predict(images)
    passes = sharing_passes(monkeypatch, detector, 4)
    for one, other in zip(alone, detector.predict(images), strict=True):
        assert other.scores == pytest.approx(one.scores, abs=1e-5)
        assert np.allclose(other.anomaly_map, one.anomaly_map, atol=1e-5)
    assert sorted(passes) == sorted([4, 4, 1] * len(detector.sizes_px))


def test_large_images_share_smaller_passes(detector, monkeypatch):
    monkeypatch.setattr("flawmap.engine.in_order.PIXELS_PER_BATCH", 2 * 48 * 48)
    passes = sharing_passes(monkeypatch, detector, 4)
    assert len(detector.score_samples([striped(seed, 48, 48) for seed in range(5)])) == 5
    assert sorted(passes) == sorted([2, 2, 1] * len(detector.sizes_px))


def test_a_batch_that_does_not_fit_is_halved_for_good(detector, monkeypatch, capsys):
    images = [striped(seed, 48, 48) for seed in range(12)]
    alone = detector.score_samples(images)
    passes = sharing_passes(monkeypatch, detector, 6, fitting=3)
    assert detector.score_samples(images) == pytest.approx(alone, abs=1e-5)
    assert detector.batch_size == 3 and passes == [3] * 4 * len(detector.sizes_px)
    assert capsys.readouterr().err.count("6 images do not fit into the memory of the device; continues with 3") == 1


def test_a_calibration_is_the_same_where_images_share_passes(detector, monkeypatch, tmp_path):
    good = load_images(write_good(tmp_path / "good", 7, first_seed=50))
    alone = detector.calibrate(good, 0.1).calibration_
    sharing_passes(monkeypatch, detector, 3)
    together = detector.calibrate(good, 0.1).calibration_
    assert together.held_out_scores == pytest.approx(alone.held_out_scores, abs=1e-5)
    assert together.threshold == pytest.approx(alone.threshold, abs=1e-5)


def test_a_deep_copy_takes_turns_on_its_own(detector):
    before, copied = detector.at_once, copy.deepcopy(detector)
    assert copied.at_once is not before and copied.batch_size == before.size == 1
    assert copied.score_samples([striped(0)]).tolist() == detector.score_samples([striped(0)]).tolist()


def test_no_images_have_no_scores(detector):
    assert detector.predict([]) == [] and detector.score_samples([]).shape == (0,)


def test_attention_is_on_the_patch_grid_of_the_largest_size(detector):
    attention = detector.attention(striped(0))
    assert attention.shape == (4, 4) and (attention >= 0).all() and 0 < attention.sum() <= 1


def test_a_model_that_was_saved_in_training_mode_detects_in_evaluation_mode(detector, tmp_path):
    before = detector.predict(striped(0)).scores
    left_training = copy.deepcopy(detector)
    left_training.scorer_.train()
    left_training.save_pretrained(tmp_path / "saved")
    again = AnomalyDetector.from_pretrained(tmp_path / "saved", device="cpu")
    assert not any(module.training for module in again.scorer_.modules())
    assert again.predict(striped(0)).scores == before


@pytest.mark.parametrize("name", ["vote_mean", "vote", "mean_logit", "map_max"])
def test_the_recipe_chooses_the_score(detector, name):
    detector.recipe = tiny_recipe(f"detect.image_score={name}")
    result = detector.predict(striped(0))
    assert result.score == result.scores[name]
    assert detector.score_samples([striped(0)])[0] == result.scores[name]


# ---- verdicts


def test_a_verdict_follows_the_thresholds(detector):
    from dataclasses import replace

    analysis = detector.analyse(striped(0))
    score = analysis.scores["mean_logit"]
    middle = float(np.median(analysis.anomaly_map))
    for threshold, expected in ((score, False), (np.nextafter(score, -np.inf), True)):
        detector.calibration_ = replace(detector.calibration_, threshold=float(threshold), map_threshold=middle)
        result = detector.verdict(analysis)
        assert result.is_anomalous is expected and result.threshold == threshold
        assert result.regions == find_regions(analysis.anomaly_map, middle) != ()


def test_calibration_keeps_its_promise_on_the_images_it_rests_on(detector, tmp_path):
    images = load_images(write_good(tmp_path, 9, first_seed=70))
    detector.calibrate(images, false_alarm_rate=0.2)
    results = detector.predict(images)
    assert sum(result.is_anomalous for result in results) == 1  # of ten, a new one included, two may be
    peaks = sorted(float(result.anomaly_map.max()) for result in results)
    assert detector.calibration_.map_threshold == peaks[-2]
    assert sum(bool(result.regions) for result in results) == 1
    assert detector.map_scale == detector.calibration_.map_scale


@pytest.mark.parametrize("rate", [0.0, 1.0, 2.0])
def test_a_rate_that_is_none_is_refused_before_any_work(detector, rate):
    with pytest.raises(UserError, match="must be between 0 and 1"):
        detector.calibrate([Path("is never read.png")], false_alarm_rate=rate)


def test_calibrating_with_nothing_is_refused(detector):
    with pytest.raises(UserError, match="no good images to calibrate with"):
        detector.calibrate([])


def test_a_detection_as_json_holds_all_but_the_map(detector):
    result = detector.predict(striped(0))
    values = result.to_json()
    assert values["score"] == result.score and values["scores"] == result.scores
    assert [tuple(r["box_xyxy_px"]) for r in values["regions"]] == [r.box_xyxy_px for r in result.regions]
    assert "anomaly_map" not in values and "anomaly_map" not in repr(result)


# ---- groups


class FitStoppedError(Exception):
    """Raised in place of the fitting."""


def test_fit_holds_out_whole_groups_that_a_setting_names(tmp_path, monkeypatch):
    """From Python as from the command line, also where the images were loaded without the setting."""
    for number in range(20):
        write_image(tmp_path / "parts" / f"P{number // 2}_{number % 2}.png", striped(number))
    trained: list[str] = []

    def stop(train, *others, **options):
        trained.extend(image.key for image in train)
        raise FitStoppedError

    monkeypatch.setattr(flawmap.detect.fit_detector, "fit_scorer", stop)
    recipe = replace(tiny_recipe(), data=DataSettings(group_by="{group}_*"))
    with pytest.raises(FitStoppedError):
        AnomalyDetector(recipe).fit(load_images(tmp_path / "parts"), device="cpu")
    counts = Counter(key.partition("_")[0] for key in trained)
    assert len(counts) == 9 and set(counts.values()) == {2}


def test_images_of_a_group_count_as_one_in_a_threshold(detector, tmp_path):
    paths = [write_image(tmp_path / f"{number}.png", striped(number)) for number in range(6)]
    images = [NormalImage(path.name, path, group=group) for path, group in zip(paths, "aabbcc", strict=True)]
    assert detector.calibrate(images, false_alarm_rate=0.3).calibration_.n_groups == 3
    assert detector.calibration_.smallest_resolvable_rate == 0.25
    assert detector.calibrate(paths, false_alarm_rate=0.3).calibration_.n_groups is None


def test_a_detector_says_what_it_is():
    assert repr(AnomalyDetector()) == "AnomalyDetector(fused, weights='dinov2_vits14', not fitted)"
    detector = copy.copy(fitted_detector())
    threshold = detector.calibration_.threshold
    assert repr(detector) == f"AnomalyDetector(paper, weights='random', fitted, threshold {threshold:.4g})"
    detector.calibration_ = None
    assert repr(detector).endswith("fitted, no threshold)")

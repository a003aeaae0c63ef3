"""A score or a map that is not finite is no verdict: NaN is above no threshold, so it would pass every part as good."""

import copy
import math
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assertions import explained
from flawmap import AnomalyDetector, UserError
from flawmap.data.sample import NormalImage
from flawmap.detect import detector as detector_module
from flawmap.detect.calibration import calibrate
from flawmap.detect.detection import DAMAGED_MODEL, NotScoredError, judge
from flawmap.detect.scoring import ScaleResult, image_scores
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.runs.calibration import Calibration, MapScale
from images import striped, write_good, write_image
from tiny_detector import fitted_detector, tiny_recipe

NOT_FINITE = [math.nan, math.inf, -math.inf]
CALIBRATION = Calibration(1.0, 0.01, 50, 0.02, 1.5, MapScale(0.0, 3.0), (0.1, 0.9))
FLAT = np.zeros((6, 8), np.float32)


def refused(call) -> NotScoredError:
    with pytest.raises(NotScoredError) as caught:
        call()
    assert caught.value.remedy == DAMAGED_MODEL
    return caught.value


# ---- the verdict


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("calibration", [CALIBRATION, None])
def test_a_score_that_is_not_finite_is_no_verdict_whether_it_decides_or_not(bad, calibration):
    for name in ("vote", "mean_logit"):
        error = refused(lambda name=name: judge({"mean_logit": 0.5, "vote": 1.0, name: bad}, "vote", FLAT, calibration))
        assert error.problem == f"the model gives no finite score ({name} is {bad})"


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("pixels", [[(0, 0)], [(5, 7)], [(2, 3), (4, 1), (5, 0)]])
def test_a_map_with_one_value_that_is_not_finite_is_no_verdict_even_where_the_score_is_a_number(bad, pixels):
    anomaly_map = FLAT.copy()
    for row, column in pixels:
        anomaly_map[row, column] = bad
    error = refused(lambda: judge({"mean_logit": 0.5}, "mean_logit", anomaly_map, CALIBRATION))
    assert error.problem == f"the model gives no finite anomaly map ({len(pixels)} of 48 values are not)"


def test_a_map_that_is_not_finite_all_over_is_no_verdict():
    for bad in NOT_FINITE:
        error = refused(lambda bad=bad: judge({"mean_logit": 0.5}, "mean_logit", np.full_like(FLAT, bad), CALIBRATION))
        assert "48 of 48 values" in error.problem


def test_no_verdict_can_be_made_around_the_check():
    sound = judge({"mean_logit": 0.5}, "mean_logit", FLAT, CALIBRATION)
    for bad in NOT_FINITE:
        refused(lambda bad=bad: replace(sound, score=bad))
        refused(lambda bad=bad: replace(sound, scores={"mean_logit": 0.5, "vote": bad}))
        refused(lambda bad=bad: replace(sound, anomaly_map=np.full_like(FLAT, bad)))


@given(st.floats(-1e30, 1e30), st.floats(-(2.0**99), 2.0**99, width=32))
def test_every_finite_score_is_a_verdict_by_the_threshold(score, value):
    found = judge({"mean_logit": score}, "mean_logit", np.full((2, 3), value, np.float32), CALIBRATION)
    assert (found.score, found.is_anomalous) == (score, score > 1.0)
    assert len(found.regions) == (value > 1.5)


@pytest.mark.parametrize("logits", [(math.nan,), (1.0, math.nan), (math.inf, -math.inf), (-math.inf,), (math.inf, 2.0)])
def test_the_scores_of_logits_that_are_not_finite_show_it_without_a_warning(logits):
    with warnings.catch_warnings(action="error"):
        scores = image_scores(logits, 0.0)
    assert not math.isfinite(scores["mean_logit"]) and math.isfinite(scores["vote"])


def test_the_error_crosses_processes_and_can_be_given_its_place():
    error = refused(lambda: judge({"mean_logit": math.nan}, "mean_logit", FLAT, None))
    assert isinstance(error, UserError) and error.place == ""
    placed = pickle.loads(pickle.dumps(error.at(Path("a b.png"))))
    assert (type(placed), placed.place, placed.problem) == (NotScoredError, "a b.png", error.problem)


# ---- the detector


def planted(value: float, name: str = "detection.neurons.bias") -> AnomalyDetector:
    """The fitted detector with one value of one tensor replaced."""
    detector = copy.deepcopy(fitted_detector())
    detector.scorer_.state_dict()[name].view(-1)[0] = value
    return detector


NAMES = ("detection.neurons.bias", "encoder.vit.patch_embed.proj.weight", "encoder.vit.blocks.1.mlp.fc2.bias")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_costs_every_verdict(name, value, tmp_path):
    detector, path = planted(value, name), write_image(tmp_path / "part 1.png", striped(1))
    for use in (detector.predict, detector.analyse, detector.score_samples, detector.calibrate):
        assert refused(lambda use=use: use(path)).place == str(path)
    image = NormalImage("part 1.png", path)
    assert refused(lambda: detector.score_samples([image])).place == str(path)
    assert refused(lambda: detector.predict(striped(1))).place == ""
    assert refused(lambda: detector.predict([striped(1), striped(2)])).place == "image 1 of 2"


@pytest.fixture
def marked_is_broken(monkeypatch) -> Iterator[None]:
    """A model whose logits are NaN for images whose first pixel is black; several images share each forward pass."""
    analyse = detector_module.analyse

    def spoilt(scorer, images, sizes_px, at_once, rois):
        for image, analysis in zip(images, analyse(scorer, images, sizes_px, at_once, rois), strict=True):
            bad = math.nan if image[0, 0].max() == 0 else 0.0
            scores = {name: value + bad for name, value in analysis.scores.items()}
            yield replace(analysis, scores=scores)

    monkeypatch.setattr(detector_module, "analyse", spoilt)
    monkeypatch.setattr(AnomalyDetector, "at_once", ImagesAtOnce(3))  # as on an accelerator
    yield


def test_one_bad_image_of_a_batch_is_named_and_does_not_change_its_neighbours(marked_is_broken):
    images = [striped(number) for number in range(5)]
    for image in images:
        image[0, 0] = 255
    expected = fitted_detector().score_samples(images)
    images[3][0, 0] = 0
    assert refused(lambda: fitted_detector().predict(images)).place == "image 4 of 5"
    found = fitted_detector().score_samples(images[:3] + images[4:])
    assert found == pytest.approx(expected[[0, 1, 2, 4]], abs=1e-5)


def test_calibration_with_a_score_that_is_none_keeps_the_former_threshold(marked_is_broken, tmp_path):
    detector, path = copy.copy(fitted_detector()), write_image(tmp_path / "bad.png", np.zeros((20, 20, 3), np.uint8))
    before = detector.calibration_
    assert refused(lambda: detector.calibrate([path], 0.1)).place == str(path)
    assert detector.calibration_ == before


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_thresholds_rest_on_finite_numbers_only(bad):
    error = refused(lambda: calibrate([0.5, bad, 0.7], [1.0, bad, 2.0], 0.1))
    assert error.problem == "1 of 3 good images have no finite score"
    assert refused(lambda: calibrate([0.5, 0.6, 0.7], [bad, 1.0, bad], 0.1)).problem.startswith("2 of 3")


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("field", ["threshold", "map_threshold", "false_alarm_rate", "smallest_resolvable_rate"])
def test_a_calibration_cannot_hold_a_number_that_is_none(field, bad):
    with pytest.raises(ValueError, match="not a usable number"):
        replace(CALIBRATION, **{field: bad})
    with pytest.raises(ValueError, match="not a usable number"):
        replace(CALIBRATION, held_out_scores=(0.1, bad))
    with pytest.raises(ValueError, match="not a usable number"):
        replace(CALIBRATION, map_scale=MapScale(0.0, bad))


def test_a_colour_scale_has_a_width():
    with pytest.raises(ValueError, match="colour scale"):
        replace(CALIBRATION, map_scale=MapScale(2.0, 2.0))


# ---- training


MEMORY_ONLY = ("pretrain.enabled=false", "method=memory", "detect.image_score=mean_logit", "memory.tokens=40")


def test_weights_with_a_value_that_is_not_finite_are_not_learned_with(tmp_path):
    from safetensors.torch import save_file

    from flawmap.vit.weights import build_vit

    state = {name: tensor.clone() for name, tensor in build_vit("test_vit", 0.0).state_dict().items()}
    for name, value in (("blocks.0.attn.qkv.weight", math.nan), ("norm.bias", math.inf), ("cls_token", -math.inf)):
        spoilt = {**state, name: state[name].clone()}
        spoilt[name].view(-1)[0] = value
        save_file(spoilt, tmp_path / "weights.safetensors")
        recipe = tiny_recipe(*MEMORY_ONLY, "memory.blocks=[1]", f"model.weights={tmp_path / 'weights.safetensors'}")
        images = [NormalImage(path.name, path) for path in sorted(write_good(tmp_path / "good").iterdir())]
        error = explained(lambda: AnomalyDetector(recipe).fit(images, device="cpu"))  # noqa: B023
        assert error.problem == f"1 tensors of these weights hold NaN or infinity (first: {name})"
        assert error.place == str(tmp_path / "weights.safetensors")


def test_features_that_overflow_are_not_remembered(tmp_path, monkeypatch):
    """As of a backbone from the hub whose weights are finite and whose activations are not."""
    from flawmap.vit.encoder import Encoder

    tokens_in = Encoder.tokens_in

    def overflowing(self, *arguments) -> Tensor:
        tokens = tokens_in(self, *arguments)
        tokens[0, -1] = 1e5  # beyond float16, in which tokens are kept
        return tokens

    monkeypatch.setattr(Encoder, "tokens_in", overflowing)
    images = [NormalImage(path.name, path) for path in sorted(write_good(tmp_path / "good").iterdir())]
    recipe = tiny_recipe(*MEMORY_ONLY, "memory.blocks=[1]", "data.tiles=none")
    error = explained(lambda: AnomalyDetector(recipe).fit(images, device="cpu"))
    assert error.problem.startswith("the encoder gives values that are not finite (good image 1 of ")
    assert error.place == "model.weights" and error.remedy


def test_a_map_of_one_scale_shows_a_value_that_is_none():
    """The map is an average over scales; one that is NaN makes all of it NaN."""
    from flawmap.detect.scoring import mean_map

    good, bad = (ScaleResult(32, 0.0, np.full((2, 2), value, np.float32)) for value in (1.0, math.nan))
    assert np.isnan(mean_map([good, bad], 4, 6)).all()

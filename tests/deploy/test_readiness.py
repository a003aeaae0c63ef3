"""/readyz: red until the self-test was passed, red for good after it failed or after a score that is not finite."""

import dataclasses
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, Client, gray_png, serving
from safetensors.numpy import load_file, save_file

from flawmap.deploy.opened_model import open_model
from flawmap.detect.detection import Detection, judge
from flawmap.detect.model_facts import ModelFacts
from flawmap.reproducibility import file_sha256
from flawmap.runs.self_test import SelfTest, self_test_image
from tiny_detector import fitted_detector

MEAN, RED_PEAK = float(self_test_image().mean()), float(self_test_image()[..., 0].max())
RIGHT = SelfTest(score=MEAN, map_peak=RED_PEAK, tolerance=0.01, map_tolerance=0.5)


def facts(**changes: float) -> ModelFacts:
    """Of a brightness model that carries a self-test."""
    return dataclasses.replace(FACTS, self_test=dataclasses.replace(RIGHT, **changes))


def after_its_self_test(client: Client):
    """The answer of /readyz once the self-test has been run."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        answer = client.get("/readyz")
        if "has not been run" not in answer.json["reason"]:
            return answer
        time.sleep(0.01)
    raise AssertionError("the self-test was not run")


def metrics_of(client: Client) -> list[str]:
    return client.get("/metrics").body.decode().splitlines()


def test_a_model_that_gives_what_it_carries_is_ready_and_both_numbers_are_said(tmp_path):
    with serving(BrightnessModel(facts()), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 200
        assert ready.json == {
            "status": "ready",
            "reason": "",
            "judged_by": BrightnessModel().facts.judged_by,
            "self_test": {
                **{"expected": MEAN, "got": MEAN, "tolerance": 0.01},
                **{"expected_map_peak": RED_PEAK, "got_map_peak": RED_PEAK, "map_tolerance": 0.5},
            },
        }
        assert own.detect(gray_png(7)).json["score"] == 7.0 and "flawmap_ready 1.0" in metrics_of(own)


def test_until_the_self_test_is_done_the_server_lives_but_is_not_ready_and_uploads_wait(tmp_path):
    model = BrightnessModel(facts())
    model.may_go.clear()
    with serving(model, tmp_path / "reviews.csv") as own, ThreadPoolExecutor(1) as pool:
        assert own.get("/healthz").status == 200
        ready = own.get("/readyz")
        assert ready.status == 503 and ready.json["reason"] == "the self-test has not been run yet"
        assert ready.json["self_test"]["expected"] == MEAN and ready.json["self_test"]["got"] is None
        assert "flawmap_ready 0.0" in metrics_of(own)
        held = pool.submit(own.detect, gray_png(7))
        time.sleep(0.2)
        assert not held.done()
        model.may_go.set()
        assert held.result().json["score"] == 7.0 and own.get("/readyz").status == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": MEAN + 0.02}, f"score {MEAN:.6g}, expected {MEAN + 0.02:.6g} within 0.01"),
        ({"score": 43.0}, f"score {MEAN:.6g}, expected 43 within 0.01"),
        ({"score": -MEAN}, f"expected -{MEAN:.6g}"),
        ({"map_peak": RED_PEAK - 0.6}, f"map's peak {RED_PEAK:.6g}, expected {RED_PEAK - 0.6:.6g} within 0.5"),
    ],
)
def test_a_model_that_gives_another_score_is_never_ready_and_gives_no_verdict(tmp_path, capfd, changes, words):
    with serving(BrightnessModel(facts(**changes)), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 503 and words in ready.json["reason"]
        said = ready.json["self_test"]
        assert (said["got"], said["got_map_peak"]) == (MEAN, RED_PEAK)
        assert (said["expected"], said["expected_map_peak"]) == (
            changes.get("score", MEAN),
            changes.get("map_peak", RED_PEAK),
        )
        for _ in range(2):
            answer = own.detect(gray_png(7))
            assert answer.status == 500 and answer.json == {"error": ready.json["reason"]}
        assert own.get("/readyz").status == 503 and own.get("/healthz").status == 200
        assert own.detect(b"no image").status == 422  # what is wrong with an upload is still said
    assert capfd.readouterr().err.count("not ready  the model failed its self-test: ") == 1


def test_a_difference_within_the_tolerance_passes(tmp_path):
    with serving(BrightnessModel(facts(score=MEAN - 0.009, map_peak=RED_PEAK + 0.5)), tmp_path / "r.csv") as own:
        assert after_its_self_test(own).status == 200


class Unsound(BrightnessModel):
    """Gives the self-test image what a test says."""

    def __init__(self, score: float, map_value: float) -> None:
        super().__init__(facts())
        self.answer = score, map_value

    def _predict(self, image: np.ndarray) -> Detection:
        score, map_value = self.answer
        return judge({"mean_logit": score}, "mean_logit", np.full(image.shape[:2], map_value, np.float32), None)


@pytest.mark.parametrize(
    ("score", "map_value"), [(math.nan, 0.0), (math.inf, 0.0), (MEAN, math.nan), (MEAN, -math.inf)]
)
def test_a_self_test_that_gives_no_number_fails_and_its_answer_is_json(tmp_path, score, map_value):
    with serving(Unsound(score, map_value), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 503 and ready.json["reason"].startswith("the model failed its self-test: ")
        assert f"expected is {MEAN:.6g}" in ready.json["reason"]
        said = ready.json["self_test"]
        assert (said["expected"], said["got"], said["got_map_peak"]) == (MEAN, None, None)
        assert own.detect(gray_png(7)).status == 500


class Crashing(BrightnessModel):
    def _predict(self, image: np.ndarray) -> Detection:
        raise RuntimeError("out of memory in /secret/place")


def test_a_self_test_that_cannot_be_run_is_not_passed(tmp_path, capfd):
    with serving(Crashing(facts()), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 503 and b"secret" not in ready.body
        assert ready.json["reason"] == "the self-test could not be run; the server's log says why"
    assert "/secret/place" in capfd.readouterr().err


# ---- real models


def test_a_run_that_is_sound_is_ready(tmp_path):
    fitted_detector().save_pretrained(tmp_path / "model")
    with serving(open_model(tmp_path / "model", "cpu"), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 200 and ready.json["self_test"]["got"] == ready.json["self_test"]["expected"]
        assert own.detect(gray_png(90, 40, 50)).status == 200


@pytest.mark.parametrize("value", [math.nan, math.inf, 50.0])
def test_a_run_whose_weights_were_exchanged_with_their_hash_gives_no_verdict(tmp_path, value):
    fitted_detector().save_pretrained(tmp_path / "model")
    weights, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    tensors = load_file(weights)
    tensors["encoder.vit.norm.weight"] = np.full_like(tensors["encoder.vit.norm.weight"], value)
    save_file(tensors, weights)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"weights_sha256": file_sha256(weights)}))
    with serving(open_model(tmp_path / "model", "cpu"), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 503 and ready.json["reason"].startswith("the model failed its self-test: ")
        assert (ready.json["self_test"]["got"] is None) == (not math.isfinite(value))
        answer = own.detect(gray_png(90, 40, 50))
        assert answer.status == 500 and answer.json == {"error": ready.json["reason"]}


def test_an_exported_file_that_is_sound_is_ready(onnx_file, tmp_path):
    with serving(open_model(onnx_file), tmp_path / "reviews.csv") as own:
        ready = after_its_self_test(own)
        assert ready.status == 200 and ready.json["self_test"]["got"] == pytest.approx(
            ready.json["self_test"]["expected"], abs=1e-5
        )


# ---- a score that is not finite, later


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["score", "map"])
def test_an_upload_without_a_finite_score_is_answered_500_and_ends_readiness(tmp_path, capfd, part, value):
    model = BrightnessModel(facts())
    model.spoils = {part: value}  # of images that are 12 px wide
    with serving(model, tmp_path / "reviews.csv") as own:
        assert after_its_self_test(own).status == 200
        answer = own.detect(gray_png(200, 12, 12))
        assert answer.status == 500 and answer.json["error"].startswith("the model gives no finite ")
        ready = own.get("/readyz")
        assert ready.status == 503 and ready.json["reason"] == f"1 upload was not scored: {answer.json['error']}"
        assert ready.json["self_test"]["got"] == MEAN
        assert own.detect(gray_png(7)).json["score"] == 7.0  # a finite score is still given
        own.detect(gray_png(200, 12, 12))
        assert own.get("/readyz").json["reason"].startswith("2 uploads were not scored: ")
        lines = metrics_of(own)
        for line in ("flawmap_not_scored_total 2.0", "flawmap_ready 0.0", 'flawmap_answers_total{status="500"} 2.0'):
            assert line in lines
        assert 'flawmap_images_total{verdict="ok"} 1.0' in lines
    assert capfd.readouterr().err.count("not ready  an upload was not scored") == 1


@pytest.mark.parametrize("place", range(4))
def test_one_bad_image_of_a_batch_costs_no_other_its_verdict(tmp_path: Path, place: int):
    model = BrightnessModel()  # without a self-test, as from an earlier flawmap
    model.spoils = {"score": math.nan}
    model.may_go.clear()
    uploads = [gray_png(value) for value in (5, 6, 7)]
    uploads.insert(place, gray_png(200, 12, 12))
    with serving(model, tmp_path / "reviews.csv", batch_size=8) as own, ThreadPoolExecutor(5) as pool:
        first = pool.submit(own.detect, gray_png(1))  # keeps the model busy until the others wait together
        time.sleep(0.2)
        held = [pool.submit(own.detect, upload) for upload in uploads]
        time.sleep(0.5)
        model.may_go.set()
        answers = [one.result() for one in held]
        assert first.result().status == 200
        assert [one.status for one in answers] == [500 if number == place else 200 for number in range(4)]
        assert [one.json["score"] for one in answers if one.status == 200] == [5.0, 6.0, 7.0]
        assert own.get("/readyz").status == 503


def test_the_self_test_runs_in_the_thread_that_scores(tmp_path):
    class Watched(BrightnessModel):
        def __init__(self) -> None:
            super().__init__(facts())
            self.threads: list[str] = []

        def predict_many(self, images, cameras=None):
            self.threads.append(threading.current_thread().name)
            return super().predict_many(images)

    model = Watched()
    with serving(model, tmp_path / "reviews.csv") as own:
        own.detect(gray_png(3))
    assert len(model.threads) == 2 and len(set(model.threads)) == 1

"""A model folder carries the SHA-256 of its weights and what it gives for the self-test image; opening compares."""

import copy
import hashlib
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assertions import explained
from flawmap import AnomalyDetector, UserError
from flawmap.deploy.opened_model import open_model
from flawmap.detect.detection import NotScoredError
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.model_config import COPY_AGAIN
from flawmap.runs.model_folder import replace_calibration
from flawmap.runs.self_test import self_test_image
from images import striped
from tiny_detector import fitted_detector


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def change_config(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(folder) | changes))


def make_it_older(folder: Path) -> None:
    """As a flawmap wrote it that knew neither."""
    values = config_of(folder)
    del values["weights_sha256"], values["self_test"]
    (folder / "config.json").write_text(json.dumps(values))


def refused(folder: Path) -> UserError:
    return explained(lambda: AnomalyDetector.from_pretrained(folder, "cpu"))


def flip(path: Path, byte: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def test_the_config_carries_the_hash_and_the_self_test(saved):
    config, detector = config_of(saved), fitted_detector()
    assert config["weights_sha256"] == hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    analysis = detector.analyse(self_test_image())
    found = AnomalyDetector.from_pretrained(saved, "cpu").self_test_
    assert config["self_test"] == vars(found) == vars(detector.self_test())
    assert (found.score, found.map_peak) == (analysis.scores["mean_logit"], float(analysis.anomaly_map.max()))
    assert open_model(saved, "cpu").facts.self_test == found


@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("bit", [0, 6])
def test_one_flipped_bit_in_any_tensor_is_noticed(model, share, bit):
    path = model / "model.safetensors"
    size, (header,) = path.stat().st_size, struct.unpack("<Q", path.read_bytes()[:8])
    first = 8 + header
    flip(path, first + round(share * (size - 1 - first)), bit)
    error = refused(model)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = f"SHA-256 {found[:16]}... instead of {config_of(model)['weights_sha256'][:16]}..."
    assert error.problem == f"the weights are not those that were saved: {expected}"
    assert (error.place, error.remedy) == (str(path), COPY_AGAIN)


@pytest.mark.parametrize("byte", [0, 3, 9, 40, 200])
def test_a_flipped_bit_in_the_files_own_header_is_noticed_too(model, byte):
    flip(model / "model.safetensors", byte, 1)
    assert refused(model).place == str(model / "model.safetensors")


def change_one_value(path: Path, change: Callable[[np.float32], float]) -> None:
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    values = tensors["encoder.vit.blocks.0.mlp.fc1.weight"].reshape(-1)
    values[7] = change(values[7])
    save_file(tensors, path)


def test_weights_of_another_training_are_noticed(model):
    change_one_value(model / "model.safetensors", lambda value: value + 0.5)
    assert refused(model).problem.startswith("the weights are not those that were saved")


def test_tensors_written_in_another_order_are_noticed(model):
    """The same numbers, and no bytes that were ever checked."""
    path = model / "model.safetensors"
    save_file(load_file(path), path, metadata={"by": "another tool"})
    assert refused(model).problem.startswith("the weights are not those that were saved")


def test_an_older_config_in_the_place_of_the_newer_one_is_noticed(model):
    change_config(model, weights_sha256="0" * 64)
    assert "instead of 0000000000000000..." in refused(model).problem


def test_a_hash_of_the_wrong_kind_is_a_damaged_config(model):
    for value in (5, ["x"]):
        change_config(model, weights_sha256=value)
        error = refused(model)
        assert "$.weights_sha256" in error.problem and error.place == str(model / "config.json")


@pytest.mark.parametrize(
    "changes", [{"tolerance": 0.0}, {"score": None}, {"map_tolerance": -1.0}, {"tolerance": "large"}]
)
def test_a_self_test_that_cannot_be_taken_is_a_damaged_config(model, changes):
    change_config(model, self_test=config_of(model)["self_test"] | changes)
    error = refused(model)
    assert "config.json is damaged" in error.problem and error.place == str(model / "config.json")


def test_a_folder_of_an_earlier_flawmap_opens_as_before_even_with_other_weights(model):
    make_it_older(model)
    opened = open_model(model, "cpu")
    assert opened.facts.self_test is None
    assert opened.predict_many([striped(1)])[0].score == fitted_detector().predict(striped(1)).score
    change_one_value(model / "model.safetensors", lambda value: value + 0.5)
    assert AnomalyDetector.from_pretrained(model, "cpu").self_test_ is None


def test_saving_a_model_of_an_earlier_flawmap_adds_both(model, tmp_path):
    make_it_older(model)
    AnomalyDetector.from_pretrained(model, "cpu").save_pretrained(tmp_path / "again")
    assert config_of(tmp_path / "again")["weights_sha256"] and config_of(tmp_path / "again")["self_test"]


def test_another_threshold_keeps_hash_and_self_test(model):
    before = config_of(model)
    replace_calibration(model, None, calibration_bytes(fitted_detector().calibration_))
    assert config_of(model) == before
    AnomalyDetector.from_pretrained(model, "cpu")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_scores_nothing_is_not_saved(tmp_path, value):
    detector = copy.deepcopy(fitted_detector())
    detector.scorer_.state_dict()["encoder.vit.norm.weight"][0] = value
    with pytest.raises(NotScoredError) as caught:
        detector.save_pretrained(tmp_path / "model")
    assert caught.value.place == "self-test image" and not (tmp_path / "model").exists()


def test_a_planted_value_with_its_own_hash_opens_and_scores_nothing(model):
    path = model / "model.safetensors"
    change_one_value(path, lambda _: math.nan)
    change_config(model, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    detector = AnomalyDetector.from_pretrained(model, "cpu")
    with pytest.raises(NotScoredError):
        detector.predict(striped(1))


def test_a_second_training_forgets_the_self_test_of_the_first(saved, tmp_path):
    from flawmap.data.open_data import load_images
    from images import write_good

    detector = AnomalyDetector.from_pretrained(saved, "cpu")
    assert detector.self_test_ is not None
    detector.fit(load_images(write_good(tmp_path / "good")), device="cpu")
    assert detector.self_test_ is None

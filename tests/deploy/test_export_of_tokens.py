"""Exports of scorers on tokens: they answer as the detector does, and give no votes, which would mean nothing."""

from pathlib import Path

import pytest

from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from flawmap.data.open_data import load_images
from flawmap.deploy import load
from flawmap.deploy.export import export_model
from flawmap.deploy.parity import CheckImage
from flawmap.detect.detector import AnomalyDetector

SETTINGS = ("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused")
SMALL = ("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6")


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good")))
    return AnomalyDetector(tiny_recipe(*SETTINGS, *SMALL)).fit(images, device="cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, detector) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    image = write_image(folder / "check.png", striped(7, 40, 90))
    assert export_model(detector, folder / "tile.onnx", "onnx", [CheckImage(image)]).max_score_difference < 1e-3
    return folder / "tile.onnx"


def test_neither_the_detector_nor_its_file_votes(detector, exported):
    image = striped(8)
    image[10:30, 10:30] = 0
    native, found = detector.predict(image), load(exported, threads=1).predict(image)
    assert tuple(native.scores) == tuple(found.scores) == detector.score_names == ("mean_logit", "map_max")
    assert found.scores == pytest.approx(native.scores, abs=1e-3)
    assert native.score == native.scores["mean_logit"] and found.score == pytest.approx(native.score, abs=1e-3)


@pytest.mark.parametrize(
    ("suffix", "target", "precision"),
    [(".onnx", "onnx", "int8"), (".xml", "openvino", "fp32"), (".torchscript", "torchscript", "fp32")],
)
def test_other_formats_answer_as_the_detector_does(tmp_path, detector, suffix, target, precision):
    if target == "openvino":
        pytest.importorskip("openvino")
    images = [CheckImage(write_image(tmp_path / f"{n}.png", striped(20 + n, 50, 60))) for n in range(3)]
    parity = export_model(detector, tmp_path / f"tile{suffix}", target, images, precision)
    assert parity.max_score_difference < (0.5 if precision == "int8" else 1e-3)

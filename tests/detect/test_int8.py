"""A detector whose encoder and memory are in int8: all is fitted with them, and they come back from its files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap import AnomalyDetector, UserError, load_images
from flawmap.vit import frozen_encoder
from images import striped, write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SETTINGS = (
    *("method=fused", "data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=6", "residual.simulated_images=6"),
    "calibration.folds=3",
)
IMAGES = [striped(seed, 40, 56) for seed in range(3)]


def fitted(folder: Path, precision: str) -> AnomalyDetector:
    images = load_images(write_good(folder / precision, 12))
    return AnomalyDetector(tiny_recipe(*SETTINGS, f"compute.precision={precision}")).fit(images, device="cpu")


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("int8"), "int8")


def test_encoder_and_memory_are_rounded(int8, tmp_path):
    exact = fitted(tmp_path, "fp32")
    assert int8.scorer_.memory.tokens.dtype == torch.int8 and exact.scorer_.memory.tokens.dtype == torch.float16
    assert int8.scorer_.frozen.precision == "int8" and exact.scorer_.frozen.precision == "fp32"
    assert not np.allclose(int8.score_samples(IMAGES), exact.score_samples(IMAGES), atol=1e-3)
    assert int8.calibration_.threshold != exact.calibration_.threshold


def test_it_comes_back_from_its_folder(int8, tmp_path):
    int8.save_pretrained(tmp_path / "model")
    again = AnomalyDetector.from_pretrained(tmp_path / "model")
    assert again.device == "cpu" and again.scorer_.frozen.precision == "int8"
    assert again.score_samples(IMAGES).tolist() == int8.score_samples(IMAGES).tolist()
    with pytest.raises(UserError, match="computes in int8, which --device cuda does not"):
        AnomalyDetector.from_pretrained(tmp_path / "model", "cuda")


@pytest.mark.slow
def test_a_model_says_when_something_else_computes_its_encoder(tmp_path, monkeypatch, capsys):
    detector = fitted(tmp_path, "fp32")
    assert detector.encoder_backend_ == "onnxruntime"
    detector.save_pretrained(tmp_path / "model")
    AnomalyDetector.from_pretrained(tmp_path / "model", "cpu")
    assert "did in training" not in "".join(capsys.readouterr())
    monkeypatch.setattr(frozen_encoder, "unknown_parts", lambda encoder: ["made up"])
    elsewhere = AnomalyDetector.from_pretrained(tmp_path / "model", "cpu")
    assert "torch computes it here, onnxruntime did in training" in capsys.readouterr().err
    assert elsewhere.encoder_backend_ == "onnxruntime"  # a copy keeps what is known of the training
    np.testing.assert_allclose(elsewhere.score_samples(IMAGES), detector.score_samples(IMAGES), atol=1e-3)

"""What training images score that are not in the memory is kept, and taken as it is by a run beside the first."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.memory import shards
from flawmap.memory.scorer import FusedScorer
from flawmap.runs.run_folder import create_run
from images import striped, write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
)


def fused_detector(folder: Path) -> AnomalyDetector:
    """Trained in ``folder``; another one there finds its stages."""
    recipe = tiny_recipe(*SMALL)
    images = load_images(folder / "good" if (folder / "good").is_dir() else write_good(folder / "good"))
    return AnomalyDetector(recipe).fit(images, create_run(folder / "runs" / "a", "test", recipe), device="cpu")


def test_what_was_seen_is_kept_and_reused_to_the_last_bit(tmp_path: Path, monkeypatch):
    first = fused_detector(tmp_path)
    monkeypatch.setattr(shards, "encode_good_images", None)  # nothing is looked at again
    second = fused_detector(tmp_path)
    first.save_pretrained(tmp_path / "model")
    loaded = AnomalyDetector.from_pretrained(tmp_path / "model", device="cpu")
    assert isinstance(first.scorer_, FusedScorer)
    assert first.scorer_.expectation.tops.shape == (24, 2)  # training images and kinds of evidence
    image = striped(900)
    image[20:40, 10:30] = 0
    expected = first.predict(image)
    for other in (second, loaded):
        assert other.scorer_ is not None
        for name, tensor in first.scorer_.state_dict().items():
            torch.testing.assert_close(other.scorer_.state_dict()[name], tensor, rtol=0, atol=0)
        found = other.predict(image)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)

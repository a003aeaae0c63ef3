"""How often a training reads its files."""

from collections import Counter
from pathlib import Path

import pytest

from flawmap.train import TrainingOrder, train_run
from images import write_category
from opened_files import OPENED
from tiny_detector import tiny_recipe

SMALL = (
    "data.image_size_px=64",
    "detect.image_score=mean_logit",
    "pretrain.enabled=false",
    "memory.tokens=40",
    "calibration.folds=0",
)


@pytest.mark.parametrize("method", ["memory", pytest.param("fused", marks=pytest.mark.slow)])
def test_a_training_on_tokens_reads_each_test_file_once(tmp_path: Path, method: str):
    """Good images are read to be checked, to be encoded and, however many defects they get, to simulate these."""
    data = write_category(tmp_path / "tile")
    recipe = tiny_recipe(*SMALL, "memory.blocks=[1, 2]", "residual.steps=3", f"method={method}")
    OPENED.counts.clear()
    OPENED.below = str(data)
    try:
        train_run(TrainingOrder(str(data), recipe, tmp_path / "runs" / "a", "cpu"), None)
    finally:
        OPENED.below = None
    times = {
        folder: set(Counter(n for name, n in OPENED.counts.items() if name.startswith(folder)))
        for folder in ("train", "test", "ground_truth")
    }
    assert times == {"train": {3 if method == "fused" else 2}, "test": {1}, "ground_truth": {1}}

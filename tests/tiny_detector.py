"""A detector so small that a test can train it: its scores mean little, but everything about it is real."""

import tempfile
from functools import cache
from pathlib import Path

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import Recipe
from images import write_good

SETTINGS = (
    "data.image_size_px=32",
    "model.weights=random",
    "model.architecture=test_vit",
    "pretrain.enabled=true",
    "pretrain.steps=3",
    "pretrain.batch_size=8",
    "pretrain.local_views=1",
    "pretrain.local_size_px=32",
    "pretrain.prototypes=4",
    "finetune.steps=4",
    "finetune.batch_size=10",
    "detect.sizes_px=[32, 64]",
    "compute.precision=fp32",
)


def tiny_recipe(*changes: str) -> Recipe:
    return load_recipe("paper_cpu", [*SETTINGS, *changes])


def write_tiny_recipe(path: Path, *changes: str) -> Path:
    """A recipe file, for commands."""
    path.write_text(to_yaml(tiny_recipe(*changes)), encoding="utf-8")
    return path


@cache
def fitted_detector() -> AnomalyDetector:
    """Trained once per process; tests that change a detector take a copy."""
    with tempfile.TemporaryDirectory(prefix="flawmap-tests-") as folder:
        images = load_images(write_good(Path(folder) / "good"))
        return AnomalyDetector(tiny_recipe()).fit(images, device="cpu")

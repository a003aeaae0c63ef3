"""A detector so small that a test can train it: its scores mean little, but everything about it is real."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe

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
NUM_TRAIN, NUM_TEST, SIDE_PX = 24, 6, 48


def tiny_recipe(*changes: str) -> Recipe:
    return load_recipe("paper_cpu", [*SETTINGS, *changes])


def striped(seed: int, height: int = SIDE_PX, width: int = SIDE_PX) -> np.ndarray:
    """Gray stripes with noise, uint8 (height, width, 3): a normal part, different for each seed."""
    generator = np.random.default_rng(seed)
    waves = 120 + 50 * np.sin(np.arange(width) / 4 + generator.uniform(0, 6))
    noisy = waves[None, :, None] + generator.normal(0, 10, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path: str | Path) -> np.ndarray:
    """A picture as it is stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def write_good(folder: Path, count: int = NUM_TRAIN, first_seed: int = 0) -> Path:
    """A plain folder of good images."""
    for number in range(count):
        write_image(folder / f"{number:03d}.png", striped(first_seed + number))
    return folder


def write_category(root: Path) -> Path:
    """A category in MVTec AD layout with two kinds of defects, of which one has masks."""
    write_good(root / "train" / "good")
    write_good(root / "test" / "good", NUM_TEST, first_seed=1000)
    for number in range(NUM_TEST):
        for kind, value, rows in (("hole", 0, slice(8, 20)), ("stain", 255, slice(30, 40))):
            pixels = striped(2000 + number + value)
            pixels[rows, 10:24] = value
            write_image(root / "test" / kind / f"{number:03d}.png", pixels)
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[8:20, 10:24] = 255
        write_image(root / "ground_truth" / "hole" / f"{number:03d}_mask.png", mask)
    return root


def files_and_bytes(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, to show that nothing was touched."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@cache
def fitted_detector() -> AnomalyDetector:
    """Trained once per process; tests that change a detector take a copy."""
    with tempfile.TemporaryDirectory(prefix="flawmap-tests-") as folder:
        images = load_images(write_good(Path(folder) / "good"))
        return AnomalyDetector(tiny_recipe()).fit(images, device="cpu")

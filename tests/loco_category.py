"""A made-up category in the layout of MVTec LOCO."""

import json
from pathlib import Path

import numpy as np

from images import noise, write_image, write_noise

MISSING, SCRATCH = 255, 254  # values of the kinds of defects
CONFIG = [
    {"defect_name": "missing_part", "pixel_value": MISSING, "saturation_threshold": 20, "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": SCRATCH, "saturation_threshold": 0.5, "relative_saturation": True},
]


def rectangle(shape: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    """bool ``shape``, True inside."""
    pixels = np.zeros(shape, bool)
    pixels[top : top + height, left : left + width] = True
    return pixels


def write_defect(root: Path, kind: str, stem: str, number: int, pixels: np.ndarray, value: int) -> Path:
    """The mask of one defect."""
    return write_image(root / "ground_truth" / kind / stem / f"{number:03d}.png", pixels.astype(np.uint8) * value)


def write_loco(root: Path) -> Path:
    """Three good images to train and two to validate; test images of 16 x 12 px, one of them with two defects."""
    shape = (12, 16)
    write_noise(root / "train" / "good", range(3))
    write_noise(root / "validation" / "good", range(3, 5))
    write_noise(root / "test" / "good", range(5, 7))
    for seed, kind in ((0, "logical_anomalies"), (1, "structural_anomalies")):
        write_image(root / "test" / kind / "000.png", noise(10 + seed))
    write_defect(root, "logical_anomalies", "000", 0, rectangle(shape, 0, 0, 4, 8), MISSING)
    write_defect(root, "logical_anomalies", "000", 1, rectangle(shape, 2, 4, 4, 4), SCRATCH)
    write_defect(root, "structural_anomalies", "000", 0, rectangle(shape, 8, 8, 3, 3), SCRATCH)
    (root / "defects_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return root

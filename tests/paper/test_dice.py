"""Dice loss: closed forms, and what empty masks do to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.paper import dice as segmentation
from flawmap.paper.dice import dice_loss


def test_closed_form():
    prediction, target = torch.full((2, 4, 4), 0.5), torch.zeros(2, 4, 4)
    target[0, :2] = 1  # 8 of 32 pixels
    # 1 - (2 * 4 + 1) / (16 + 8 + 1)
    assert dice_loss(prediction, target) == pytest.approx(1 - 9 / 25)
    # per image: 1 - (8 + 1) / (8 + 8 + 1), and 1 - 1 / (8 + 1)
    assert dice_loss(prediction, target, over="image") == pytest.approx(((1 - 9 / 17) + (1 - 1 / 9)) / 2)


@given(st.floats(0, 1), st.integers(0, 16))
def test_bounds_and_perfect_prediction(level: float, pixels: int):
    target = (torch.arange(16).reshape(1, 4, 4) < pixels).float()
    assert dice_loss(target, target) == pytest.approx(0, abs=1e-6)
    assert -1e-6 <= float(dice_loss(torch.full((1, 4, 4), level), target)) <= 1


def test_batch_dice_pushes_normal_images_down_and_image_dice_hardly():
    """A normal image whose map is nearly empty still matters in the batch form."""
    target = torch.zeros(2, 8, 8)
    target[0, :4] = 1
    gradients = {}
    for over in ("batch", "image"):
        prediction = torch.full((2, 8, 8), 0.02)
        prediction[0] = 0.3
        prediction.requires_grad_()
        dice_loss(prediction, target, over).backward()
        gradients[over] = prediction.grad[1]
    assert (gradients["batch"] > 0).all()
    assert (gradients["image"] > 0).all()
    push = {over: float(gradient.mean()) for over, gradient in gradients.items()}
    sums = 0.3 * 64 + 0.02 * 64 + 32, 2 * 0.3 * 32 + 1  # of prediction and target; of the intersection, doubled
    assert push["batch"] == pytest.approx(sums[1] / (sums[0] + 1) ** 2, rel=1e-4)
    assert push["image"] == pytest.approx(0.5 / (0.02 * 64 + 1) ** 2, rel=1e-4)


def test_half_precision_predictions_are_summed_in_float32():
    prediction = torch.full((1, 512, 512), 0.9).half()
    assert dice_loss(prediction, torch.ones(1, 512, 512)).dtype == torch.float32
    assert dice_loss(prediction, torch.ones(1, 512, 512)) == pytest.approx(1 - 1.8 / 1.9, abs=1e-3)


def test_over_two_processes_the_batch_is_theirs_together(monkeypatch: pytest.MonkeyPatch):
    """Each process sees its half; value and averaged gradient are those of one process that sees all."""
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(4, 8, 8, generator=generator) > 0.8).float()
    target[2:] = 0
    maps, scale = torch.rand(4, 8, 8, generator=generator), torch.tensor(0.7, requires_grad=True)
    whole = dice_loss(scale * maps, target)
    (expected,) = torch.autograd.grad(whole, scale)

    def of_half(half: slice) -> torch.Tensor:
        inputs = (scale * maps[half], target[half])
        return torch.stack([(inputs[0] * inputs[1]).sum(), inputs[0].sum() + inputs[1].sum()]).detach()

    halves = (slice(0, 2), slice(2, 4))
    monkeypatch.setattr(segmentation, "gather_batch", lambda _: torch.stack([of_half(half) for half in halves]))
    losses = [dice_loss(scale * maps[half], target[half]) for half in halves]
    gradients = [torch.autograd.grad(loss, scale)[0] for loss in losses]
    torch.testing.assert_close(torch.stack(losses).detach(), whole.detach().expand(2))
    torch.testing.assert_close(torch.stack(gradients).mean(), expected)

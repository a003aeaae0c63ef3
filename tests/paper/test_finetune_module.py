"""Stage 2 step by step: Equation 5 from its parts, what the map's loss reaches, and that a small problem is learned."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.heads import PaperHead
from flawmap.recipe.settings import FinetuneSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import normalise

pytestmark = pytest.mark.usefixtures("small_heads")

SIZE_PX = 64


@pytest.fixture
def module_of(tiny_encoder: Callable[..., Encoder]) -> Callable[..., FinetuneModule]:
    def make(total_steps: int = 10, **changes: object) -> FinetuneModule:
        torch.manual_seed(0)
        scorer = PaperHead(tiny_encoder())
        return FinetuneModule(scorer, FinetuneSettings(**changes), total_steps, steps_per_epoch=1).train()

    return make


def pairs(seed: int, number: int = 4) -> dict[str, Tensor]:
    """Gray noise, and the same with a bright square; the last image's anomaly failed to change anything."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randint(80, 120, (number, 3, SIZE_PX, SIZE_PX), generator=generator, dtype=torch.uint8)
    footprint = torch.zeros(number, SIZE_PX, SIZE_PX, dtype=torch.bool)
    for image in range(number - 1):
        top, left = torch.randint(0, SIZE_PX - 24, (2,), generator=generator).tolist()
        footprint[image, top : top + 24, left : left + 24] = True
    anomalous = torch.where(footprint[:, None], torch.full_like(normal, 250), normal)
    label = footprint.flatten(1).any(dim=1).long()
    return {"normal": normal, "anomalous": anomalous, "footprint": footprint, "label": label}


# ---- Equation 5


@pytest.mark.parametrize("dice", ["batch", "image"])
def test_loss_is_the_weighted_sum_of_cross_entropy_and_dice(module_of, dice: str):
    module = module_of(detection_weight=0.7, segmentation_weight=0.2, dice=dice)
    batch = pairs(1)
    with torch.no_grad():
        loss = module.training_step(batch, 0)
        x = normalise(torch.cat([batch["normal"], batch["anomalous"]]))
        logits, evidence = module.scorer(x)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 0])
    p_anomalous = logits.double().softmax(dim=1)[:, 1]
    cross_entropy = -torch.where(labels == 1, p_anomalous.log(), (1 - p_anomalous).log()).mean()
    grown = F.interpolate(evidence[:, None].double(), (SIZE_PX, SIZE_PX), mode="bilinear")[:, 0]
    prediction = 1 / (1 + (-(module.scorer.aggregation.bias.double() + grown)).exp())
    truth = torch.cat([torch.zeros(4, SIZE_PX, SIZE_PX), batch["footprint"].float()])
    axes = (0, 1, 2) if dice == "batch" else (1, 2)
    overlap, size = (prediction * truth).sum(dim=axes), prediction.sum(dim=axes) + truth.sum(dim=axes)
    dice_loss = (1 - (2 * overlap + 1) / (size + 1)).mean()
    assert float(loss) == pytest.approx(float((0.7 * cross_entropy + 0.2 * dice_loss).detach()), rel=1e-5)
    assert module.record == {
        "loss": pytest.approx(float(loss)),
        "detection_loss": pytest.approx(float(cross_entropy), rel=1e-5),
        "dice_loss": pytest.approx(float(dice_loss.detach()), rel=1e-5),
        "accuracy": float(((p_anomalous > 0.5) == (labels == 1)).float().mean()),
    }


def gradients(module: FinetuneModule) -> dict[str, Tensor]:
    module.training_step(pairs(1), 0).backward()
    return {name: p.grad for name, p in module.scorer.named_parameters() if p.grad is not None}


def test_dice_alone_reaches_queries_and_keys_of_the_last_block_and_every_earlier_one(module_of):
    """With the encoder left out the map would be a saliency map: it could not learn what an anomaly is."""
    module = module_of(detection_weight=0.0, segmentation_weight=1.0)
    found = gradients(module)
    d = module.scorer.encoder.embed_dim
    for number, _ in enumerate(module.scorer.encoder.vit.blocks):
        gradient = found[f"encoder.vit.blocks.{number}.attn.qkv.weight"]
        queries, keys, values = gradient.split(d)
        assert queries.abs().sum() > 0 and keys.abs().sum() > 0, number
        last = number == len(module.scorer.encoder.vit.blocks) - 1
        assert (values.abs().sum() == 0) == last, number  # the last values come after the map
    assert found["encoder.vit.patch_embed.proj.weight"].abs().sum() > 0
    assert found["aggregation.weight"].abs().min() > 0 and found["aggregation.bias"] != 0
    assert all(found[name].abs().sum() == 0 for name in found if name.startswith("detection."))


def test_cross_entropy_alone_leaves_the_aggregation_as_it_is(module_of):
    found = gradients(module_of(detection_weight=1.0, segmentation_weight=0.0))
    assert found["aggregation.weight"].abs().sum() == 0 and found["aggregation.bias"] == 0
    others = [name for name in found if not name.startswith("aggregation.")]
    assert len(others) > 50 and all(found[name].abs().sum() > 0 for name in others)


def test_the_two_gradients_add_up_with_their_weights(module_of):
    both = gradients(module_of(detection_weight=0.95, segmentation_weight=0.05, dice="image"))
    detection = gradients(module_of(detection_weight=1.0, segmentation_weight=0.0, dice="image"))
    segmentation = gradients(module_of(detection_weight=0.0, segmentation_weight=1.0, dice="image"))
    for name, gradient in both.items():
        expected = 0.95 * detection[name] + 0.05 * segmentation[name]
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-3)


# ---- learning


def test_a_small_problem_is_learned_by_both_heads(module_of, fit_on):
    module = module_of(
        total_steps=60, detection_weight=0.5, segmentation_weight=0.5, learning_rate=3e-3, warmup_epochs=3.0
    )
    batches = [pairs(seed % 4) for seed in range(60)]
    module.training_step(batches[0], 0)
    before = module.record
    fit_on(module, batches)
    accuracies, dice_losses = [], []
    module.eval()
    for seed in range(4):
        with torch.no_grad():
            module.training_step(pairs(seed), 0)
        accuracies.append(module.record["accuracy"])
        dice_losses.append(module.record["dice_loss"])
    assert accuracies == [1.0] * 4
    assert before["dice_loss"] > 0.85 and max(dice_losses) < 0.5

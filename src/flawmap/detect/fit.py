"""All stages in a row: normal images in, a scorer out."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.engine.checkpoints import SAVE_EVERY_SECONDS
from flawmap.engine.compute import Compute
from flawmap.engine.progress import say
from flawmap.engine.sampling import batch_that_fits, loader_workers, stage_loader
from flawmap.engine.schedules import steps_of_stage
from flawmap.engine.stage import Stage, finished_stage, keep_result, run_stage
from flawmap.errors import UserError
from flawmap.memory.fit import token_stages
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.objectives import pretrain_module
from flawmap.paper.paper_head import PaperHead
from flawmap.paper.views import ViewsDataset, ViewSizes
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import file_sha256, stable_hash
from flawmap.runs.run_folder import RunFolder
from flawmap.scorer import Scorer
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.dataset import CROP_MARGIN, SimulationDataset, crop_margin
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import WeightsOrigin, load_encoder

ALGORITHM_VERSION = 7  # raised when code changes what a stage computes: older results are then not reused

StageChoice = Literal["all", "pretrain", "finetune"]


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        scorer: in evaluation mode; None after ``--stage pretrain``.
        guide: the frozen encoder whose attention placed the simulated anomalies.
        origin: of the initial weights.
        stage_keys: hashes under which the stages' results are shared.
    """

    scorer: Scorer | None
    guide: Encoder
    origin: WeightsOrigin
    stage_keys: dict[str, str]


def train_stages(
    images: Sequence[NormalImage],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    stages: StageChoice = "all",
    save_every_seconds: float = SAVE_EVERY_SECONDS,
    pool: Sequence[NormalImage] = (),
) -> Trained:
    """Pre-train, then train what scores: the paper's head in stage 2, or a memory and a head on tokens.

    Args:
        images: normal training images, without the held-out ones.
        recipe: all settings.
        run: results, log and checkpoints go there; what it already holds is continued.
        compute: device and precision.
        stages: ``pretrain`` stops after stage 1; ``finetune`` requires that stage 1 is done.
        save_every_seconds: how often a checkpoint is due.
        pool: further normal images, which stage 1 learns from beside ``images``; without the held-out ones, too.

    Raises:
        UserError: too few images, a stage that cannot be run as asked, or what :func:`run_stage` raises.
    """
    if stages == "pretrain" and not recipe.pretrain.enabled:
        raise UserError(
            "stage 1 is switched off in this recipe (pretrain.enabled is false)",
            "--stage pretrain",
            "--set pretrain.enabled=true, or --stage all",
        )
    guide, origin = load_encoder(recipe.model, seed=recipe.seed)
    common = _what_determines_both(images, recipe, guide, compute)
    keys: dict[str, str] = {}
    if recipe.pretrain.enabled:
        pooled = (*images, *pool)
        with_pool = common | {"data": _content(pooled)} if pool else common
        pretrained, keys["pretrain"] = _pretrain(pooled, recipe, run, compute, with_pool, stages, save_every_seconds)
        guide.load_state_dict(pretrained)
    guide.eval().requires_grad_(False)
    if stages == "pretrain":
        return Trained(None, guide, origin, keys)
    if recipe.method != "paper":
        token_scorer, of_stages = token_stages(images, recipe, run, compute, guide, common | keys, save_every_seconds)
        return Trained(token_scorer, guide, origin, keys | of_stages)
    scorer, keys["finetune"] = _finetune(images, recipe, run, compute, guide, common | keys, save_every_seconds)
    return Trained(scorer.eval(), guide, origin, keys)


def _what_determines_both(
    images: Sequence[NormalImage], recipe: Recipe, encoder: Encoder, compute: Compute
) -> dict[str, Any]:
    weights = hashlib.sha256(save(encoder.state_dict())).hexdigest()
    return {
        "algorithm": ALGORITHM_VERSION,
        "data": _content(images),
        "initial_weights": weights,
        "model": asdict(recipe.model),
        "seed": recipe.seed,
        "precision": compute.precision,
        "device": compute.device,
        "devices": compute.devices,
    }


def _content(images: Sequence[NormalImage]) -> str:
    """Changes with the content, name or order of any image."""
    return stable_hash([(image.key, file_sha256(image.path)) for image in images])


def _pretrain(
    images: Sequence[NormalImage],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    common: dict[str, Any],
    stages: StageChoice,
    save_every_seconds: float,
) -> tuple[dict[str, Tensor], str]:
    """Stage 1; returns the state of the encoder that it results in (the teacher's) and the stage's key."""
    settings = recipe.pretrain
    batch_size = batch_that_fits(settings.batch_size, len(images), compute.devices)
    total_steps, per_epoch = steps_of_stage(settings.epochs, settings.steps, len(images), batch_size)
    key = stable_hash(common | {"stage": "pretrain", "settings": asdict(settings), "size": recipe.data.image_size_px})
    size_px = recipe.data.image_size_px
    stage = Stage("pretrain", key, total_steps, per_epoch, batch_size, size_px, recipe.seed, _describe_pretrain)
    if (finished := finished_stage(run, stage)) is not None:
        return finished, key
    if stages == "finetune":
        raise UserError("stage 1 of this recipe is not done yet", str(run.path), "flawmap train --stage all")
    torch.manual_seed(recipe.seed)
    encoder, _ = load_encoder(recipe.model, drop_path_rate=recipe.model.drop_path_rate, seed=recipe.seed)
    patch = encoder.patch_size_px
    sizes = ViewSizes(
        round_to_patches(recipe.data.image_size_px, patch),
        round_to_patches(settings.local_size_px, patch),
        settings.local_views,
    )
    dataset = ViewsDataset(NormalPixels(images, round(sizes.global_px * CROP_MARGIN)), sizes, recipe.seed)
    module = pretrain_module(encoder, replace(settings, batch_size=batch_size), total_steps, per_epoch, recipe.seed)
    workers = loader_workers(recipe.compute.workers, compute)
    loader = stage_loader(dataset, len(images), batch_size, total_steps, recipe.seed, workers, compute.devices)
    run_stage(module, loader, stage, run, compute, save_every_seconds)
    state = module.result_encoder.state_dict()
    keep_result(run, stage, state)
    return state, key


def _finetune(
    images: Sequence[NormalImage],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    guide: Encoder,
    common: dict[str, Any],
    save_every_seconds: float,
) -> tuple[PaperHead, str]:
    """Stage 2; returns the trained scorer and the stage's key."""
    settings = recipe.finetune
    batch_size = batch_that_fits(settings.batch_size, len(images), compute.devices)
    total_steps, per_epoch = steps_of_stage(settings.epochs, settings.steps, len(images), batch_size)
    size_px = round_to_patches(settings.image_size_px or recipe.data.image_size_px, guide.patch_size_px)
    key = stable_hash(common | {"stage": "finetune", "settings": asdict(settings), "size": size_px})
    stage = Stage("finetune", key, total_steps, per_epoch, batch_size, size_px, recipe.seed, _describe_finetune)
    torch.manual_seed(recipe.seed)
    encoder, _ = load_encoder(recipe.model, drop_path_rate=recipe.model.drop_path_rate, seed=recipe.seed)
    encoder.load_state_dict(guide.state_dict())
    scorer = PaperHead(encoder)
    if (finished := finished_stage(run, stage)) is not None:
        scorer.load_state_dict(finished)
        return scorer, key
    pixels = NormalPixels(images, round(size_px * crop_margin(settings.augmentation)))
    say("attention", f"of the frozen encoder on {len(pixels)} images")
    attention = cache_attention(guide, pixels, size_px, compute)
    simulator = simulator_by_name(settings.simulation.simulator, settings.simulation)
    dataset = SimulationDataset(pixels, attention, size_px, settings.augmentation, simulator, recipe.seed)
    module = FinetuneModule(scorer, settings, total_steps, per_epoch)
    workers = loader_workers(recipe.compute.workers, compute)
    loader = stage_loader(dataset, len(images), batch_size, total_steps, recipe.seed, workers, compute.devices)
    run_stage(module, loader, stage, run, compute, save_every_seconds)
    keep_result(run, stage, scorer.state_dict())
    return scorer.cpu(), key


def _describe_pretrain(record: dict[str, float]) -> str:
    return (
        f"loss {record['loss']:.3f} (uniform {record['uniform_loss']:.3f})  target entropy "
        f"{record['target_entropy']:.2f}  prototypes used {record['prototypes_used_recently']:.0f}"
    )


def _describe_finetune(record: dict[str, float]) -> str:
    return (
        f"detection {record['detection_loss']:.3f}  Dice loss {record['dice_loss']:.3f}  "
        f"accuracy {record['accuracy']:.2f}"
    )

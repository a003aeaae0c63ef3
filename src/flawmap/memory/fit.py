"""The stages of the scorers on tokens: fill the memory, train the head on it, see what normal images then show."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import torch

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.engine.compute import Compute
from flawmap.engine.failures import in_users_words
from flawmap.engine.progress import say
from flawmap.engine.sampling import batch_that_fits, loader_workers, stage_loader
from flawmap.engine.schedules import steps_of_stage
from flawmap.engine.stage import Stage, finished_stage, keep_result, run_stage
from flawmap.errors import UserError
from flawmap.memory.build_memory import MAX_REFERENCE, build_memory
from flawmap.memory.good_tokens import (
    BATCH_SIZE,
    MAX_CANDIDATES,
    NormalTokens,
    encode_normals,
)
from flawmap.memory.normal_evidence import fit_normal_evidence
from flawmap.memory.patch_memory import PatchMemory
from flawmap.memory.scorer import TOKEN_SCORERS, ResidualScorer, TokenScorer, TokenScorerShape
from flawmap.memory.train_head import ResidualModule
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import stable_hash
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.dataset import SimulationDataset, crop_margin
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap_bench.time_limit import head_steps_in_time


def token_scorer_shape(
    recipe: Recipe, encoder: Encoder, memory_tokens: int | None = None, reference_images: int = 0
) -> TokenScorerShape:
    """The recipe's scorer in the encoder's terms.

    Args:
        recipe: its blocks are counted from 1.
        encoder: has to have them.
        memory_tokens: what a memory really holds, where it is known.
        reference_images: that a scorer compares an image's appearance with.

    Raises:
        UserError: the encoder has no such block.
    """
    num_blocks = len(encoder.vit.blocks)
    if max(recipe.memory.blocks) > num_blocks:
        raise UserError(
            f"memory.blocks is {list(recipe.memory.blocks)}, but the encoder has {num_blocks} blocks",
            "memory.blocks",
            f"numbers from 1 to {num_blocks}",
        )
    return TokenScorerShape(
        tuple(block - 1 for block in recipe.memory.blocks),
        memory_tokens if memory_tokens is not None else recipe.memory.tokens,
        recipe.residual.hidden,
        recipe.memory.image_share,
        recipe.memory.relative,
        reference_images,
    )


def token_stages(
    images: Sequence[NormalImage],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    encoder: Encoder,
    common: dict[str, Any],
    save_every_seconds: float,
) -> tuple[TokenScorer, dict[str, str]]:
    """Build and train the recipe's scorer; its scales are still to be fitted, on images that are not among these.

    Returns:
        the scorer, and the stages' keys.
    """
    if len(images) < 2:
        raise UserError("1 training image", "", "at least 2 are needed: each is judged by the others")
    size_px = round_to_patches(recipe.data.image_size_px, encoder.patch_size_px)
    shape = token_scorer_shape(recipe, encoder)
    common = common | {"size": size_px, "memory": asdict(recipe.memory)}
    bounds = {"candidates": MAX_CANDIDATES, "reference": MAX_REFERENCE, "spacing": PatchMemory.SPACING_NEIGHBOURS}
    key = stable_hash(common | {"stage": "memory"} | bounds)

    @cache
    def normal() -> NormalTokens:  # encoded when they are first asked for, or not at all where all stages are done
        say("tokens", f"of {len(shape.blocks)} blocks of {len(images)} images at {size_px} px")
        with in_users_words("memory", BATCH_SIZE, size_px):
            pixels = NormalPixels(images, size_px)
            return encode_normals(encoder, pixels, shape.blocks, shape.relative, size_px, compute, recipe.seed)

    memory = _memory(normal, recipe, run, compute, shape.memory_tokens, key, size_px)
    shape = token_scorer_shape(recipe, encoder, memory.tokens.shape[1])
    scorer = TOKEN_SCORERS[recipe.method](encoder, shape)
    scorer.memory.load_state_dict(memory.state_dict())
    keys = {"memory": key}
    if isinstance(scorer, ResidualScorer):
        keys["residual"] = _train_head(scorer, images, normal, recipe, run, compute, common | keys, save_every_seconds)
    keys["expectation"] = fit_normal_evidence(scorer, normal, recipe, run, compute, common | keys)
    return scorer.cpu().eval(), keys


def _memory(
    normal: Callable[[], NormalTokens],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    memory_tokens: int,
    key: str,
    size_px: int,
) -> PatchMemory:
    stage = Stage("memory", key, 0, 0, 0, size_px, recipe.seed, str)
    if (finished := finished_stage(run, stage)) is not None:
        memory = PatchMemory(*finished["tokens"].shape)
        memory.load_state_dict(finished)
        return memory
    tokens = normal()
    say("memory", f"keeps {min(memory_tokens, len(tokens.sources)):,} of {len(tokens.sources):,} tokens of each block")
    with in_users_words(stage.name, BATCH_SIZE, size_px):
        memory = build_memory(tokens, memory_tokens, compute, recipe.seed).cpu()
    keep_result(run, stage, memory.state_dict())
    return memory


def _train_head(
    scorer: ResidualScorer,
    images: Sequence[NormalImage],
    normal: Callable[[], NormalTokens],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    common: dict[str, Any],
    save_every_seconds: float,
) -> str:
    """Returns the stage's key."""
    settings, size_px = recipe.residual, common["size"]
    batch_size = batch_that_fits(settings.batch_size, len(images), compute.devices)

    @cache
    def dataset() -> SimulationDataset:
        pixels = NormalPixels(images, round(size_px * crop_margin(settings.augmentation)))
        attention = normal().attention.numpy()
        simulator = simulator_by_name(settings.simulation.simulator, settings.simulation)
        return SimulationDataset(pixels, attention, size_px, settings.augmentation, simulator, recipe.seed)

    if compute.until is not None:
        settings = replace(
            settings, steps=head_steps_in_time(scorer, dataset(), normal(), settings, batch_size, compute)
        )
    total_steps, per_epoch = steps_of_stage(None, settings.steps, len(images), batch_size)
    key = stable_hash(common | {"stage": "residual", "settings": asdict(settings)})
    stage = Stage("residual", key, total_steps, per_epoch, batch_size, size_px, recipe.seed, _describe)
    if (finished := finished_stage(run, stage)) is not None:
        scorer.head.load_state_dict(finished)
        return key
    torch.manual_seed(recipe.seed)
    scorer.head.reset()
    module = ResidualModule(scorer, settings, total_steps)
    workers = loader_workers(recipe.compute.workers, compute)
    loader = stage_loader(dataset(), len(images), batch_size, total_steps, recipe.seed, workers, compute.devices)
    run_stage(module, loader, stage, run, compute, save_every_seconds)
    keep_result(run, stage, scorer.head.state_dict())
    return key


def _describe(record: dict[str, float]) -> str:
    return f"loss {record['loss']:.3f}  found {record['found']:.0%} of the anomalous patches"

"""The last stage of the scorers on tokens: what good images show that are not in the memory, and do positions count?"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flawmap.augment.simulators import simulator_by_name
from flawmap.metrics.ranking import auroc
from flawmap.recipe import Recipe
from flawmap.reproducibility import numpy_generator, stable_hash
from flawmap.scorers.position_gaussians import PositionGaussians
from flawmap.scorers.token_scorers import FusedScorer, TokenScorer
from flawmap.training.datasets import NormalImageSource, channels_first, normalise
from flawmap.training.device import Compute
from flawmap.training.failures import in_users_words
from flawmap.training.normal_tokens import BATCH_SIZE, MAX_REFERENCE_IMAGES, MAX_REFERENCE_TOKENS, NormalTokens
from flawmap.training.progress import say
from flawmap.training.run_folder import RunFolder
from flawmap.training.stage import Stage, finished_stage, keep_result

POSITION_CHANNELS = 100
TRIED_IMAGES = 64  # on which simulated defects tell whether positions count
DEFECTS_PER_IMAGE = 2


def fit_normal_evidence(
    scorer: TokenScorer,
    normal: Callable[[], NormalTokens],
    pixels: Callable[[], NormalImageSource],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    common: dict[str, Any],
) -> tuple[TokenScorer, str]:
    """Let the scorer see what good images score when they are not in its memory.

    Args:
        scorer: with its memory and head.
        normal: tokens of good images; asked for only if the stage is not done yet.
        pixels: the same images, as large as they are seen.
        recipe: all settings.
        run: the stage's result goes there.
        compute: where.
        common: what determines the result, and ``size``, the side of images in pixels.

    Returns:
        the scorer, or one like it in which positions count, too; and the stage's key.
    """
    size_px = common["size"]
    # each scorer has its own kinds of evidence
    of_what = {"scoring": recipe.scoring, "images": MAX_REFERENCE_IMAGES, "tokens": MAX_REFERENCE_TOKENS}
    if isinstance(scorer, FusedScorer):
        of_what["positions"] = POSITION_CHANNELS, TRIED_IMAGES, DEFECTS_PER_IMAGE, PositionGaussians.RIDGE
    key = stable_hash(common | {"stage": "expectation"} | of_what)
    stage = Stage("expectation", key, 0, 0, 0, size_px, recipe.seed, str)
    if (finished := finished_stage(run, stage)) is not None:
        return _restored(scorer, finished), key
    tokens = normal()
    with in_users_words(stage.name, BATCH_SIZE, size_px):
        if isinstance(scorer, FusedScorer):
            scorer = with_positions(scorer, tokens, recipe.seed)
        scorer.eval().to(compute.device)
        say("normal", f"what {len(tokens.references)} good images score that are not in the memory")
        scorer.fit_expectation(tokens.reference_cls.to(compute.device), reference_batches(tokens, compute))
        if isinstance(scorer, FusedScorer):
            scorer = _if_they_help(scorer, tokens, pixels(), recipe, compute)
    scorer = scorer.cpu()
    state = {f"expectation.{name}": tensor for name, tensor in scorer.expectation.state_dict().items()}
    if isinstance(scorer, FusedScorer) and scorer.positions is not None:
        state |= {f"positions.{name}": tensor for name, tensor in scorer.positions.state_dict().items()}
    keep_result(run, stage, state)
    return scorer, key


def reference_batches(tokens: NormalTokens, compute: Compute) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens (b, n, l, d) of the reference images in float32, with the images' numbers (b,)."""
    of_images = tokens.reference_tokens.split(BATCH_SIZE)
    for some, numbers in zip(of_images, tokens.references.split(BATCH_SIZE), strict=True):
        yield some.to(compute.device).float(), numbers.to(compute.device)


def with_positions(scorer: FusedScorer, tokens: NormalTokens, seed: int) -> FusedScorer:
    """The same scorer with a Gaussian for each position, from the reference images; their channels follow the seed."""
    positions, blocks, dim = tokens.reference_tokens.shape[1:]
    channels = min(POSITION_CHANNELS, blocks * dim)
    changed = _like(scorer, positions, channels)
    assert changed.positions is not None
    changed.positions.fit(tokens.reference_tokens, torch.Generator().manual_seed(seed))
    return changed


def _like(scorer: FusedScorer, positions: int, channels: int) -> FusedScorer:
    """With the same encoder, memory and head."""
    changed = FusedScorer(scorer.encoder, replace(scorer.shape, positions=positions, position_channels=channels))
    changed.memory.load_state_dict(scorer.memory.state_dict())
    changed.head.load_state_dict(scorer.head.state_dict())
    return changed


def _restored(scorer: TokenScorer, state: dict[str, Tensor]) -> TokenScorer:
    of_positions = {name.removeprefix("positions."): state[name] for name in state if name.startswith("positions.")}
    if of_positions and isinstance(scorer, FusedScorer):
        scorer = _like(scorer, *of_positions["mean"].shape)
        assert scorer.positions is not None
        scorer.positions.load_state_dict(of_positions)
    expectation = {name.removeprefix("expectation."): state[name] for name in state if name.startswith("expectation.")}
    scorer.expectation.restore(expectation)
    return scorer


@torch.no_grad()
def _if_they_help(
    scorer: FusedScorer,
    tokens: NormalTokens,
    pixels: NormalImageSource,
    recipe: Recipe,
    compute: Compute,
) -> FusedScorer:
    """The scorer as it is, or without positions where simulated defects on good images are then told better."""
    tried = torch.linspace(0, len(tokens.references) - 1, min(TRIED_IMAGES, len(tokens.references))).long()
    good = _scores(scorer, tokens.reference_tokens[tried], tokens.reference_cls[tried], tokens.references[tried])
    defects = _scores_of_defects(scorer, tokens, pixels, recipe, compute, tokens.references[tried])
    scale = good.std(dim=0, correction=0).clamp(min=1e-6)
    memory, _, positions = (torch.cat([good, defects]) / scale).cpu().unbind(dim=1)
    labels = np.arange(len(memory)) >= len(good)
    without, with_them = (100 * (auroc(scores.numpy(), labels) or 0) for scores in (memory, memory + positions))
    helps = with_them > without
    say(
        "positions",
        f"{'count' if helps else 'do not count'}: simulated defects on {len(good)} good images are told with AUROC "
        f"{with_them:.1f} with them, {without:.1f} without",
    )
    if helps:
        return scorer
    plain = _like(scorer, 0, 0)
    kinds = plain.num_kinds
    state = scorer.expectation.state_dict()
    plain.expectation.restore({name: v if name == "appearances" else v[:, :kinds] for name, v in state.items()})
    return plain


def _scores(
    scorer: FusedScorer, tokens: Tensor, cls: Float[Tensor, "b d"], numbers: Int[Tensor, "b"]
) -> Float[Tensor, "b k"]:
    """Of each kind of evidence, what images of the fit show beyond what like images do, each judged without itself."""
    device = next(scorer.parameters()).device
    scores = []
    for some, of_cls, own in zip(*(t.split(BATCH_SIZE) for t in (tokens, cls, numbers)), strict=True):
        values = some.to(device).float()
        nearest = scorer.memory.nearest(values, exclude=own.to(device))
        tops = [scorer.top_mean(one) for one in scorer.evidence_of(values, nearest, fitted=True)]
        scores.append(torch.stack(tops, dim=1) - scorer.expectation(of_cls.to(device))[0])
    return torch.cat(scores)


def _scores_of_defects(
    scorer: FusedScorer,
    tokens: NormalTokens,
    pixels: NormalImageSource,
    recipe: Recipe,
    compute: Compute,
    numbers: Int[Tensor, "t"],
) -> Float[Tensor, "s k"]:
    """The same of simulated defects on these images, as the head was trained on."""
    simulate = simulator_by_name(recipe.residual.simulation.simulator, recipe.residual.simulation)
    scores = []
    for number in numbers.tolist():
        image = pixels[number]
        generator = numpy_generator(recipe.seed, "positions", number)
        simulated = []
        for _ in range(DEFECTS_PER_IMAGE):
            other = pixels[int(generator.integers(len(pixels)))]
            simulated.append(simulate(image, generator, tokens.attention[number].numpy(), other).image)
        batch = normalise(torch.stack([channels_first(one) for one in simulated]).to(compute.device))
        cls, of_defects = scorer.encoder.cls_and_tokens_of(batch, scorer.shape.blocks, scorer.shape.relative)
        scores.append(_scores(scorer, of_defects, cls, torch.full((len(simulated),), number)))
    return torch.cat(scores)

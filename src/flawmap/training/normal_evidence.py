"""The last stage of the scorers on tokens: what good images show that are not known yet, and do positions count?"""

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
from flawmap.scorers.position_gaussians import MAX_CHANNELS, MAX_ENTRIES, PositionGaussians, num_channels
from flawmap.scorers.token_scorers import FusedScorer, TokenScorer
from flawmap.training.datasets import NormalImageSource, channels_first, normalise
from flawmap.training.device import Compute
from flawmap.training.failures import in_users_words
from flawmap.training.normal_tokens import BATCH_SIZE, MAX_REFERENCE_IMAGES, MAX_REFERENCE_TOKENS, NormalTokens
from flawmap.training.progress import say
from flawmap.training.run_folder import RunFolder
from flawmap.training.stage import Stage, finished_stage, keep_result

TRIED_IMAGES = 64  # on which simulated defects tell whether positions count
DEFECTS_PER_IMAGE = 2
RESAMPLES = 200  # for the standard error of what is gained
KEPT_PARTS = ("expectation", "image_scales", "position_gaussians")


def fit_normal_evidence(
    scorer: TokenScorer,
    normal: Callable[[], NormalTokens],
    pixels: Callable[[], NormalImageSource],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    common: dict[str, Any],
) -> tuple[TokenScorer, str]:
    """Let the scorer see what good images score that are not known to it yet.

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
    # each scorer has its own kinds of evidence; the map alone has no use for positions
    tries_positions = isinstance(scorer, FusedScorer) and recipe.detect.image_score == "mean_logit"
    of_what = {"scoring": recipe.scoring, "images": MAX_REFERENCE_IMAGES, "tokens": MAX_REFERENCE_TOKENS, "parts": 2}
    if tries_positions:
        bounds = MAX_CHANNELS, MAX_ENTRIES, PositionGaussians.RIDGE
        of_what["positions"] = *bounds, TRIED_IMAGES, DEFECTS_PER_IMAGE, RESAMPLES
    key = stable_hash(common | {"stage": "expectation"} | of_what)
    stage = Stage("expectation", key, 0, 0, 0, size_px, recipe.seed, str)
    if (finished := finished_stage(run, stage)) is not None:
        return _restored(scorer, finished), key
    tokens = normal()
    with in_users_words(stage.name, BATCH_SIZE, size_px):
        scorer = scorer.eval().to(compute.device)
        say("normal", f"what {len(tokens.references)} good images score that are not in the memory")
        if tries_positions and isinstance(scorer, FusedScorer):
            scorer = _with_positions_if_they_help(scorer, tokens, pixels(), recipe, compute)
        else:
            _fit_expectation(scorer, tokens, compute)
    scorer = scorer.cpu()
    state = {name: tensor for name, tensor in scorer.state_dict().items() if name.split(".")[0] in KEPT_PARTS}
    keep_result(run, stage, state)
    return scorer, key


def _fit_expectation(scorer: TokenScorer, tokens: NormalTokens, compute: Compute) -> Float[Tensor, "r k"]:
    return scorer.fit_expectation(tokens.reference_cls.to(compute.device), _reference_batches(tokens, compute))


def _reference_batches(tokens: NormalTokens, compute: Compute) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens (b, n, l, d) of the reference images in float32, with the images' numbers (b,)."""
    of_images = tokens.reference_tokens.split(BATCH_SIZE)
    for some, numbers in zip(of_images, tokens.references.split(BATCH_SIZE), strict=True):
        yield some.to(compute.device).float(), numbers.to(compute.device)


def _restored(scorer: TokenScorer, state: dict[str, Tensor]) -> TokenScorer:
    """The scorer with what the stage has kept, of any number of images."""
    if isinstance(scorer, FusedScorer) and (mean := state.get("position_gaussians.mean")) is not None:
        scorer = _like(scorer, *mean.shape)
    prefix = "expectation."
    scorer.expectation.restore({n.removeprefix(prefix): state[n] for n in state if n.startswith(prefix)})
    scorer.load_state_dict(scorer.state_dict() | state)
    return scorer


def _like(scorer: FusedScorer, num_positions: int, channels: int) -> FusedScorer:
    """With the same encoder, memory and head, on the same device."""
    shape = replace(scorer.shape, num_positions=num_positions, position_channels=channels)
    changed = FusedScorer(scorer.encoder, shape)
    changed.memory.load_state_dict(scorer.memory.state_dict())
    changed.head.load_state_dict(scorer.head.state_dict())
    return changed.eval().to(scorer.memory.tokens.device)


def _with_positions_if_they_help(
    scorer: FusedScorer, tokens: NormalTokens, pixels: NormalImageSource, recipe: Recipe, compute: Compute
) -> FusedScorer:
    """A scorer in which positions count, or one without them where simulated defects are told as well by the memory.

    Images are training's; each is judged without itself, and each defect without the images it was made from. What is
    gained has to be more than its standard error.
    """
    _, num_positions, blocks, dim = tokens.reference_tokens.shape
    both = _like(scorer, num_positions, num_channels(num_positions, blocks * dim))
    assert both.position_gaussians is not None
    both.position_gaussians.cpu().fit(tokens.reference_tokens, torch.Generator().manual_seed(recipe.seed))
    both.position_gaussians.to(compute.device)
    beyond = _fit_expectation(both, tokens, compute)
    tried = torch.linspace(0, len(beyond) - 1, min(TRIED_IMAGES, len(beyond))).long()
    defects = torch.stack([_beyond_of_defects(both, tokens, pixels, recipe, compute, int(row)) for row in tried])
    kinds = torch.cat([beyond[tried, None], defects], dim=1).unbind(dim=-1)  # each (t, 1 + s): the good image first
    plain_scores, scores = (both.image_score(some).cpu().numpy() for some in (kinds[: scorer.num_kinds], kinds))
    without, with_them = _auroc_of(plain_scores), _auroc_of(scores)
    error = _error_of_gain(plain_scores, scores, numpy_generator(recipe.seed, "gain"))
    helps = with_them - without > error
    say(
        "positions",
        f"{'count' if helps else 'do not count'}: simulated defects on {len(tried)} good images are told with AUROC "
        f"{100 * with_them:.1f} with them, {100 * without:.1f} without (± {100 * error:.1f})",
    )
    if helps:
        return both
    known, of_plain = both.expectation.state_dict(), slice(scorer.num_kinds)
    scorer.expectation.restore(known | {name: known[name][:, of_plain] for name in ("tops", "means")})
    scorer.image_scales.load_state_dict(both.image_scales[of_plain].state_dict())
    return scorer


@torch.no_grad()
def _beyond_of_defects(
    scorer: FusedScorer, tokens: NormalTokens, pixels: NormalImageSource, recipe: Recipe, compute: Compute, row: int
) -> Float[Tensor, "s k"]:
    """Of simulated defects on one reference image, how far each kind of evidence is beyond the image's like."""
    number, device = int(tokens.references[row]), compute.device
    generator = numpy_generator(recipe.seed, "positions", number)
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    image, attention = pixels[number], tokens.attention[number].numpy()
    images, sources = [], []
    for _ in range(DEFECTS_PER_IMAGE):
        other = (number + int(generator.integers(1, max(2, len(pixels))))) % len(pixels)
        second = pixels[other] if simulate.needs_second else None
        images.append(simulate(image, generator, attention, second).image)
        sources.append([number, other])
    batch = normalise(torch.stack([channels_first(one) for one in images]).to(device))
    cls, of_defects = scorer.encoder.cls_and_tokens_of(batch, scorer.shape.blocks, scorer.shape.relative)
    own = tokens.reference_tokens[row].to(device).float().expand_as(of_defects)
    return beyond_their_like(scorer, of_defects, cls, own, torch.tensor(sources, device=device), row)


def beyond_their_like(
    scorer: FusedScorer,
    tokens: Float[Tensor, "s n l d"],
    cls: Float[Tensor, "s d"],
    own: Float[Tensor, "s n l d"],
    sources: Int[Tensor, "s k"],
    row: int,
) -> Float[Tensor, "s e"]:
    """Of images made from a reference image, each kind of evidence's highest values, less what its like show.

    Args:
        scorer: with its expectation.
        tokens: of these images.
        cls: of them.
        own: of the reference image, which does not count in the Gaussians.
        sources: numbers of the training images that they were made from, which do not count in the memory.
        row: of the reference image among the reference images; it does not count among its like.
    """
    evidence = scorer.evidence_of(tokens, scorer.memory.nearest(tokens, exclude=sources), own=own)
    tops = torch.stack([scorer.top_mean(one) for one in evidence], dim=1)
    expected, _ = scorer.expectation(cls, exclude=torch.full((len(cls),), row, device=cls.device))
    return tops - expected


def _auroc_of(scores: np.ndarray) -> float:
    """Of (t, 1 + s) scores, each image's defects after the good image itself."""
    is_defect = np.broadcast_to(np.arange(scores.shape[1]) > 0, scores.shape)
    return auroc(scores, is_defect) or 0.0


def _error_of_gain(before: np.ndarray, after: np.ndarray, generator: np.random.Generator) -> float:
    """Standard error of the gain in AUROC, over images drawn again with their defects."""
    drawn = [generator.integers(len(before), size=len(before)) for _ in range(RESAMPLES)]
    return float(np.std([_auroc_of(after[rows]) - _auroc_of(before[rows]) for rows in drawn]))

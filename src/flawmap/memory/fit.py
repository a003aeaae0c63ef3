"""The recommended method, from good images to a scorer, in the order of the first table in docs/method.md.

The encoder is never changed. Everything else is fitted here; :func:`fit` is the whole story.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flawmap.data.images.files import read_image
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.engine.progress import say
from flawmap.engine.sampling import evenly_spread
from flawmap.engine.stage import Stage, StageContext
from flawmap.engine.training import TrainingPlan, train
from flawmap.errors import UserError
from flawmap.memory.patch_memory import PatchMemory
from flawmap.memory.residual_head import describe_step
from flawmap.memory.scorer import Evidence, ResidualScorer, TokenScorer, block_indices, build_scorer
from flawmap.recipe.settings import MemorySettings, Recipe
from flawmap.scorer import FittedScorer, HeldOutScores, upsample_map
from flawmap.simulators.by_name import Simulator
from flawmap.simulators.dataset import SimulationDataset, crop_margin
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import NormalImageSource, channels_first, normal_batches, normalise

BATCH_SIZE = 8  # images encoded at once; larger batches gain nothing on a CPU
MAX_SQUARES = 64  # held-out images whose pixels are kept, for the defects that detect/held_out.py simulates


def fit(
    images: Sequence[NormalImage],
    held_out: Sequence[NormalImage],
    encoder: Encoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
) -> FittedScorer:
    """Fit the scorer of the recipe's method (``memory``, ``residual`` or ``fused``).

    Args:
        images: good images to learn from.
        held_out: good images that are kept out of memory, head and expectation. They set the map's scales, and the
            caller sets the threshold from their scores. May be empty.
        encoder: frozen.
        recipe: ``memory``, ``residual``, ``fusion`` and ``expectation`` hold all hyperparameters of the method.
        context: the run; results that it holds already are reused.
        simulate: makes the defects that the head learns from.

    Raises:
        UserError: fewer than two images, a block that the encoder does not have, or the device runs out of memory.
    """
    if len(images) < 2:
        raise UserError(f"{len(images)} training image", "", "at least 2 are needed: each is compared with the others")
    stages = plan_stages(recipe, context)

    # Encode the good images once: on the first use of good.tokens, and not at all if every stage is finished already.
    good = GoodImages(images, encoder, recipe, context, with_crops=stages.head is not None)

    # Choose the memory, and measure its spacing and scale (see PatchMemory).
    memory_state = stages.memory.result(
        lambda: choose_memory(good.tokens, recipe.memory, context).state_dict(), batch_size=BATCH_SIZE
    )
    scorer = build_scorer(encoder, recipe, memory_tokens=memory_state["tokens"].shape[1])
    scorer.memory.load_state_dict(memory_state)

    # Simulate defects, and train the head to find them.
    if isinstance(scorer, ResidualScorer) and (stage := stages.head) is not None:
        head_state = stage.result(
            lambda: train_head(scorer, good, recipe, stage, simulate), batch_size=recipe.residual.batch_size
        )
        scorer.head.load_state_dict(head_state)

    # Learn how high similar-looking good images score.
    expectation_state = stages.expectation.result(
        lambda: learn_expectation(scorer, good.tokens, context), batch_size=BATCH_SIZE
    )
    scorer.restore_expectation(expectation_state)

    # Set the map's scales, and score the held-out images for the threshold.
    scorer.eval().to(context.compute.device)
    evaluated = held_out_evidence(scorer, held_out, context.size_px)
    if len(evaluated) >= recipe.memory.min_map_scale_images:
        indices = evenly_spread(len(evaluated), recipe.memory.map_scale_images)
        scorer.fit_map_scales([evaluated[index].evidence for index in indices])
    else:
        scorer.fit_map_scales(training_evidence(scorer, good.pixels, recipe.memory.map_scale_images))
    return FittedScorer(scorer, stages.keys, score_held_out(scorer, evaluated, context.size_px))


@dataclass(frozen=True)
class Stages:
    """The cached stages: the memory, the head (None for the method ``memory``) and the expectation."""

    memory: Stage
    head: Stage | None
    expectation: Stage

    @property
    def keys(self) -> dict[str, str]:
        """The cache keys of these stages and of all earlier ones."""
        return {**self.expectation.context.earlier, self.expectation.name: self.expectation.key}


def plan_stages(recipe: Recipe, context: StageContext) -> Stages:
    """The stages; each key is a hash of exactly what its result depends on."""
    memory = context.stage("memory", settings=recipe.memory.contents)
    head = None
    context = context.after(memory)
    if recipe.method != "memory":
        head = context.training_stage("residual", settings=asdict(recipe.residual))
        context = context.after(head)
    expectation = context.stage(
        "expectation",
        method=recipe.method,
        image_share=recipe.memory.image_share,
        settings=asdict(recipe.expectation),
    )
    return Stages(memory, head, expectation)


# ---- encode the good images once


@dataclass(frozen=True)
class GoodTokens:
    """Good images after one pass of the encoder. Tokens are float16, of l blocks and p = r c patches.

    Attributes:
        candidates: (n, l, d) tokens that the memory is chosen from, equally many of each image.
        sources: (n,) index of the image that a candidate comes from.
        attention: (i, r, c) [CLS] attention of each of the i images, mean over heads; it places the simulated defects.
        references: (k,) indices of the images from which the expectation is learned, evenly spread over all.
        reference_cls: (k, d) their [CLS] tokens, float32.
        reference_tokens: (k, p, l, d) all their tokens.
    """

    candidates: Float[Tensor, "n l d"]
    sources: Int[Tensor, "n"]
    attention: Float[Tensor, "i r c"]
    references: Int[Tensor, "k"]
    reference_cls: Float[Tensor, "k d"]
    reference_tokens: Float[Tensor, "k p l d"]


class GoodImages:
    """Good images, decoded and encoded when they are first needed.

    Args:
        images: to learn from.
        encoder: frozen.
        recipe: all settings.
        context: device, image size and seed.
        with_crops: whether the head needs larger copies of the images, from which augmentation crops.
    """

    def __init__(
        self, images: Sequence[NormalImage], encoder: Encoder, recipe: Recipe, context: StageContext, with_crops: bool
    ) -> None:
        self._images, self._encoder, self._recipe, self._context = images, encoder, recipe, context
        for_crops_px = round(context.size_px * crop_margin(recipe.residual.augmentation))
        self._sizes_px = (context.size_px, for_crops_px) if with_crops else (context.size_px,)

    @cached_property
    def _pixels(self) -> tuple[NormalPixels, ...]:
        return NormalPixels.at_sizes(self._images, self._sizes_px)

    @property
    def pixels(self) -> NormalPixels:
        """Resized to the side that the encoder sees."""
        return self._pixels[0]

    @property
    def pixels_for_crops(self) -> NormalPixels:
        """Enlarged, so that even the smallest crop has as many pixels as an image that the encoder sees."""
        return self._pixels[-1]

    @cached_property
    def tokens(self) -> GoodTokens:
        """Their tokens and attention."""
        blocks, size_px = self._recipe.memory.blocks, self._context.size_px
        say("encoder", f"{len(self._images)} images at {size_px} px, tokens of {len(blocks)} blocks")
        return encode_good_images(self._encoder, self.pixels, self._recipe, self._context)


@torch.no_grad()
def encode_good_images(
    encoder: Encoder, pixels: NormalImageSource, recipe: Recipe, context: StageContext
) -> GoodTokens:
    """Encode every image once; computed in float32 as in detection, stored in float16.

    Args:
        encoder: frozen.
        pixels: good images, resized to ``context.size_px``.
        recipe: says which blocks' tokens are needed, and how many candidates and reference images there are.
        context: device, image size and seed.

    Raises:
        UserError: a token is not finite; everything that is fitted to it would be NaN as well.
    """
    blocks = block_indices(encoder, recipe.memory.blocks)
    encoder = encoder.eval().to(context.compute.device)
    rows, columns = encoder.grid(context.size_px, context.size_px)
    num_images, patches = len(pixels), rows * columns
    per_image = max(1, min(patches, recipe.memory.candidates // num_images))  # at least one token of every image
    num_references = min(num_images, recipe.expectation.images, max(1, recipe.expectation.tokens // patches))
    references = torch.linspace(0, num_images - 1, num_references).long()  # (k,)
    row_of = {int(index): row for row, index in enumerate(references)}
    reference_tokens = torch.empty(num_references, patches, len(blocks), encoder.embed_dim, dtype=torch.float16)
    reference_cls = torch.empty(num_references, encoder.embed_dim)
    candidates_are_references = per_image == patches and num_references == num_images
    generator = torch.Generator().manual_seed(context.seed)
    candidates, attention = [], []
    for indices, images in normal_batches(pixels, context.size_px, BATCH_SIZE, context.compute.device):
        output = encoder(images, blocks=blocks)
        attention.append(mean_cls_attention(output).reshape(-1, rows, columns).cpu())  # (b, r, c)
        tokens = encoder.tokens_in(output, blocks, recipe.memory.relative).half().cpu()  # (b, r c, l, d)
        for index, image_tokens, image_cls in zip(indices, tokens, output.cls.float().cpu(), strict=True):
            if not (image_tokens.isfinite().all() and image_cls.isfinite().all()):
                problem = f"the encoder gives values that are not finite (good image {index + 1} of {num_images})"
                raise UserError(problem, "model.weights", "copy or download the weights again, or choose others")
            if (row := row_of.get(index)) is not None:
                reference_tokens[row], reference_cls[row] = image_tokens, image_cls
            if not candidates_are_references:
                candidates.append(image_tokens[torch.randperm(patches, generator=generator)[:per_image]])
    return GoodTokens(
        # If every image is a reference and gives all its tokens, both are the same tensor, which is stored once.
        candidates=reference_tokens.flatten(0, 1) if candidates_are_references else torch.cat(candidates),  # (n, l, d)
        sources=torch.from_numpy(np.repeat(np.arange(num_images), per_image)),
        attention=torch.cat(attention),
        references=references,
        reference_cls=reference_cls,
        reference_tokens=reference_tokens,
    )


# ---- choose the memory, measure spacing and scale


def choose_memory(good: GoodTokens, settings: MemorySettings, context: StageContext) -> PatchMemory:
    """Keep the tokens of each block that cover all others best, and measure how far good tokens lie apart."""
    num_candidates, num_blocks, dim = good.candidates.shape
    kept = min(settings.tokens, num_candidates)
    say("memory", f"keeps {kept:,} of {num_candidates:,} tokens of each block")
    memory = PatchMemory(num_blocks, kept, dim).to(context.compute.device)
    memory.choose(good.candidates, good.sources, settings.projection_dim, context.seed)
    memory.fit_spacing(settings.spacing_neighbours)
    sample = torch.linspace(0, num_candidates - 1, min(settings.scale_tokens, num_candidates)).long()
    memory.fit_scale(good.candidates[sample], good.sources[sample])
    return memory


# ---- simulate defects, train the head


def train_head(
    scorer: ResidualScorer, good: GoodImages, recipe: Recipe, stage: Stage, simulate: Simulator
) -> dict[str, Tensor]:
    """Train the head on good images and on the same images with simulated defects; returns the head's state."""
    settings, context = recipe.residual, stage.context
    attention, pixels = good.tokens.attention.numpy(), good.pixels_for_crops
    plan = TrainingPlan.of(len(pixels), settings.batch_size, context.compute.devices, epochs=None, steps=settings.steps)
    defects = SimulationDataset(pixels, attention, context.size_px, settings.augmentation, simulate, context.seed)
    torch.manual_seed(context.seed)
    scorer.head.reset()
    module = scorer.head_training(settings, plan.total_steps)
    train(module, defects, len(pixels), plan, stage, describe_step)
    return scorer.head.state_dict()


# ---- learn how high similar-looking good images score


def learn_expectation(scorer: TokenScorer, good: GoodTokens, context: StageContext) -> dict[str, Tensor]:
    """Score the reference images, each compared with the tokens of the others; returns what the scorer learned."""
    say("expected", f"scoring {len(good.references)} good images, each without its own tokens in the memory")
    device = context.compute.device
    scorer.eval().to(device)
    batches = zip(good.reference_tokens.split(BATCH_SIZE), good.references.split(BATCH_SIZE), strict=True)
    scorer.fit_expectation(
        good.reference_cls.to(device),
        ((tokens.to(device).float(), numbers.to(device)) for tokens, numbers in batches),
    )
    return scorer.cpu().expectation_state()


# ---- set the map's scales, score the held-out images


@dataclass(frozen=True)
class HeldOutImage:
    """A held-out image: its evidence, its own height and width in pixels, and the resized pixels that were scored."""

    evidence: Evidence
    height: int
    width: int
    square: UInt8[np.ndarray, "s s 3"] | None  # None for all but MAX_SQUARES images


@torch.no_grad()
def held_out_evidence(scorer: TokenScorer, images: Sequence[NormalImage], size_px: int) -> list[HeldOutImage]:
    """Read each image and collect its evidence, which needs no map scales yet."""
    kept = set(evenly_spread(len(images), MAX_SQUARES))
    evaluated = []
    for index, image in enumerate(images):
        pixels = read_image(image.path)  # (h, w, 3)
        square = resize_image(pixels, size_px, size_px)  # (s, s, 3)
        evidence = scorer.evidence(_batch_of(square, scorer))
        evaluated.append(HeldOutImage(evidence, pixels.shape[0], pixels.shape[1], square if index in kept else None))
    return evaluated


@torch.no_grad()
def training_evidence(scorer: TokenScorer, pixels: NormalImageSource, at_most: int) -> list[Evidence]:
    """The evidence of training images, each compared with the tokens of the others.

    It sets the map's scales if too few images are held out to show how evidence varies.
    """
    evidence = []
    for index in evenly_spread(len(pixels), at_most):
        images = _batch_of(pixels[index], scorer)
        evidence.append(scorer.evidence(images, exclude=torch.tensor([index], device=images.device)))
    return evidence


@torch.no_grad()
def score_held_out(scorer: TokenScorer, images: Sequence[HeldOutImage], size_px: int) -> HeldOutScores:
    """Image scores and map peaks of the held-out images, as detection gives them."""
    scores, peaks = [], []
    for image in images:
        output = scorer.output(image.evidence, scorer.encoder.grid(size_px, size_px))
        scores.append(float(output.image[0]))
        peaks.append(float(upsample_map(output.evidence.cpu(), image.height, image.width).max()))
    return HeldOutScores(scores, peaks, [image.square for image in images if image.square is not None])


def _batch_of(square: UInt8[np.ndarray, "s s 3"], scorer: TokenScorer) -> Float[Tensor, "1 3 s s"]:
    return normalise(channels_first(square)[None].to(next(scorer.parameters()).device))

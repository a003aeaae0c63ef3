"""Trains the residual head on the tokens of good images and of simulated defects, each encoded once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from flawmap.data.roi import MIN_COVER
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.cores import reading_threads
from flawmap.engine.in_order import PixelBudget, batches_of, in_order
from flawmap.engine.optimisation import check_finite, decay_groups, set_rates
from flawmap.engine.progress import say
from flawmap.engine.schedules import WarmupCosine
from flawmap.engine.stage import StageContext, return_freed_memory
from flawmap.engine.step_log import StepLog
from flawmap.engine.tensor_files import release_pages
from flawmap.engine.transfer import to_device
from flawmap.errors import UserError
from flawmap.memory.good_images import BATCH_SIZE, GoodImages
from flawmap.memory.inside import mean_inside
from flawmap.memory.known_defects import DefectsToLearn, KnownExamples, encode_known, far_from_good
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.residual_head import ResidualHead
from flawmap.memory.scorer import ResidualScorer
from flawmap.memory.token_pool import TokenPool
from flawmap.plural import plural
from flawmap.recipe.settings import ResidualSettings
from flawmap.reproducibility import numpy_generator
from flawmap.runs.training_log import LogFile
from flawmap.simulators.dataset import SimulationDataset
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import PIXELS_AHEAD, normalise

STAGE = "residual"
TOKENS_PER_STEP = 1024
ANOMALOUS_SHARE = 0.25  # of the tokens of a step
BESIDE_SHARE = 0.5  # of the normal tokens of a step; the others come from the reference images
BESIDE_PER_IMAGE = 64  # tokens that no defect touches which are kept of each image with a defect


@dataclass(frozen=True)
class HeadExamples:
    """What the head is trained on.

    Attributes:
        anomalous: tokens of patches that a simulated defect covers.
        beside: some tokens of the same images that no defect touches. The images were augmented, which is why the head
            does not take augmentation for a defect.
        good: tokens of the good images themselves.
        known: of known defects; None where there are none.
    """

    anomalous: TokenPool
    beside: TokenPool
    good: TokenPool
    known: KnownExamples | None = None

    def batch(
        self, generator: torch.Generator, beside_share: float = BESIDE_SHARE
    ) -> tuple[TokenPool, Float[Tensor, "n"]]:
        """Tokens of one step and their targets, 1 = anomalous."""
        num_anomalous = round(ANOMALOUS_SHARE * TOKENS_PER_STEP)
        num_beside = round(beside_share * (TOKENS_PER_STEP - num_anomalous))
        anomalous = self._with_known(self.anomalous, num_anomalous, generator)
        beside = self._with_known(self.beside, num_beside, generator)
        good = self.good.some(TOKENS_PER_STEP - num_anomalous - num_beside, generator)
        targets = torch.zeros(TOKENS_PER_STEP)
        targets[:num_anomalous] = 1
        return TokenPool.joined([*anomalous, *beside, good]), targets

    def _with_known(self, simulated: TokenPool, count: int, generator: torch.Generator) -> list[TokenPool]:
        """So many tokens, of which known defects give their share."""
        of_known = None
        if self.known is not None:
            of_known = self.known.anomalous if simulated is self.anomalous else self.known.beside
        num_known = 0 if self.known is None else round(self.known.share * count)
        if of_known is None or not of_known.filled or not num_known:
            return [simulated.some(count, generator)]
        return [simulated.some(count - num_known, generator), of_known.some(num_known, generator)]


def train_head(
    scorer: ResidualScorer,
    good: GoodImages,
    of_others: Lookup,
    defects: SimulationDataset,
    settings: ResidualSettings,
    context: StageContext,
    known: DefectsToLearn | None = None,
    are_judged: bool = False,
) -> dict[str, Tensor]:
    """Train the scorer's head from fresh weights.

    It takes seconds on cached tokens, so that an interrupted training is repeated as a whole.

    Args:
        scorer: with a filled memory.
        good: good images after the encoder.
        of_others: for their references, the nearest normal tokens of other images.
        defects: good images with simulated defects.
        settings: of the head.
        context: device and seed; the log is written to its run.
        known: known defects, which it learns from as well.
        are_judged: whether further heads are trained, each without the known defects of a fold.

    Returns:
        the head's state; of the further ones with the prefix :func:`without_fold`.
    """
    examples = encode_examples(scorer, good, of_others, defects, settings, context)
    if known is not None:
        examples = replace(examples, known=known_examples(scorer, good, of_others, known, settings, context))
    return_freed_memory()
    of_good = plural(len(good.references), "good image")
    say(STAGE, f"trains the head on tokens of these and of {of_good}: {settings.steps} steps")
    further: dict[str, Tensor] = {}
    if known is not None and examples.known is not None and are_judged:
        folds = known.folds()
        say("defects", f"trains {len(set(folds))} more heads, each without some of the known defects, to judge these")
        for fold in sorted(set(folds)):
            seen = frozenset(number for number, of_defect in enumerate(folds) if of_defect == fold)
            others = replace(examples, known=examples.known.without(seen, settings.simulated_images))
            state = train_on_examples(scorer, others, settings, context, is_logged=False)
            further |= {f"{without_fold(fold)}{name}": tensor.clone() for name, tensor in state.items()}
    return train_on_examples(scorer, examples, settings, context) | further


def without_fold(fold: int) -> str:
    """Begins the names of tensors of the head that has not seen the known defects of a fold."""
    return f"without_fold.{fold}."


@torch.no_grad()
def known_examples(
    scorer: ResidualScorer,
    good: GoodImages,
    of_others: Lookup,
    known: DefectsToLearn,
    settings: ResidualSettings,
    context: StageContext,
) -> KnownExamples:
    """Encode known defects, each once; for the arguments see :func:`train_head`."""
    scorer.eval().to(context.compute.device)
    far = far_from_good(scorer.memory, of_others, good.references_inside)
    frozen = FrozenEncoder(scorer.encoder, scorer.frozen.precision)  # of its own: its session goes with it
    cover, size_px, seed = settings.anomalous_cover, context.size_px, context.seed
    anomalous, beside = encode_known(scorer, frozen, known, far, cover, size_px, seed)
    return KnownExamples.of(anomalous, beside, settings.simulated_images)


def train_on_examples(
    scorer: ResidualScorer,
    examples: HeadExamples,
    settings: ResidualSettings,
    context: StageContext,
    beside_share: float = BESIDE_SHARE,
    is_logged: bool = True,
) -> dict[str, Tensor]:
    """The same from examples that are encoded already, with any share of normal tokens from beside the defects."""
    torch.manual_seed(context.seed)  # of the head's weights and its dropout
    scorer.head.reset()
    head = scorer.head.to(context.compute.device).train()
    optimizer = torch.optim.AdamW(decay_groups([head], settings.weight_decay), lr=1.0)
    learning_rate = WarmupCosine(0.0, settings.learning_rate, 0.0, settings.warmup_steps, settings.steps)
    generator = torch.Generator().manual_seed(context.seed)
    log = StepLog(STAGE, LogFile(context.run.log), settings.steps, describe_step, loggers=context.loggers)
    for step in range(settings.steps):
        set_rates(optimizer, learning_rate.at(step))
        batch, targets = examples.batch(generator, beside_share)
        release_pages(examples.good.tokens)
        logits = head_logits(head, scorer.memory, batch)  # (n,)
        loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits))
        check_finite(loss, STAGE, step)
        update(optimizer, loss, settings.clip_gradient_norm)
        found = (logits.detach() > 0)[targets > 0].float().mean()
        if is_logged:
            log.write(step, {"loss": float(loss.detach()), "found": float(found)}, learning_rate.at(step))
    head.eval()
    return head.state_dict()


def describe_step(record: Mapping[str, float]) -> str:
    """What is printed of a training step; ``found`` is the share of anomalous tokens with a logit above 0."""
    return f"loss {record['loss']:.3f}  found {record['found']:.0%} of the anomalous patches"


def head_logits(head: ResidualHead, memory: PatchMemory, batch: TokenPool) -> Float[Tensor, "n"]:
    """The head's logits for single tokens."""
    device = memory.unit.device
    blocks = torch.arange(len(memory.unit), device=device)
    nearest = memory.unit[blocks, batch.nearest.to(device)]  # (n, l, d)
    return head(batch.tokens.to(device).float()[None], nearest[None])[0]


def update(optimizer: torch.optim.Optimizer, loss: Tensor, clip_gradient_norm: float) -> None:
    """One step down the gradient, whose norm is clipped."""
    optimizer.zero_grad()
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, clip_gradient_norm)
    optimizer.step()


@torch.no_grad()
def encode_examples(
    scorer: ResidualScorer,
    good: GoodImages,
    of_others: Lookup,
    defects: SimulationDataset,
    settings: ResidualSettings,
    context: StageContext,
) -> HeadExamples:
    """Simulate defects on good images, encode each once, and look its tokens up.

    The memory holds tokens of the good images themselves. They are left out of the lookup, because the tokens of a new
    image are not in the memory either. A patch that a defect only touches is not judged.

    Raises:
        UserError: no defect covers a patch.
    """
    items = simulated_items(len(defects), settings.simulated_images, context.seed)
    items.sort(key=lambda item: item[1])  # so that each image is read once, however many defects it gets
    n_images = len({number for _, number in items})
    say("simulate", f"{plural(len(items), 'defect')} on {plural(n_images, 'good image')}")
    scorer.eval().to(context.compute.device)
    frozen = FrozenEncoder(scorer.encoder, scorer.frozen.precision)  # of its own: its session goes with it
    generator = torch.Generator().manual_seed(context.seed)
    anomalous, beside, device = [], [], context.compute.device
    at_once = ImagesAtOnce.on(device, scorer.bytes_per_image(context.size_px), BATCH_SIZE)
    for batch in _simulated(defects, batches_of(items, at_once.size), context):
        footprints = torch.stack([item["footprint"] for item in batch]).float()  # (b, s, s)
        cover = F.avg_pool2d(footprints[:, None], scorer.encoder.patch_size_px).flatten(1)  # (b, p)
        images = to_device(torch.stack([item["anomalous"] for item in batch]), device)
        numbers = good.images[torch.stack([item["index"] for item in batch])]  # (b,), on the host
        inside = None
        if good.inside is not None:
            of_pixels = torch.stack([item["inside"] for item in batch]).float()  # (b, s, s)
            inside = F.avg_pool2d(of_pixels[:, None], scorer.encoder.patch_size_px).flatten(1) >= MIN_COVER  # (b, p)
        tokens = at_once.run(partial(_tokens_of, scorer, frozen, images, inside))  # (b, p, l, d)
        is_anomalous, is_untouched = cover >= settings.anomalous_cover, cover == 0  # (b, p)
        if inside is not None:
            is_anomalous, is_untouched = is_anomalous & inside, is_untouched & inside
        is_untouched = is_untouched.nonzero()  # (u, 2)
        anomalous.append(looked_up(scorer.memory, tokens, is_anomalous.nonzero(), numbers))
        if len(is_untouched):  # all of them would take as much memory as the good images' tokens
            drawn = torch.randint(len(is_untouched), (BESIDE_PER_IMAGE * len(batch),), generator=generator)
            beside.append(looked_up(scorer.memory, tokens, is_untouched[drawn], numbers))
    if not any(len(pool) for pool in anomalous):
        problem = f"none of {len(items)} simulated defects covers a patch, so the head has nothing to learn"
        remedy = (
            "look at them with flawmap check DATA --gallery; --set residual.simulation.min_size=0.1 makes larger ones"
        )
        raise UserError(problem, f"stage {STAGE}", remedy)
    inside = good.references_inside
    among = None if inside is None else inside.flatten().nonzero()[:, 0]
    of_good = TokenPool(good.reference_tokens.flatten(0, 1), of_others.indices.flatten(0, 1), among)
    return HeadExamples(TokenPool.joined(anomalous), TokenPool.joined(beside) if beside else of_good, of_good)


def looked_up(
    memory: PatchMemory, tokens: Float[Tensor, "b p l d"], chosen: Int[Tensor, "n 2"], numbers: Int[Tensor, "b"]
) -> TokenPool:
    """Some tokens of a batch, with the nearest normal tokens of other images.

    Args:
        memory: of tokens of good images.
        tokens: of the batch.
        chosen: image in the batch and patch of each token.
        numbers: of the good image that each image of the batch was made of.
    """
    of_image = [
        chosen[chosen[:, 0] == row, 1].to(tokens.device, non_blocking=True) for row in range(len(tokens))
    ]  # (n_row,) each
    found = [tokens[row, patches] for row, patches in enumerate(of_image)]  # (n_row, l, d) each
    nearest = [
        memory.lookup(of_one[None], exclude=numbers[row : row + 1]).indices[0]
        for row, of_one in enumerate(found)
        if len(of_one)
    ]  # (n_row, l) each
    joined = torch.cat(nearest) if nearest else chosen.new_empty(0, tokens.shape[2])
    return TokenPool(torch.cat(found).half().cpu(), joined.int().cpu())


def _tokens_of(
    scorer: ResidualScorer,
    frozen: FrozenEncoder,
    images: UInt8[Tensor, "b 3 s s"],
    inside: Bool[Tensor, "b p"] | None,
    at_once: int,
) -> Float[Tensor, "b p l d"]:
    """Tokens of images, of which ``at_once`` share a pass."""
    relative = scorer.settings.relative
    parts = [
        frozen.tokens_of(normalise(some), scorer.blocks, relative and inside is None) for some in images.split(at_once)
    ]
    tokens = parts[0] if len(parts) == 1 else torch.cat(parts)
    if relative and inside is not None:
        # An image whose crop shows nothing inside has no token that counts.
        tokens = tokens - mean_inside(tokens, inside.to(tokens.device)).nan_to_num()[:, None]
    return tokens


def _simulated(
    defects: SimulationDataset, batches: Sequence[Sequence[tuple[int, int]]], context: StageContext
) -> Iterator[list[dict[str, Tensor]]]:
    """Batches of items, made ahead by other threads: by one where a processor computes."""
    budget = PixelBudget(PIXELS_AHEAD)

    def make(number: int, batch: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        budget.take(number, len(batch) * context.size_px**2)
        return [defects[item] for item in batch]

    with closing(in_order(make, batches, reading_threads(context.compute.device), budget)) as made:
        yield from made


def simulated_items(num_images: int, count: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, number) of so many images in random order; none comes again before all others have come."""
    items = []
    for epoch in range(-(-count // num_images)):
        order = numpy_generator(seed, "simulated images", epoch).permutation(num_images)
        items += [(epoch, int(number)) for number in order]
    return items[:count]

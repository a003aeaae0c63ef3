"""The recommended method, from good images to a scorer, in the order of the first table in docs/method.md.

The encoder is never changed. Everything else is fitted here; :func:`fit` is the whole story.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from flawmap.data.groups import Identity
from flawmap.data.rois import rois_of
from flawmap.data.sample import KnownDefect, NormalImage
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.progress import say
from flawmap.engine.sampling import evenly_spread
from flawmap.engine.stage import Stage, StageContext
from flawmap.engine.tensor_files import release_pages
from flawmap.engine.transfer import to_device
from flawmap.errors import UserError
from flawmap.memory.few_images import joined_with_views, with_views, with_views_as_others
from flawmap.memory.fitted import Fit, unseen_scores
from flawmap.memory.folds import Folds, deal, deal_with, evidence_out_of_fold, moved_together, near_identical
from flawmap.memory.good_images import BATCH_SIZE, GoodImages
from flawmap.memory.head_training import train_head, without_fold
from flawmap.memory.joined import Joining
from flawmap.memory.known_defects import DefectsToLearn, head_decides, unseen_defects
from flawmap.memory.patch_memory import Lookup, Nearest, PatchMemory
from flawmap.memory.scorer import COPIES, Evidence, ResidualScorer, TokenScorer, build_scorer
from flawmap.memory.search import bytes_per_query
from flawmap.memory.shards import choosing_by, encode_in_shards, number_of_shards
from flawmap.memory.stages import plan_stages
from flawmap.memory.units import Tiles, WholeImages
from flawmap.memory.views import FEW
from flawmap.plural import plural
from flawmap.recipe.settings import Recipe
from flawmap.scorer import FittedScorer
from flawmap.simulators.by_name import Simulator
from flawmap.simulators.dataset import SimulationDataset, crop_margin
from flawmap.vit.encoder import Encoder
from flawmap.vit.frozen_encoder import FrozenEncoder

PIXELS_KEPT_BYTES = 64 * 1024**2  # of few images, which get several defects each
# Tensors of the memory's stage beside the memory itself.
OF_OTHERS = "of_others."  # for the reference images, the nearest tokens of other images
WITHOUT_FOLD = "without_fold."  # candidates in the memory without a fold


def fit(
    images: Sequence[NormalImage],
    encoder: Encoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
    defects: Sequence[KnownDefect] = (),
) -> FittedScorer:
    """Fit the scorer of the recipe's method (``memory``, ``residual`` or ``fused``).

    Args:
        images: good images to learn from.
        encoder: frozen.
        recipe: ``memory``, ``residual``, ``fusion``, ``expectation`` and ``calibration.folds`` hold all
            hyperparameters of the method.
        context: the run; results that it holds already are reused.
        simulate: makes the defects that the head learns from.
        defects: known ones, which it learns from as well.

    Raises:
        UserError: no images, a block that the encoder does not have, or the device runs out of memory.
    """
    rois = rois_of(recipe)
    known = DefectsToLearn(tuple(defects), rois) if defects else None
    whole = fit_units(WholeImages(images, rois), encoder, recipe, context, simulate, known=known)
    not_seen = unseen_defects(known, whole.scorer, whole.without_known) if known else None
    return FittedScorer(whole.scorer, dict(whole.context.earlier), unseen_scores(whole, recipe), not_seen)


def fit_units(
    units: WholeImages | Tiles,
    encoder: Encoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
    fold_of_image: Int[Tensor, "i"] | None = None,
    joining: Joining | None = None,
    known: DefectsToLearn | None = None,
) -> Fit:
    """Fit a scorer to whole images, or to tiles of them; for the other arguments see :func:`fit`.

    Args:
        units: what to learn from.
        fold_of_image: as it was dealt before; None deals here.
        joining: an earlier fit that is gone on from; of its images, nothing is encoded again.
        known: known defects, which a head that is trained learns from.
    """
    if not units.identities:
        raise UserError("there are no good images", "", "at least 1 is needed to train")
    frozen = FrozenEncoder(encoder.eval().to(context.compute.device), recipe.encoder_precision)
    num_shards = 1 if joining is not None else number_of_shards(len(units.identities), recipe)
    stages = plan_stages(units, recipe, context, frozen, known, num_shards)

    # Encode the good images, once. Pixels are read when they are needed and not kept.
    how = stages.encoding, num_shards, fold_of_image, simulate, joining
    encoding = stages.encoding.result(lambda: encode(units, frozen, recipe, *how).tensors(), BATCH_SIZE)
    shutil.rmtree(context.run.shards, ignore_errors=True)
    good = with_views_as_others(GoodImages.of(encoding))
    del frozen, encoding  # its session holds a copy of the weights

    # Choose the memory, and what it would be without each fold; measure its spacing and scale (see PatchMemory).
    fold_of_image = dealt(good, units.identities, recipe) if fold_of_image is None else fold_of_image
    memory_state = stages.memory.result(lambda: fit_memory(good, fold_of_image, recipe, context), BATCH_SIZE)
    of_others = Lookup(memory_state.pop(f"{OF_OTHERS}distances"), memory_state.pop(f"{OF_OTHERS}indices"))
    without = taken_from(memory_state)
    scorer = build_scorer(encoder, recipe, memory_tokens=memory_state["tokens"].shape[1])
    scorer.memory.load_state_dict(memory_state)
    good = with_views_as_others(GoodImages.of(stages.encoding.reopened()))

    # Simulate defects, and train the head to find them and known ones.
    heads = dict[str, Tensor]() if joining is None or joining.head is None else joining.head
    if isinstance(scorer, ResidualScorer) and stages.head is not None:
        order = units, good, of_others, recipe, context, simulate, known
        heads = heads or stages.head.result(lambda: fit_head(scorer, *order), BATCH_SIZE)
        scorer.head.load_state_dict({name: heads[name] for name in scorer.head.state_dict()})

    # Learn how high similar-looking good images score.
    learned = stages.expectation.result(lambda: learn_expectation(scorer, good, of_others, context), BATCH_SIZE)
    scorer.restore_expectation(learned)
    scorer.expectation.label(units.products_of(good.images[good.references].tolist()))
    # Look at good images by fits that have not seen them, and set the map's scales.
    scorer.eval().to(context.compute.device)
    folds = None if fold_of_image is None else Folds(fold_of_image[good.images.long()], without, good.references)
    evidence_of, evidence = evidence_unseen(scorer, good, of_others, folds, units, recipe, context)
    counted = evidence if joining is None else joining.counted(good, evidence_of, evidence)
    scorer.fit_map_scales([counted[row] for row in evenly_spread(len(counted), recipe.memory.map_scale_images)])
    judging = scorer, good, of_others, heads, recipe, context
    without_known = partial(scorer_without_known, *judging) if known and head_decides(recipe) else None
    return Fit(scorer, good, evidence, evidence_of, folds, fold_of_image, stages.after, without_known, units.rois)


def encode(
    units: WholeImages | Tiles,
    frozen: FrozenEncoder,
    recipe: Recipe,
    stage: Stage,
    num_shards: int,
    fold_of_image: Int[Tensor, "i"] | None,
    simulate: Simulator,
    joining: Joining | None = None,
) -> GoodImages:
    """Encode all good images, or those that are new, and say what of all is kept.

    Where there are few, views of them are encoded as well; simulated defects tell which kinds of views help.
    """
    context, size_px, num_blocks = stage.context, stage.context.size_px, len(recipe.memory.blocks)
    grid, shares = frozen.encoder.grid(size_px, size_px), units.shares(frozen.encoder, recipe, size_px)
    if joining is not None:
        units, shares = joining.added, joining.shares_of_added(grid, recipe)
    count, by = plural(len(units.images), units.noun), f"{frozen.backend} in {frozen.precision}"
    say("encoder", f"{count} at {size_px} px, tokens of {num_blocks} blocks, by {by}")
    if fold_of_image is None and num_shards > 1:
        fold_of_image = dealt(None, units.identities, recipe)
    good = encode_in_shards(units, shares, frozen, recipe, stage, num_shards, fold_of_image)
    if joining is None:
        good = with_views(good, units, frozen, recipe, context, simulate)
    else:
        good = joined_with_views(joining, good, frozen, recipe, context)
    num_bytes = sum(tensor.nbytes for tensor in good.tensors().values())
    say(
        "encoder",
        f"keeps the tokens of {plural(len(good.references), units.noun)} in the run: {num_bytes / 1e6:,.0f} MB",
    )
    return good


# ---- choose the memory, measure spacing and scale


def dealt(good: GoodImages | None, identities: Sequence[Identity], recipe: Recipe) -> Int[Tensor, "i"] | None:
    """The fold of each image; None where the recipe wants no threshold, and of a single image.

    Few images have a fold each, as far as they have nothing in common. Images in shards are dealt before they are
    encoded (``good`` is then None), because the cores depend on it; nearly identical ones are moved afterwards.
    """
    count = recipe.calibration.folds
    if len(identities) < FEW:
        count = len(identities) if count and len(identities) > 1 else 0
    if not count:
        return None
    if good is None or good.is_of_shards:
        before = deal_with([], identities, count, recipe.seed)
        return before if good is None else moved_together(before, near_identical(good), identities)
    return deal(good, identities, count, recipe.seed)


def fit_memory(
    good: GoodImages, fold_of_image: Int[Tensor, "i"] | None, recipe: Recipe, context: StageContext
) -> dict[str, Tensor]:
    """Keep the tokens of each block that cover all others best, and measure how far good tokens lie apart.

    Each reference image is looked up once, without its own tokens. That lookup sets the scale here; the expectation and
    the head are fitted to it later.

    Returns:
        the memory's state, the lookup, and what is in the memory without each fold.
    """
    settings = recipe.memory
    num_candidates, num_blocks, dim = good.candidates.shape
    kept = min(settings.tokens, num_candidates)
    say("memory", f"keeps {kept:,} of {num_candidates:,} tokens of each block")
    memory = PatchMemory(num_blocks, kept, dim, recipe.encoder_precision).to(context.compute.device)
    choosing = replace(choosing_by(recipe, fold_of_image, context), size=kept)
    chosen, of_folds = choosing.choose(good.candidates, good.sources)
    without = [torch.stack(of_blocks).int() for of_blocks in of_folds]
    memory.fill(good.candidates, good.sources, torch.stack(chosen))
    memory.fit_spacing(settings.spacing_neighbours)
    say("memory", f"compares {plural(len(good.references), 'good image')} with the tokens of the others")
    of_others = lookup_of_others(memory, good)
    memory.fit_scale(of_others, good.references_inside)
    lookup = {f"{OF_OTHERS}distances": of_others.distances, f"{OF_OTHERS}indices": of_others.indices}
    return {**memory.state_dict(), **lookup, **{f"{WITHOUT_FOLD}{fold}": tokens for fold, tokens in enumerate(without)}}


def taken_from(memory_state: dict[str, Tensor]) -> tuple[Int[Tensor, "l _"], ...]:
    """What is in the memory without each fold; it is taken out of the stage's result."""
    names = [name for name in memory_state if name.startswith(WITHOUT_FOLD)]
    return tuple(memory_state.pop(f"{WITHOUT_FOLD}{fold}").long() for fold in range(len(names)))


@torch.no_grad()
def lookup_of_others(memory: PatchMemory, good: GoodImages) -> Lookup:
    """For all tokens of the reference images, the nearest tokens of other images."""
    device, (_, patches, num_blocks, dim) = memory.unit.device, good.reference_tokens.shape
    per_token = bytes_per_query(memory.unit.shape[1], dim) + 4 * COPIES * num_blocks * dim
    at_once = ImagesAtOnce.on(device.type, patches * per_token, BATCH_SIZE)

    def in_batches(size: int) -> Lookup:
        found = []
        for tokens, numbers in zip(
            good.reference_tokens.split(size), good.images[good.references].split(size), strict=True
        ):
            found.append(memory.lookup(to_device(tokens, device), numbers))
            release_pages(tokens)
        return Lookup(torch.cat([part.distances for part in found]), torch.cat([part.indices.int() for part in found]))

    return at_once.run(in_batches)


# ---- simulate defects, train the head


def fit_head(
    scorer: ResidualScorer,
    units: WholeImages | Tiles,
    good: GoodImages,
    of_others: Lookup,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
    known: DefectsToLearn | None = None,
) -> dict[str, Tensor]:
    """Train the head on good images with simulated defects, placed by attention, and on known ones.

    Returns:
        the head's state; where known defects are judged by it, those of heads that have not seen some of them.
    """
    settings = recipe.residual
    for_crops_px = round(context.size_px * crop_margin(settings.augmentation))  # so that crops stay sharp
    pixels = units.pixels(for_crops_px, PIXELS_KEPT_BYTES)
    attention = good.attention.float().numpy()
    made = context.size_px, settings.augmentation, simulate, context.seed
    defects = SimulationDataset(pixels, attention, *made, pixels.inside)
    return train_head(scorer, good, of_others, defects, settings, context, known, head_decides(recipe))


def scorer_without_known(
    scorer: TokenScorer,
    good: GoodImages,
    of_others: Lookup,
    heads: Mapping[str, Tensor],
    recipe: Recipe,
    context: StageContext,
    fold: int,
) -> TokenScorer:
    """The scorer with a head that has not seen the known defects of a fold; expectation and scales are fitted to it."""
    assert isinstance(scorer, ResidualScorer)
    prefix = without_fold(fold)
    other = scorer.with_head({n.removeprefix(prefix): heads[n] for n in heads if n.startswith(prefix)})
    other.restore_expectation(learn_expectation(other, good, of_others, context))
    other.eval().to(context.compute.device)
    rows = evenly_spread(len(good.references), recipe.memory.map_scale_images)
    other.fit_map_scales(reference_evidence(other, good, of_others, rows))
    for own, of_model in zip([*other.map_scales][:-1], [*scorer.map_scales][:-1], strict=True):
        own.load_state_dict(of_model.state_dict())  # of the memory, which is the same
    return other


# ---- learn how high similar-looking good images score


def learn_expectation(
    scorer: TokenScorer, good: GoodImages, of_others: Lookup, context: StageContext
) -> dict[str, Tensor]:
    """Score the reference images, each compared with the tokens of the others; returns what the scorer learned."""
    say("expected", f"scores {plural(len(good.references), 'good image')}, each without its own tokens in the memory")
    device = context.compute.device
    scorer.eval().to(device)
    # Image by image on a processor, where a batch gains nothing and its nearest tokens take much memory.
    at_once, of_images = ImagesAtOnce.on(device, scorer.bytes_per_image(context.size_px)), good.images[good.references]

    def recalled(rows: Tensor) -> tuple[Tensor, Nearest]:
        tokens, distances, indices = (
            to_device(of_all[rows], device)
            for of_all in (good.reference_tokens, of_others.distances, of_others.indices)
        )
        release_pages(good.reference_tokens)
        return tokens.float(), scorer.memory.recalled(Lookup(distances, indices))

    def in_batches(size: int) -> None:
        batches = map(recalled, torch.arange(len(good.references)).split(size))
        scorer.fit_expectation(good.reference_appearances.to(device), of_images, batches, good.references_inside)

    at_once.run(in_batches)
    return scorer.cpu().expectation_state()


# ---- score good images for the threshold


def evidence_unseen(
    scorer: TokenScorer,
    good: GoodImages,
    of_others: Lookup,
    folds: Folds | None,
    units: WholeImages | Tiles,
    recipe: Recipe,
    context: StageContext,
) -> tuple[Sequence[int], list[Evidence]]:
    """Rows of reference images, and the evidence in each: by fits without their folds, or by the tokens of the others.

    Without folds, nothing but scales is set from it: of whole images, some are enough.
    """
    if folds is None:
        num_references = len(good.references)
        rows = range(num_references) if units.name else evenly_spread(num_references, recipe.memory.map_scale_images)
        return rows, reference_evidence(scorer, good, of_others, rows)
    scored = plural(len(good.references), f"good {units.noun}")
    say(f"{units.name}folds", f"scores {scored}, each without the images of its fold")
    at_once = ImagesAtOnce.on(context.compute.device, scorer.bytes_per_image(context.size_px))
    evidence = evidence_out_of_fold(scorer, good, folds, recipe.memory.spacing_neighbours, at_once)
    return range(len(evidence)), evidence


@torch.no_grad()
def reference_evidence(scorer: TokenScorer, good: GoodImages, of_others: Lookup, rows: Sequence[int]) -> list[Evidence]:
    """The evidence of reference images, each compared with the tokens of the others; without folds it sets scales."""
    device, evidence = scorer.memory.unit.device, []
    for row in rows:
        of_row = slice(row, row + 1)
        lookup = Lookup(of_others.distances[of_row].to(device), of_others.indices[of_row].to(device))
        tokens = good.reference_tokens[of_row].to(device).float()
        appearance = good.reference_appearances[of_row].to(device)
        inside = None if good.references_inside is None else good.references_inside[of_row].to(device)
        evidence.append(scorer.evidence_in(appearance, tokens, scorer.memory.recalled(lookup), inside))
    return evidence

"""With few good images, their views fill the memory, as far as the good images themselves say that these help.

A new good part may lie otherwise, or be lit otherwise, than the few that are known. Then a view of a known one is
nearer to it than they are. But a view may also be near to a defect, such as a part that lies the wrong way. So each
good image is compared with the others, and once more with the others and one kind of their views; and the same is done
with simulated defects on it. A kind of views helps if good images come nearer by more than their defects do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.memory.appearance import AppearanceAndTokens
from flawmap.memory.folds import deal
from flawmap.memory.good_images import BATCH_SIZE, GoodImages
from flawmap.memory.inside import top_mean
from flawmap.memory.joined import Joining, joined
from flawmap.memory.shifts import shifts_within
from flawmap.memory.units import Tiles, WholeImages
from flawmap.memory.views import FEW, KIND_OF_VIEW, SAFE, VIEWS, possible_kinds, views_of, views_within
from flawmap.recipe.settings import NormalAugmentation, Recipe
from flawmap.simulators.by_name import Simulator
from flawmap.simulators.dataset import SimulationDataset
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import normal_batches, normalise

DEFECTS = 40  # simulated on all good images together, at least two on each
BY_CHANCE = 0.1  # how often views seem to help, or to harm, that do neither
AT_ONCE = 8192  # tokens that others are compared with at once
ANOTHER = 1  # number of the image that the views of a single good image stand in for
UNCHANGED = NormalAugmentation(min_crop=1.0, horizontal_flip=False, jitter=0.0)


@dataclass(frozen=True)
class ViewTokens:
    """Tokens of views of good images, float16.

    Attributes:
        tokens: of l blocks.
        sources: number of the image that each is of.
        views: number of the view, in :data:`flawmap.memory.views.VIEWS`.
    """

    tokens: Float[Tensor, "m l d"]
    sources: Int[Tensor, "m"]
    views: Int[Tensor, "m"]

    def some(self, kept: Bool[Tensor, "m"]) -> "ViewTokens":
        """Some of them."""
        return ViewTokens(self.tokens[kept], self.sources[kept], self.views[kept])


def with_views(
    good: GoodImages,
    units: WholeImages | Tiles,
    frozen: FrozenEncoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
) -> GoodImages:
    """Add tokens of views to the candidates for the memory, where there are few images and room.

    Args:
        good: the images themselves, or tiles of them.
        units: the same, to be read. They say which views are tried; None: those of all kinds that help.
        frozen: the encoder.
        recipe: says which tokens, and how many candidates there may be.
        context: device, image size and seed.
        simulate: makes defects.
    """
    num_images, wanted = len(units.identities), units.views
    if num_images >= FEW:
        return good
    if wanted is None:
        wanted = views_of(SAFE if num_images == 1 else possible_kinds(good.originals_px))
    numbers = views_that_fit(wanted, len(good.images), frozen, recipe, context)
    views = encode_views(good, units, frozen, numbers, recipe, context)
    if units.views is None and num_images == 1:
        say("views", f"of the only image: {in_words(numbers)}; one image cannot tell whether these or others help")
    elif units.views is None:
        gains = gains_of_kinds(good, views, units, frozen, recipe, context, simulate)
        kept = views_of(kinds_that_help(gains))
        say("views", described(gains, kinds_that_help(gains)))
        views = views.some(torch.isin(views.views, torch.tensor(kept, dtype=torch.int64)))
    return with_tokens(good, views)


def joined_with_views(
    joining: Joining, added: GoodImages, frozen: FrozenEncoder, recipe: Recipe, context: StageContext
) -> GoodImages:
    """The images of before and new ones: with the views of before of both, as long as there are few of them.

    Which views help is not asked again, because the images of before need not exist any more.

    Args:
        joining: says what was before.
        added: what the encoder gives for the new ones.
        frozen, recipe, context: as for :func:`with_views`.
    """
    before, wanted = joining.before, joining.before.numbers_of_views
    plain = joined(replace(joining, before=without_views(before)), added, recipe)
    if joining.num_images >= FEW or not wanted:
        return plain
    numbers = views_that_fit(wanted, len(plain.images), frozen, recipe, context)
    earlier, new = views_among(before), encode_views(added, joining.added, frozen, numbers, recipe, context)
    earlier = earlier.some(torch.isin(earlier.views, torch.tensor(numbers, dtype=torch.int32)))
    say("views", f"as before: {in_words(numbers)}")
    both = ViewTokens(
        torch.cat([earlier.tokens, new.tokens]),
        torch.cat([earlier.sources, new.sources + joining.num_before]),
        torch.cat([earlier.views, new.views]),
    )
    return with_tokens(plain, both)


def without_views(good: GoodImages) -> GoodImages:
    """The same, with no candidates from views."""
    if good.views is None:
        return good
    count = int((good.views < 0).sum())  # views come last
    return replace(good, candidates=good.candidates[:count], sources=good.sources[:count], views=None)


def views_among(good: GoodImages) -> ViewTokens:
    """The candidates that are of views."""
    assert good.views is not None
    count = int((good.views < 0).sum())
    return ViewTokens(good.candidates[count:], good.sources[count:], good.views[count:])


def views_that_fit(
    wanted: Sequence[int], num_units: int, frozen: FrozenEncoder, recipe: Recipe, context: StageContext
) -> tuple[int, ...]:
    """The views of so many images, or tiles, for whose tokens there is room among the candidates."""
    grid, memory = frozen.encoder.grid(context.size_px, context.size_px), recipe.memory
    shifts = shifts_within(memory.candidates, num_units, grid, memory.shifts)
    return views_within(memory.candidates, num_units, grid, shifts, wanted)


def with_tokens(good: GoodImages, views: ViewTokens) -> GoodImages:
    """Good images whose views give candidates, too."""
    return replace(
        good,
        candidates=torch.cat([good.candidates, views.tokens]),
        sources=torch.cat([good.sources, views.sources]).int(),
        views=torch.cat([torch.full_like(good.sources, -1), views.views]).int(),
    )


def with_views_as_others(good: GoodImages) -> GoodImages:
    """Good images; where there is only one, its views stand in for others, so that it can be compared with them."""
    if good.views is None or int(good.images.max()) > 0:
        return good
    return replace(good, sources=torch.where(good.views >= 0, ANOTHER, good.sources))


def in_words(numbers: Sequence[int]) -> str:
    """How many views there are of each kind."""
    kinds = [KIND_OF_VIEW[number] for number in numbers]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "none"


# ---- encode views


@torch.no_grad()
def encode_views(
    good: GoodImages,
    units: WholeImages | Tiles,
    frozen: FrozenEncoder,
    numbers: Sequence[int],
    recipe: Recipe,
    context: StageContext,
) -> ViewTokens:
    """Encode so many views of each image, or tile; patches that see beyond the image's border are left out."""
    encoder, device = frozen.encoder, context.compute.device
    taken = AppearanceAndTokens(encoder, recipe)
    grid = encoder.grid(context.size_px, context.size_px)
    at_once = ImagesAtOnce.on(device, encoder.bytes_per_image(context.size_px, len(taken.wanted)), BATCH_SIZE)
    tokens, sources, views = [good.candidates[:0]], [], []
    for units_of_batch, images in normal_batches(units.pixels(context.size_px), context.size_px, at_once.size, device):
        inside = torch.ones(len(images), grid[0] * grid[1], dtype=torch.bool)
        if good.inside is not None:
            inside = good.inside[units_of_batch.start : units_of_batch.stop]
        for number in numbers:
            counted = VIEWS[number].counted(inside, grid)
            seen = None if good.inside is None else counted.to(device)
            found = at_once.run(partial(_tokens_of_view, frozen, taken, images, number, seen))
            of_batch = good.images[units_of_batch.start : units_of_batch.stop]
            tokens.append(found[counted])
            sources.append(of_batch.repeat_interleave(counted.sum(dim=1)))
            views.append(torch.full((len(tokens[-1]),), number))
    nothing = torch.zeros(0, dtype=torch.int64)
    return ViewTokens(torch.cat(tokens), torch.cat([nothing, *sources]), torch.cat([nothing, *views]))


def _tokens_of_view(
    frozen: FrozenEncoder,
    taken: AppearanceAndTokens,
    images: Float[Tensor, "b 3 s s"],
    number: int,
    seen: Bool[Tensor, "b n"] | None,
    at_once: int,
) -> Float[Tensor, "b n l d"]:
    masks = [None] * len(images.split(at_once)) if seen is None else seen.split(at_once)
    parts = [
        # a view may show nothing that counts; its tokens are then not taken
        taken.tokens_of(frozen, VIEWS[number].images(some), None if mask is None else mask).nan_to_num()
        for some, mask in zip(images.split(at_once), masks, strict=True)
    ]
    return torch.cat(parts).half().cpu()


# ---- which kinds of views help


@torch.no_grad()
def gains_of_kinds(
    good: GoodImages,
    views: ViewTokens,
    units: WholeImages | Tiles,
    frozen: FrozenEncoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
) -> dict[str, Float[np.ndarray, "k"]]:
    """For each kind of views, what it adds to the contrast of each image.

    The contrast is how much higher an image scores with a simulated defect than without it: the difference of the
    logarithms. Scores are the mean over the highest distances to tokens of other images, as in detection but without
    scales. An image is compared neither with those of its group nor with nearly identical ones.
    """
    device, share = context.compute.device, recipe.memory.image_share
    fold_of_image = deal(good, units.identities, len(units.identities), recipe.seed)
    numbers = views.views.unique().tolist()
    kinds = {kind: torch.tensor(views_of([kind])) for kind in dict.fromkeys(KIND_OF_VIEW[n] for n in numbers)}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    defects = _defects_on(good, units, recipe, context, simulate)
    for row, number in enumerate(good.references.tolist()):
        with_defects = _encoded_defects(good, defects, number, frozen, recipe, context)
        if with_defects is None:
            continue
        inside = None if good.references_inside is None else good.references_inside[row]
        images = torch.cat([good.reference_tokens[row : row + 1], with_defects]).to(device).float()  # (1 + k, p, l, d)
        is_other = fold_of_image != fold_of_image[number]
        others = good.candidates[is_other[good.sources.long()]]
        near = nearest(images, others)  # (1 + k, p, l)
        before = _contrast(near, share, inside)
        views_of_others = views.some(is_other[views.sources.long()])
        for kind, of_kind in kinds.items():
            added = views_of_others.tokens[torch.isin(views_of_others.views, of_kind)]
            found[kind].append(_contrast(torch.minimum(near, nearest(images, added)), share, inside) - before)
    return {kind: np.array(gains) for kind, gains in found.items()}


def kinds_that_help(gains: dict[str, Float[np.ndarray, "k"]]) -> tuple[str, ...]:
    """The kinds of views to keep, by Student's t-test of their gains over the images.

    Good parts often differ by what :data:`flawmap.memory.views.SAFE` views show. These are kept unless they harm by
    more than chance, as far as so few images tell. Others can show a defect, such as a part that lies the wrong way.
    They are kept only if they help by more than chance.
    """
    from scipy.stats import t as student

    kept = []
    for kind, of_images in gains.items():
        count, mean, margin = len(of_images), 0.0, np.inf
        if count > 1:
            mean, error = float(of_images.mean()), float(of_images.std(ddof=1)) / count**0.5
            margin = float(student.ppf(1 - BY_CHANCE, count - 1)) * error
        if mean > margin or (kind in SAFE and mean >= -margin):
            kept.append(kind)
    return tuple(kept)


def described(gains: dict[str, Float[np.ndarray, "k"]], kept: Sequence[str]) -> str:
    """What was found, in words."""
    parts = [
        f"{kind} {np.expm1(of_images.mean()):+.1%}{' (kept)' if kind in kept else ''}" if len(of_images) else kind
        for kind, of_images in gains.items()
    ]
    return f"contrast of simulated defects on good images with each kind: {', '.join(parts)}"


def nearest(tokens: Float[Tensor, "b p l d"], others: Float[Tensor, "n l d"]) -> Float[Tensor, "b p l"]:
    """1 - cosine similarity to the nearest of the others, in each block; 2 where there are none."""
    b, p, num_blocks, _ = tokens.shape
    unit = F.normalize(tokens, dim=-1).flatten(0, 1)  # (b p, l, d)
    highest = unit.new_full((b * p, num_blocks), -1.0)
    for some in others.split(AT_ONCE) if len(others) else ():
        some = F.normalize(some.to(unit), dim=-1)  # (m, l, d)
        for block in range(num_blocks):
            found = (unit[:, block] @ some[:, block].T).amax(dim=1)
            highest[:, block] = torch.maximum(highest[:, block], found)
    return (1 - highest).reshape(b, p, num_blocks)


def _contrast(near: Float[Tensor, "b p l"], share: float, inside: Bool[Tensor, "p"] | None) -> float:
    """How much higher images with defects score than the first one, without: the difference of the logarithms."""
    patches = near.mean(dim=2)  # (1 + k, p)
    mask = None if inside is None else inside.to(patches.device).expand_as(patches)
    scores = top_mean(patches, share, mask).clamp(min=1e-6).log()  # (1 + k,)
    return float(scores[1:].mean() - scores[0])


def _defects_on(
    good: GoodImages, units: WholeImages | Tiles, recipe: Recipe, context: StageContext, simulate: Simulator
) -> SimulationDataset:
    pixels, attention = units.pixels(context.size_px), good.attention.float().numpy()
    return SimulationDataset(pixels, attention, context.size_px, UNCHANGED, simulate, context.seed, pixels.inside)


def _encoded_defects(
    good: GoodImages,
    defects: SimulationDataset,
    number: int,
    frozen: FrozenEncoder,
    recipe: Recipe,
    context: StageContext,
) -> Float[Tensor, "k p l d"] | None:
    """Tokens of an image with a simulated defect, for each of several; None where none of them changed it."""
    device = context.compute.device
    items = [defects[turn, number] for turn in range(max(2, round(DEFECTS / len(defects))))]
    images = [item["anomalous"] for item in items if item["footprint"].any()]
    taken = AppearanceAndTokens(frozen.encoder, recipe)
    inside = None if good.inside is None else good.inside[number : number + 1].to(device)
    tokens = [taken.tokens_of(frozen, normalise(image[None].to(device)), inside).half().cpu() for image in images]
    return torch.cat(tokens) if tokens else None

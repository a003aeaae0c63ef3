"""Good images encoded in shards: each gives the tokens of its references, and of its candidates a core.

A process that encodes a shard holds no more than the limits of the recipe allow for all images, and what it gives has
about the size of its core; of an image itself there is less than a kilobyte. One shard gives what all images give.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from flawmap.data.images.files import ImageReader
from flawmap.engine.elsewhere import here
from flawmap.engine.loggers import NO_LOGGERS
from flawmap.engine.progress import duration, say
from flawmap.engine.stage import Stage, StageContext, return_freed_memory
from flawmap.engine.tensor_files import read_tensors, write_tensors
from flawmap.memory.candidates import Shares
from flawmap.memory.good_images import GoodImages, encode_good_images
from flawmap.memory.shard_cores import Choosing, Core
from flawmap.memory.units import Tiles, WholeImages
from flawmap.memory.views import FEW
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.frozen_encoder import FrozenEncoder

IMAGES_PER_SHARD = 4000  # where the recipe does not say how many shards there are


@dataclass(frozen=True)
class Shard:
    """Some of the good images.

    Attributes:
        units: they, or their tiles.
        shares: of their tokens; numbers of references are those within the shard.
        first_image: number of the first one among all images.
        first_unit: the same of units.
        choosing: how the core is chosen; None where this is the only shard, of which all candidates are kept.
    """

    units: WholeImages | Tiles
    shares: Shares
    first_image: int
    first_unit: int
    choosing: Choosing | None


def number_of_shards(num_images: int, recipe: Recipe) -> int:
    """As many as the recipe says, or as :data:`IMAGES_PER_SHARD` asks for; each has 20 images or more."""
    wanted = recipe.memory.shards or -(-num_images // IMAGES_PER_SHARD)
    return max(1, min(wanted, num_images // FEW))


def shards_of(
    units: WholeImages | Tiles, shares: Shares, grid: tuple[int, int], recipe: Recipe, choosing: Choosing, count: int
) -> list[Shard]:
    """The images in their order, in so many parts that are as equal as possible.

    Args:
        units: all of them.
        shares: of all of them. References and shifts stay; the limit of candidates holds for each shard on its own.
        grid: rows and columns of patches.
        recipe: sets that limit.
        choosing: how cores are chosen.
        count: of shards.
    """
    num_images, units_of = len(units.identities), torch.bincount(units.images, minlength=len(units.identities))
    if count == 1:
        return [Shard(units, shares, 0, 0, None)]
    ends = [0, *units_of.cumsum(dim=0).tolist()]  # of each image's units
    references, shards = torch.tensor(shares.references), []
    for number in range(count):
        images = range(num_images * number // count, num_images * (number + 1) // count)
        first, last = ends[images.start], ends[images.stop]
        own = references[(references >= first) & (references < last)] - first
        per_image = Shares.of(last - first, grid, recipe).per_image
        share = Shares(per_image, tuple(own.tolist()), shares.shifts)
        shards.append(Shard(units.part(images), share, images.start, first, choosing.of_part(images)))
    return shards


def choosing_by(recipe: Recipe, fold_of_image: Int[Tensor, "i"] | None, context: StageContext) -> Choosing:
    """How the memory's tokens are chosen, from a shard and from all cores."""
    memory = recipe.memory
    return Choosing(memory.tokens, fold_of_image, memory.projection_dim, context.seed, context.compute.device)


def encode_shard(
    shard: Shard, read: ImageReader, frozen: FrozenEncoder, recipe: Recipe, context: StageContext
) -> dict[str, Tensor]:
    """What the encoder gives for a shard, and a core of its candidates; images are numbered among all."""
    units, grid = shard.units, frozen.encoder.grid(context.size_px, context.size_px)
    pixels = units.pixels(context.size_px, read=read)
    good = encode_good_images(frozen, pixels, recipe, context, shard.shares, units.inside(grid))
    sources = units.images[good.sources.long()]
    good = replace(good, images=units.images, originals_px=torch.from_numpy(pixels.originals_px), sources=sources)
    if shard.choosing is None:
        return good.tensors()
    core = Core.of(good.candidates, good.sources, shard.choosing)
    return replace(
        good,
        references=good.references + shard.first_unit,
        candidates=core.tokens,
        sources=core.sources + shard.first_image,
        images=good.images + shard.first_image,
    ).tensors()


def encode_in_shards(
    units: WholeImages | Tiles,
    shares: Shares,
    frozen: FrozenEncoder,
    recipe: Recipe,
    stage: Stage,
    count: int,
    fold_of_image: Int[Tensor, "i"] | None,
) -> GoodImages:
    """Encode every image once, in ``count`` shards; those that the run holds already are not encoded again.

    Args:
        units: all of them.
        shares: of which tokens are kept.
        frozen: the encoder.
        recipe: says which blocks' tokens are needed, and sets the limits.
        stage: of the result.
        count: of shards.
        fold_of_image: as it was dealt before the images are encoded; None where there are no folds.
    """
    context, grid = stage.context, frozen.encoder.grid(*[stage.context.size_px] * 2)
    choosing = choosing_by(recipe, fold_of_image, context)
    shards = shards_of(units, shares, grid, recipe, choosing, count)
    if count == 1:
        ((_, tensors),) = _results(shards, frozen, recipe, context)
        return GoodImages.of(tensors)
    paths = [context.run.shard(stage.name, stage.key, number) for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    say("shards", f"{count}, of up to {max(len(shard.units.identities) for shard in shards):,} images")
    num_images, done, started = sum(len(shards[number].units.identities) for number in missing), 0, time.monotonic()
    for answered, (number, tensors) in enumerate(_results([shards[n] for n in missing], frozen, recipe, context), 1):
        context.run.shards.mkdir(parents=True, exist_ok=True)
        write_tensors(paths[missing[number]], tensors)
        del tensors
        done += len(shards[missing[number]].units.identities)
        rate = done / (time.monotonic() - started)
        left = duration((num_images - done) / rate)
        say("shards", f"{answered} of {len(missing)}: {done:,} images, {rate:.1f} per second, {left} left")
    parts = [GoodImages.of(read_tensors(path)) for path in paths]
    cores = [Core(part.candidates, part.sources) for part in parts]
    return _joined(parts, Core.joined(cores, recipe.memory.candidates, choosing))


def _joined(parts: Sequence[GoodImages], core: Core) -> GoodImages:
    insides = [part.inside for part in parts if part.inside is not None]
    return GoodImages(
        attention=torch.cat([part.attention for part in parts]),
        references=torch.cat([part.references for part in parts]),
        reference_appearances=torch.cat([part.reference_appearances for part in parts]),
        reference_tokens=torch.cat([part.reference_tokens for part in parts]),
        candidates=core.tokens,
        sources=core.sources,
        images=torch.cat([part.images for part in parts]),
        originals_px=torch.cat([part.originals_px for part in parts]),
        inside=torch.cat(insides) if insides else None,
    )


def _results(
    shards: Sequence[Shard], frozen: FrozenEncoder, recipe: Recipe, context: StageContext
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The place of each shard among these with its result, as they are done, here or elsewhere."""
    travels = replace(context, run=RunFolder(Path()), loggers=NO_LOGGERS, elsewhere=None)
    work = partial(encode_shard, frozen=frozen, recipe=recipe, context=travels)
    for number, tensors in (context.elsewhere or here)(work, shards):
        yield number, tensors
        del tensors
        return_freed_memory()

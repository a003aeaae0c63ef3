"""A fit that goes on from an earlier one: new good images join those that the scorer was fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from flawmap.data.rois import rois_of
from flawmap.data.sample import KnownDefect, NormalImage
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import fit_units
from flawmap.memory.fitted import unseen_scores
from flawmap.memory.good_images import GoodImages
from flawmap.memory.joined import Joining
from flawmap.memory.known_defects import DefectsToLearn
from flawmap.memory.scorer import ResidualScorer, TokenScorer
from flawmap.memory.tiled_fit import joined_scores
from flawmap.memory.tiled_scorer import TiledScorer, settings_of_tiles
from flawmap.memory.units import Tiles, WholeImages
from flawmap.recipe.settings import Recipe
from flawmap.scorer import FittedScorer
from flawmap.simulators.by_name import Simulator


@dataclass(frozen=True)
class Learned:
    """What a scorer was fitted to.

    Attributes:
        images: of the fit; their files need not exist any more.
        not_counted: numbers of those that set neither scales nor threshold, because they were chosen for their scores.
        whole: what the encoder gave for them.
        tiles: the same of their tiles; None without tiles.
    """

    images: tuple[NormalImage, ...]
    not_counted: frozenset[int]
    whole: GoodImages
    tiles: GoodImages | None = None


def fit_on(
    scorer: TokenScorer | TiledScorer,
    learned: Learned,
    new: tuple[NormalImage, ...],
    not_counted: bool,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
    trains_head: bool = False,
    defects: Sequence[KnownDefect] = (),
) -> tuple[FittedScorer, Learned]:
    """Fit memory, expectation and scales again, to the images of before and to new ones; the head may stay.

    Args:
        scorer: of the earlier fit, which is left as it is.
        learned: what that was fitted to; these images are read where a head is trained, and else need not exist.
        new: images.
        not_counted: whether the new ones set neither scales nor threshold.
        recipe: of the earlier fit.
        context: of the new fit.
        simulate: makes the defects that a head learns from.
        trains_head: whether another head is trained on all images; otherwise it stays.
        defects: known ones, which another head learns from as well.

    Returns:
        the scorer, with what all images score by fits that have not seen them; and what it was fitted to.

    Raises:
        UserError: an image cannot be decoded, or the device runs out of memory.
    """
    rois, images, first = rois_of(recipe), (*learned.images, *new), len(learned.images)
    excluded = learned.not_counted | frozenset(range(first, len(images)) if not_counted else ())
    of_whole = scorer.whole if isinstance(scorer, TiledScorer) else scorer
    head = None if trains_head else _head_of(of_whole)
    joining = Joining(learned.whole, first, WholeImages(new, rois), head, excluded)
    known = DefectsToLearn(tuple(defects), rois) if defects else None
    how = of_whole.encoder, recipe, context, simulate
    whole = fit_units(WholeImages(images, rois), *how, joining=joining, known=known)
    if not isinstance(scorer, TiledScorer):
        fitted = FittedScorer(whole.scorer, dict(whole.context.earlier), unseen_scores(whole, recipe))
        return fitted, Learned(images, excluded, whole.good)
    assert learned.tiles is not None
    originals_px, of_tiles = whole.good.originals_px.numpy(), settings_of_tiles(recipe)
    added = Tiles(new, originals_px[first:], scorer.tiling, rois)
    head = None if trains_head else _head_of(scorer.tiles)
    joining = Joining(learned.tiles, first, added, head, excluded)
    units = Tiles(images, originals_px, scorer.tiling, rois)
    in_tiles = replace(known, tiling=scorer.tiling) if known else None
    dealt = whole.fold_of_image
    tiles = fit_units(units, of_whole.encoder, of_tiles, whole.context, simulate, dealt, joining, in_tiles)
    updated = TiledScorer(whole.scorer, tiles.scorer, context.size_px).eval()
    updated.scale.copy_(scorer.scale)
    updated.to(context.compute.device)
    unseen = joined_scores(updated, whole, tiles, recipe, excluded)
    fitted = FittedScorer(updated, dict(tiles.context.earlier), unseen)
    return fitted, Learned(images, excluded, whole.good, tiles.good)


def _head_of(scorer: TokenScorer) -> dict[str, Tensor] | None:
    return dict(scorer.head.state_dict()) if isinstance(scorer, ResidualScorer) else None

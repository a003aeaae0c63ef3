"""The recommended method on whole images and on their tiles: :mod:`flawmap.memory.fit` twice, and what joins them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from flawmap.data.images.tiles import FINER, MOST_TILES, OVERLAP, Tiling, finest_tiling, tiling_for_defects
from flawmap.data.rois import rois_of
from flawmap.data.sample import KnownDefect, NormalImage
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.errors import UserError
from flawmap.memory.fit import fit_units
from flawmap.memory.fitted import Fit, outputs_of, peak_of, unseen_scores
from flawmap.memory.known_defects import DefectsToLearn, unseen_defects
from flawmap.memory.tiled_scorer import MAP_SHARES, TiledScorer, settings_of_tiles
from flawmap.memory.units import Tiles, WholeImages
from flawmap.recipe.settings import Recipe
from flawmap.scorer import FittedScorer, ScaleResult, UnseenScores, average_maps
from flawmap.simulators.by_name import Simulator
from flawmap.vit.encoder import Encoder

NONE_NEEDED = "none: the whole images show the smallest defect"
NONE_FINER = f"none: {MOST_TILES} tiles per image would not show {FINER} times as much as the whole image"


def fit_with_tiles(
    images: Sequence[NormalImage],
    encoder: Encoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
    defects: Sequence[KnownDefect] = (),
) -> FittedScorer:
    """Fit a scorer to whole images and, where tiles show more, one to tiles; see :func:`flawmap.memory.fit.fit`."""
    refuse_small_tiles(context.size_px, encoder.patch_size_px)
    rois = rois_of(recipe)
    known = DefectsToLearn(tuple(defects), rois) if defects else None
    whole = fit_units(WholeImages(images, rois), encoder, recipe, context, simulate, known=known)
    originals_px = whole.good.originals_px.numpy()
    tiling = chosen_tiling(recipe, originals_px, context.size_px, encoder.patch_size_px)
    if tiling is None:
        say("tiles", NONE_NEEDED if recipe.data.smallest_defect_px else NONE_FINER)
        not_seen = unseen_defects(known, whole.scorer, whole.without_known) if known else None
        return FittedScorer(whole.scorer, dict(whole.context.earlier), unseen_scores(whole, recipe), not_seen)
    units = Tiles(images, originals_px, tiling, rois, whole.good.numbers_of_views)
    say("tiles", described(tiling, units.counts))
    in_tiles = replace(known, tiling=tiling) if known else None
    of_tiles, dealt = settings_of_tiles(recipe), whole.fold_of_image
    tiles = fit_units(units, encoder, of_tiles, whole.context, simulate, dealt, known=in_tiles)
    scorer = TiledScorer(whole.scorer, tiles.scorer, context.size_px).eval()
    scorer.scale.fill_(tiling.scale)
    scorer.to(context.compute.device)
    unseen = joined_scores(scorer, whole, tiles, recipe)
    not_seen = unseen_defects(known, scorer, both_without_known(scorer, whole, tiles)) if known else None
    return FittedScorer(scorer, dict(tiles.context.earlier), unseen, not_seen)


def both_without_known(scorer: TiledScorer, whole: Fit, tiles: Fit) -> Callable[[int], TiledScorer] | None:
    """The scorer as if no head had seen the known defects of a fold; None where heads decide nothing."""
    of_whole, of_tiles = whole.without_known, tiles.without_known
    if of_whole is None or of_tiles is None:
        return None
    return lambda fold: scorer.with_parts(of_whole(fold), of_tiles(fold))


def refuse_small_tiles(size_px: int, patch_size_px: int) -> None:
    """Raises: UserError: a tile would have too few patches to overlap its neighbours."""
    side = size_px // patch_size_px
    if side <= OVERLAP:
        problem = f"a tile of {size_px} px has {side} patches a side, and neighbouring tiles share {OVERLAP}"
        remedy = f"--set data.image_size_px={4 * patch_size_px} or more, or --set data.tiles=none"
        raise UserError(problem, "data.image_size_px", remedy)


def chosen_tiling(recipe: Recipe, originals_px: np.ndarray, size_px: int, patch_size_px: int) -> Tiling | None:
    """How images are cut: as the recipe or the smallest defect asks for, or as finely as the time allows.

    Raises:
        UserError: tiles of the size that the recipe asks for show less than the whole image.
    """
    side = size_px // patch_size_px
    sizes_px = [(int(height), int(width)) for height, width in originals_px]
    if (smallest_px := recipe.data.smallest_defect_px) is not None:
        return tiling_for_defects(smallest_px, sizes_px, side, patch_size_px)
    if recipe.data.tiles == "auto":
        return finest_tiling(sizes_px, side, patch_size_px)
    tiling = Tiling(float(np.float32(size_px / int(recipe.data.tiles))), side, patch_size_px)
    if all(tiling.count(*size) == 1 for size in sizes_px):
        problem = f"data.tiles is {recipe.data.tiles} px, and no good image is larger than that"
        raise UserError(problem, "data.tiles", "choose fewer pixels, or --set data.tiles=auto")
    return tiling


def described(tiling: Tiling, counts: Sequence[int]) -> str:
    """What tiles show, in words."""
    patch_px = tiling.patch_of_original_px
    per_image = np.mean(counts)
    return (
        f"{per_image:.1f} per image, so that an image takes {per_image + 1:.1f} times as long as with data.tiles none; "
        f"a patch is {patch_px:.0f} px of the image: defects smaller than {patch_px / 2:.0f} px fade"
    )


@torch.no_grad()
def joined_scores(
    scorer: TiledScorer, whole: Fit, tiles: Fit, recipe: Recipe, not_counted: frozenset[int] = frozenset()
) -> UnseenScores | None:
    """Set the scale of the tiles' highest scores, and join what whole images and tiles score that no fit has seen.

    The scale is that of all images but those ``not_counted``.
    """
    of_tiles = by_image(tiles, scorer.tiling)
    scorer.highest.fit(torch.tensor([best for number, (best, _) in of_tiles.items() if number not in not_counted]))
    of_whole = unseen_scores(whole, recipe)
    if of_whole is None:
        return None
    rows = [row for row, number in enumerate(of_whole.images) if number in of_tiles]
    image_scores, peaks, maps, scales = [], [], [], []
    for row in rows:
        number = of_whole.images[row]
        highest, tiles_map = of_tiles[number]
        whole_scale = replace(of_whole.scales[row][0], map_share=MAP_SHARES[0])
        tiles_scale = ScaleResult(whole_scale.size_px, scorer.standardised_highest(highest), tiles_map, MAP_SHARES[1])
        scales.append((whole_scale, tiles_scale))
        image_scores.append((whole_scale.logit + tiles_scale.logit) / 2)
        both = [torch.from_numpy(evidence)[None] for evidence in (of_whole.maps[row], tiles_map)]
        (height, width), (rows_of_grid, columns) = whole.good.originals_px[number].tolist(), tiles_map.shape
        roi = None if whole.rois is None else whole.rois[number]
        peaks.append(peak_of(average_maps(both, height, width, MAP_SHARES)[0].numpy(), roi))
        maps.append(average_maps(both, rows_of_grid, columns, MAP_SHARES)[0].numpy())
    return UnseenScores(
        [of_whole.images[row] for row in rows],
        image_scores,
        peaks,
        maps,
        scales,
        [of_whole.folds[row] for row in rows],
        [of_whole.attention[row] for row in rows],
        lambda fold: scorer.with_parts(*(fitted.without(fold, recipe) for fitted in (whole, tiles))),
    )


def by_image(tiles: Fit, tiling: Tiling) -> dict[int, tuple[float, Float[np.ndarray, "rows columns"]]]:
    """For each image whose tiles were judged, by its number: their highest score, and one map of all patches."""
    scores, maps = outputs_of(tiles)
    rows_of: dict[int, list[int]] = {}
    for row, unit in enumerate(tiles.evidence_of):
        rows_of.setdefault(int(tiles.good.images[tiles.good.references[unit]]), []).append(row)
    found = {}
    for number, rows in rows_of.items():
        first_tile = int((tiles.good.images == number).nonzero()[0])
        grid = tiling.grid(*tiles.good.originals_px[first_tile].tolist())
        inside = None if tiles.rois is None else tiles.rois[number].patches(grid)
        joined = tiling.joined(np.stack([maps[row] for row in rows]), grid, inside)
        found[number] = max(scores[row] for row in rows), joined
    return found

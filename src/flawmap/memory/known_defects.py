"""Known defects in the training of the head: tokens that a mask covers, or that lie far from all good ones.

They never enter the memory. In each step some tokens come from them and the others from simulated defects, so that a
handful of known ones cannot take the place of all that may still come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flawmap.data.groups import identities
from flawmap.data.images.files import decode_with_remarks, read_file
from flawmap.data.images.resize import resize_image
from flawmap.data.images.tiles import Tiling
from flawmap.data.images.truth import truth_of_defect
from flawmap.data.rois import RegionsOfInterest, roi_of_each
from flawmap.data.sample import KnownDefect
from flawmap.engine.progress import say
from flawmap.engine.transfer import to_device
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.scorer import ResidualScorer
from flawmap.memory.token_pool import TokenPool
from flawmap.recipe.settings import Recipe
from flawmap.scorer import Scorer, UnseenDefects
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import channels_first, normalise

FOLDS = 5  # of known defects; a head that has not seen those of a fold scores them
LIKE_SIMULATED = 10  # how many simulated defects one known defect counts as
MOST = 0.25  # of the anomalous tokens of a step that come from known defects
FAR = 0.999  # without a mask, a patch is anomalous if it is farther from the memory than this share of good patches
BESIDE_PER_DEFECT = 64  # tokens without a defect that are kept of each image


@dataclass(frozen=True)
class DefectsToLearn:
    """Known defects, as whole images or in tiles.

    Attributes:
        defects: with or without masks.
        rois: the part of each image that counts; None: all.
        tiling: how they are cut; None: they are not.
    """

    defects: tuple[KnownDefect, ...]
    rois: RegionsOfInterest | None = None
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        """Raises: UserError: there is no region of interest for the camera of a defect."""
        roi_of_each(self.rois, self.defects)

    @property
    def depends_on(self) -> list[Any]:
        """What determines what is learned from them."""
        contents = [defect.content() for defect in self.defects]
        if self.rois is None or not self.rois.cameras:
            return contents
        return [(*content, defect.camera) for content, defect in zip(contents, self.defects, strict=True)]

    def folds(self) -> list[int]:
        """The fold of each; those of a group share one. With a single group there is one fold, of all."""
        units = {identity: number for number, identity in enumerate(dict.fromkeys(identities(self.defects)))}
        return [units[identity] % FOLDS for identity in identities(self.defects)]

    def read(self, number: int, size_px: int, grid: tuple[int, int]) -> "DefectSquares":
        """One of them: itself or its tiles, resized to squares.

        Args:
            number: of the defect.
            size_px: side s of a square.
            grid: rows and columns of patches of a square.

        Raises:
            UserError: the image or its mask cannot be read.
        """
        defect, tiling = self.defects[number], self.tiling
        decoded = decode_with_remarks(read_file(defect.path), place=str(defect.path))
        pixels = decoded.pixels
        height, width = pixels.shape[:2]
        mask = truth_of_defect(defect, height, width, decoded.orientation).pixels
        roi = None if self.rois is None else self.rois.of(defect.camera)
        if roi is not None:
            pixels = roi.with_grey_outside(pixels)
        rows, columns = grid if tiling is None else tiling.grid(height, width)
        inside = None if roi is None else roi.patches((rows, columns))
        cover = None
        if mask is not None:
            cover = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        if tiling is None:
            squares, places = resize_image(pixels, size_px, size_px)[None], [(slice(None), slice(None))]
        else:
            squares = tiling.tiles(pixels, inside=inside)
            places = [tiling.where(place) for place in tiling.places((rows, columns), inside)]
        return DefectSquares(
            torch.stack([channels_first(square) for square in squares]), *(_at(of, places) for of in (cover, inside))
        )


def _at(of_patches: np.ndarray | None, places: Sequence[tuple[slice, slice]]) -> Tensor | None:
    if of_patches is None:
        return None
    return torch.from_numpy(np.stack([np.ascontiguousarray(of_patches[place]).ravel() for place in places]))


@dataclass(frozen=True)
class DefectSquares:
    """An image of a defect as squares: one, or one for each tile.

    Attributes:
        images: pixels.
        cover: the share of each patch that the mask covers; None without a mask.
        inside: the patches that count; None: all.
    """

    images: UInt8[Tensor, "t 3 s s"]
    cover: Float[Tensor, "t p"] | None
    inside: Bool[Tensor, "t p"] | None


@dataclass(frozen=True)
class TokensOfDefects:
    """Tokens that are drawn defect by defect, so that a large defect counts no more than a small one.

    Attributes:
        pools: of each known defect; empty ones are not drawn from.
    """

    pools: tuple[TokenPool, ...]

    @property
    def filled(self) -> list[TokenPool]:
        """Those with a token."""
        return [pool for pool in self.pools if len(pool)]

    def some(self, count: int, generator: torch.Generator) -> TokenPool:
        """So many tokens, drawn with replacement."""
        pools = self.filled
        which = torch.randint(len(pools), (count,), generator=generator).bincount(minlength=len(pools)).tolist()
        drawn = [pool.some(number, generator) for pool, number in zip(pools, which, strict=True) if number]
        return TokenPool.joined(drawn)


@dataclass(frozen=True)
class KnownExamples:
    """What the head learns from known defects.

    Attributes:
        anomalous: tokens that show the defect.
        beside: tokens of the same images that do not, so that the head does not take their camera or lot for a defect.
        share: of the anomalous tokens of a step, and of the normal ones beside defects, that come from known defects.
    """

    anomalous: TokensOfDefects
    beside: TokensOfDefects
    share: float

    @classmethod
    def of(cls, anomalous: Sequence[TokenPool], beside: Sequence[TokenPool], simulated_images: int) -> "KnownExamples":
        """With the share that so many defects have beside the simulated ones."""
        shown = LIKE_SIMULATED * sum(len(pool) > 0 for pool in anomalous)
        share = min(MOST, shown / (shown + simulated_images))
        return cls(TokensOfDefects(tuple(anomalous)), TokensOfDefects(tuple(beside)), share)

    def without(self, numbers: frozenset[int], simulated_images: int) -> "KnownExamples":
        """The same without some of the defects."""
        anomalous, beside = (
            [pool for number, pool in enumerate(of.pools) if number not in numbers]
            for of in (self.anomalous, self.beside)
        )
        return KnownExamples.of(anomalous, beside, simulated_images)


@torch.no_grad()
def encode_known(
    scorer: ResidualScorer,
    frozen: FrozenEncoder,
    known: DefectsToLearn,
    far: float,
    anomalous_cover: float,
    size_px: int,
    seed: int,
) -> tuple[list[TokenPool], list[TokenPool]]:
    """Of each known defect, the tokens that show it and some that do not.

    With a mask, patches of which it covers ``anomalous_cover`` show it, or the one that it covers most where
    it covers none as much; those that it does not touch do not show it. Without a mask, patches show it that are
    farther from the memory than ``far``; those that are nearer than good patches are on average do not.

    Args:
        scorer: with its memory, on its device.
        frozen: the encoder.
        known: the defects.
        far: see :func:`far_from_good`.
        anomalous_cover: share of a patch, in (0, 1].
        size_px: side of a square.
        seed: of the choice of tokens without a defect.
    """
    grid, generator = scorer.encoder.grid(size_px, size_px), torch.Generator().manual_seed(seed)
    anomalous, beside, device = list[TokenPool](), list[TokenPool](), scorer.memory.unit.device
    unused: list[bool] = []  # defects that teach nothing: whether they have a mask
    for number in range(len(known.defects)):
        squares, found = known.read(number, size_px, grid), []
        for row, image in enumerate(squares.images):  # one by one: they are few
            inside = None if squares.inside is None else squares.inside[row : row + 1].to(device)
            tokens = scorer.taken.tokens_of(frozen, normalise(to_device(image[None], device)), inside)  # (1, p, l, d)
            lookup = scorer.memory.lookup(tokens)
            distance = scorer.memory.standardised(scorer.memory.recalled(lookup))  # (1, p)
            found.append((tokens.half().cpu(), lookup.indices.int().cpu(), distance.cpu()))
        tokens, nearest, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
        shows, is_normal = shown_by(squares, distances, far, anomalous_cover)
        pool = TokenPool(tokens.flatten(0, 1), nearest.flatten(0, 1))
        anomalous.append(pool.at(shows.flatten().nonzero()[:, 0]))
        if not len(anomalous[-1]):
            unused.append(squares.cover is not None)
        rows = is_normal.flatten().nonzero()[:, 0]
        beside.append(pool.at(rows[torch.randperm(len(rows), generator=generator)[:BESIDE_PER_DEFECT]]))
    used = f"{sum(map(len, anomalous))} patches of {len(anomalous) - len(unused)} known defects show them"
    say("defects", f"{used}{words_of_unused(unused)}")
    return anomalous, beside


def words_of_unused(has_mask: Sequence[bool]) -> str:
    """Why some known defects teach nothing, of which each has a mask or not."""
    n_outside, n_alike = sum(has_mask), len(has_mask) - sum(has_mask)
    one = n_alike == 1
    alike = f"; {n_alike} without a mask {'looks like a good part' if one else 'look like good parts'} to the memory"
    outside = f"; {n_outside} with a mask {'lies' if n_outside == 1 else 'lie'} outside the region of interest"
    if not has_mask:
        return ""
    words = alike * (n_alike > 0) + outside * (n_outside > 0)
    return f"{words} and {'teaches' if len(has_mask) == 1 else 'teach'} nothing"


def shown_by(
    squares: DefectSquares, distances: Float[Tensor, "t p"], far: float, anomalous_cover: float
) -> tuple[Bool[Tensor, "t p"], Bool[Tensor, "t p"]]:
    """The patches that show the defect, and those that do not; the others are not learned from."""
    cover, inside = squares.cover, squares.inside
    inside = torch.ones_like(distances, dtype=torch.bool) if inside is None else inside
    if cover is None:
        return (distances > far) & inside, (distances < 0) & inside
    counted = torch.where(inside, cover, 0.0)
    needed = min(anomalous_cover, float(counted.max()))
    return (counted >= needed) & (counted > 0), (cover == 0) & inside


@torch.no_grad()
def far_from_good(memory: PatchMemory, of_others: Lookup, inside: Bool[Tensor, "k p"] | None) -> float:
    """How far from the tokens of other images one good patch in a thousand is, standardised as in scores."""
    device, found = memory.unit.device, []
    for distances, indices in zip(of_others.distances.split(8), of_others.indices.split(8), strict=True):
        lookup = Lookup(distances.to(device), indices.to(device))
        found.append(memory.standardised(memory.recalled(lookup)).cpu())
    values = torch.cat(found)  # (k, p)
    values = values.flatten() if inside is None else values[inside]
    return float(np.quantile(values.numpy(), FAR))


def unseen_defects(known: DefectsToLearn, scorer: Scorer, without: Callable[[int], Scorer] | None) -> UnseenDefects:
    """Which scorer has not seen which defect; without a head that decides, no score depends on known defects."""
    return (
        UnseenDefects([0] * len(known.defects), lambda _: scorer)
        if without is None
        else UnseenDefects(known.folds(), without)
    )


def head_decides(recipe: Recipe) -> bool:
    """Whether the head enters the score that verdicts go by."""
    if recipe.method == "fused":
        return recipe.fusion.image_weights[1] > 0 or recipe.detect.image_score == "map_max"
    return recipe.method == "residual"

"""Scores of good images by a fit that has not seen them: they set the threshold and the map's scales.

The good images are dealt into folds. For each fold the memory is the full one without the tokens of the fold's images;
others of the same number are picked in their place (:meth:`flawmap.memory.coreset.Coreset.without_fold`). Leaving the
tokens out alone would leave holes where they had been picked, and the scores of unusual images would be too high. What
is expected of an image comes from the images of other folds. The head is that of all images.

The rate of false alarms that a threshold from these scores promises is an estimate: each score comes from another
memory than that of the model, which has seen all images.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from flawmap.data.groups import Identity
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.tensor_files import release_pages
from flawmap.engine.transfer import to_device
from flawmap.memory.good_images import GoodImages
from flawmap.memory.inside import mean_inside
from flawmap.memory.scorer import Evidence, TokenScorer

NEAR_IDENTICAL = 0.2  # of the median distance between an image and the one that looks most similar
CHUNK = 8  # images that are compared at once


# ---- which images share a fold


def deal(good: GoodImages, identities: Sequence[Identity], count: int, seed: int) -> Int[Tensor, "i"]:
    """The fold of each image. Images of a group share one, and so do nearly identical images.

    Folds are as equal in size as their groups allow. The order of the images does not matter.

    Args:
        good: after the encoder.
        identities: what must stay together with each image, see :func:`flawmap.data.groups.identities`.
        count: of folds; fewer where there are fewer groups.
        seed: which groups share a fold.
    """
    return deal_with(near_identical(good), identities, count, seed)


def deal_with(
    alike: Sequence[tuple[int, int]], identities: Sequence[Identity], count: int, seed: int
) -> Int[Tensor, "i"]:
    """The same, where it is known which pairs of images are nearly identical."""
    units, num_units = _units(alike, identities)
    rank = [b"\xff" * 32] * num_units
    for unit, identity in zip(units, identities, strict=True):
        rank[unit] = min(rank[unit], _hash(identity, seed))
    sizes, in_fold, fold_of = np.bincount(units, minlength=num_units), [0] * min(count, num_units), {}
    for unit in sorted(range(num_units), key=lambda unit: (-sizes[unit], rank[unit])):
        fold_of[unit] = in_fold.index(min(in_fold))
        in_fold[fold_of[unit]] += sizes[unit]
    return torch.tensor([fold_of[unit] for unit in units])


def moved_together(
    folds: Int[Tensor, "i"], alike: Sequence[tuple[int, int]], identities: Sequence[Identity]
) -> Int[Tensor, "i"]:
    """Folds that were dealt before it was known which images are nearly identical: those share that of the first."""
    _, first, of_image = np.unique(_units(alike, identities)[0], return_index=True, return_inverse=True)
    return folds[torch.from_numpy(first[of_image])]


def _units(alike: Sequence[tuple[int, int]], identities: Sequence[Identity]) -> tuple[list[int], int]:
    """The number of what must share a fold with each image, and how many there are."""
    numbers = {identity: number for number, identity in enumerate(dict.fromkeys(identities))}
    pairs = [(numbers[identities[one]], numbers[identities[other]]) for one, other in alike]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(numbers), len(numbers)))
    num_units, unit_of_identity = connected_components(links, directed=False)
    if num_units < 2:  # all resemble each other
        num_units, unit_of_identity = len(numbers), np.arange(len(numbers))
    return [int(unit_of_identity[numbers[identity]]) for identity in identities], num_units


def near_identical(good: GoodImages) -> list[tuple[int, int]]:
    """Pairs of reference images that show nearly the same: a picture saved twice, or taken twice within a moment.

    Each image is compared with the one that looks most similar as a whole, patch by patch at the same place. In a pair
    the mean distance is below a fifth of the median. How similar ordinary parts are differs from data set to data set;
    a copy that was compressed again or brightened lies well below it in all that we know.
    """
    if len(good.references) < 3:
        return []
    unit = F.normalize(good.reference_appearances, dim=-1)
    similarity = (unit @ unit.T).fill_diagonal_(-1)
    likest, distances = similarity.argmax(dim=1), []  # (k,)
    for rows in torch.arange(len(likest)).split(CHUNK):
        tokens, others = good.reference_tokens[rows[0] : rows[-1] + 1], likest[rows]
        of_others = good.reference_tokens[others].float()  # (b, p, l, d)
        alike = F.cosine_similarity(tokens.float(), of_others, dim=-1)  # (b, p, l)
        inside = good.references_inside
        mean = alike.mean(dim=(1, 2)) if inside is None else mean_inside(alike.mean(dim=2), inside[rows])
        distances.append(1 - mean)
        release_pages(good.reference_tokens)
    distances = torch.cat(distances)  # (k,)
    pairs = (distances < NEAR_IDENTICAL * distances.median()).nonzero()[:, 0]
    references = good.references.tolist()
    return [(references[one], references[int(likest[one])]) for one in pairs.tolist()]


def _hash(identity: Identity, seed: int) -> bytes:
    text = "/".join((str(seed), *identity))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()  # a name need not be UTF-8


# ---- a fit without a fold


@dataclass(frozen=True)
class Folds:
    """What is needed to score good images by a fit that has not seen them.

    Attributes:
        of_image: the fold of each image.
        chosen: for each fold, the candidates in the memory without it, per block.
        references: numbers of the reference images, see :class:`flawmap.memory.good_images.GoodImages`.
    """

    of_image: Int[Tensor, "i"]
    chosen: tuple[Int[Tensor, "l _"], ...]
    references: Int[Tensor, "k"]

    @property
    def of_reference(self) -> Int[Tensor, "k"]:
        """The fold of each reference image."""
        return self.of_image[self.references]

    def without(self, scorer: TokenScorer, good: GoodImages, fold: int, neighbours: int) -> TokenScorer:
        """The scorer as it would be without the images of a fold; encoder, head and scales are shared.

        Args:
            scorer: fitted to all images, on its device.
            good: after the encoder.
            fold: whose images count as not seen.
            neighbours: that measure the spacing of the memory, see :meth:`PatchMemory.fit_spacing`.
        """
        memory = scorer.memory.emptied(self.chosen[fold].shape[1])
        memory.fill(good.candidates, good.sources, self.chosen[fold])
        release_pages(good.candidates)
        memory.fit_spacing(neighbours)
        others = (self.of_reference != fold).to(memory.unit.device)
        return scorer.with_memory(memory, scorer.expectation.of_images(others))


@torch.no_grad()
def evidence_out_of_fold(
    scorer: TokenScorer, good: GoodImages, folds: Folds, neighbours: int, at_once: ImagesAtOnce
) -> list[Evidence]:
    """The evidence in each reference image, found by a fit without its fold; for the arguments see :class:`Folds`."""
    of_reference, evidence = folds.of_reference, dict[int, Evidence]()

    def in_fold(fold: int, rows: Int[Tensor, "b"]) -> list[Evidence]:  # one memory at a time
        unseen = folds.without(scorer, good, fold, neighbours)
        return at_once.run(partial(_evidence_in, unseen, good, rows))

    for fold in range(len(folds.chosen)):
        rows = (of_reference == fold).nonzero()[:, 0]
        evidence.update(zip(rows.tolist(), in_fold(fold, rows), strict=True))
    return [evidence[row] for row in range(len(of_reference))]


def _evidence_in(scorer: TokenScorer, good: GoodImages, rows: Int[Tensor, "b"], size: int) -> list[Evidence]:
    """The evidence in some reference images; ``size`` of them are looked up at once."""
    device, found = scorer.memory.unit.device, []
    for some in rows.split(size):
        appearances, tokens = (
            to_device(of_all[some], device) for of_all in (good.reference_appearances, good.reference_tokens)
        )
        tokens, inside = tokens.float(), good.references_inside
        inside = None if inside is None else inside[some].to(device)
        found += scorer.evidence_in(appearances, tokens, scorer.memory.nearest(tokens), inside).of_each_image()
        release_pages(good.reference_tokens)
    return found

"""From what the memory and a head see in each patch to scores and maps of the test images, for any appearance.

It repeats ``TokenScorer.evidence_in`` and ``fit_map_scales`` with patches that are computed once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.engine.sampling import evenly_spread
from flawmap.memory.appearance import appearance_block
from flawmap.memory.expectation import NormalExpectation
from flawmap.memory.patch_memory import Lookup
from flawmap.memory.scorer import Evidence, TokenScorer
from flawmap_bench.trials.encoded_board import Board, EncodedImages
from flawmap_bench.trials.fitted_board import FittedBoard, tokens_of

Appearance = Callable[[EncodedImages], Tensor]  # gives (n, e): what like-looking images have in common


def cls_token(encoded: EncodedImages) -> Tensor:
    """The last [CLS] token."""
    return encoded.cls[:, -1]


def appearance_of(board: Board) -> Appearance:
    """What the board's recipe takes."""
    if board.recipe.expectation.appearance == "cls":
        return cls_token
    block = appearance_block(len(board.encoder.vit.blocks))
    return lambda encoded: encoded.means[:, block]


@dataclass(frozen=True)
class Patches:
    """The k kinds of evidence in each patch, before anything is subtracted."""

    references: Float[Tensor, "r k p"]
    test: Float[Tensor, "t k p"]


@dataclass(frozen=True)
class TestScores:
    """What the test images get: image scores, and maps on the patch grid."""

    image: Float[np.ndarray, "n"]
    evidence: Float[Tensor, "n r c"]


def patches_of(fitted: FittedBoard) -> Patches:
    """Evidence in each patch, by the memory and, where the recipe has one, by the scorer's head as it is now."""
    board, recipe = fitted.board, fitted.board.recipe
    references = (fitted.good.reference_tokens[row : row + 1].float() for row in range(len(fitted.good.references)))
    test = (tokens_of(board.encoded_test, number, recipe) for number in range(len(board.test.samples)))
    return Patches(
        _evidence(fitted.scorer, references, fitted.of_others),
        _evidence(fitted.scorer, test, fitted.of_test),
    )


@torch.no_grad()
def _evidence(
    scorer: TokenScorer, tokens: Iterable[Float[Tensor, "1 p l d"]], lookup: Lookup
) -> Float[Tensor, "n k p"]:
    found = []
    for row, of_image in enumerate(tokens):
        nearest = scorer.memory.recalled(Lookup(lookup.distances[row : row + 1], lookup.indices[row : row + 1]))
        found.append(torch.stack(scorer.evidence_per_patch(of_image, nearest), dim=1))
    return torch.cat(found)


@torch.no_grad()
def score_test_images(fitted: FittedBoard, patches: Patches, appearance: Appearance) -> TestScores:
    """Subtract what good images of like appearance show, standardise, and add the kinds up.

    Args:
        fitted: a board.
        patches: of the same board.
        appearance: by which like-looking images are found.
    """
    board, scorer, memory_settings = fitted.board, fitted.scorer, fitted.board.recipe.memory
    of_good, of_test = appearance(board.encoded_good), appearance(board.encoded_test)
    of_references = of_good[fitted.good.references]
    expectation = NormalExpectation(board.recipe.expectation, 0, of_references.shape[1], patches.test.shape[1])
    scorer.expectation, numbers = expectation, torch.arange(len(of_references))
    scorer.remember(of_references, numbers, top_means(scorer, patches.references), patches.references.mean(dim=2))

    def beyond(some: Float[Tensor, "n k p"], looks: Float[Tensor, "n e"]) -> Evidence:
        expected_tops, expected_means = expectation(looks)
        image, by_patch = top_means(scorer, some) - expected_tops, some - expected_means[..., None]
        return Evidence(image.unbind(dim=1), by_patch.unbind(dim=1))

    rows = evenly_spread(len(of_references), memory_settings.map_scale_images)
    scorer.fit_map_scales([beyond(patches.references[rows], of_references[rows])])
    grid = fitted.good.attention.shape[1], fitted.good.attention.shape[2]
    output = scorer.output(beyond(patches.test, of_test), grid)
    return TestScores(output.image.numpy(), output.evidence)


def top_means(scorer: TokenScorer, patches: Float[Tensor, "n k p"]) -> Float[Tensor, "n k"]:
    """The mean over the highest values, of each kind."""
    return scorer.top_mean(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

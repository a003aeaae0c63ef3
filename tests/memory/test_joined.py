"""Joining good images that are encoded already: as all together where there is room, and evenly where there is none."""

from dataclasses import replace

import pytest
import torch

from flawmap.memory.candidates import Candidates, Shares
from flawmap.memory.good_images import GoodImages
from flawmap.memory.joined import Joining, joined
from flawmap.memory.units import WholeImages
from flawmap.recipe.settings import ExpectationSettings, MemorySettings, Recipe

GRID, PATCHES, BLOCKS, DIM = (3, 4), 12, 2, 5


class Added(WholeImages):
    """New images without files: how many, and which image each unit is of, is all that joining asks for."""

    def __init__(self, images: torch.Tensor, count: int) -> None:
        self.images, self.identities = images, ((),) * count


def recipe_of(candidates: int = 10_000, shifts: int = 0, images: int = 100) -> Recipe:
    memory = MemorySettings(candidates=candidates, shifts=shifts)
    return Recipe(memory=memory, expectation=ExpectationSettings(images=images, tokens=100_000))


def tokens_of(number: int, shift: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10 * number + shift)
    return torch.randn(PATCHES, BLOCKS, DIM, generator=generator).half()


def good_images(numbers: range, shares: Shares, with_roi: bool = False, tiles: int = 1) -> GoodImages:
    """As the encoder leaves images; each is full of random numbers of its own. ``tiles`` of them are of one image."""
    count = len(numbers)
    inside = torch.stack([torch.arange(PATCHES) >= number % 3 for number in numbers]) if with_roi else None
    candidates = Candidates(count, GRID, shares, (BLOCKS, DIM), 0, inside)
    for row, number in enumerate(numbers):
        candidates.take(row, tokens_of(number, 0))
        if shares.shifts:
            of_shifts = [
                shift.inside(tokens_of(number, 1 + place)[None], GRID) for place, shift in enumerate(shares.shifts)
            ]
            candidates.take_shifted(range(row, row + 1), torch.cat(of_shifts, dim=1))
    references = torch.stack([tokens_of(numbers[row], 0) for row in shares.references])
    images = torch.arange(count, dtype=torch.int32) // tiles
    return GoodImages(
        attention=torch.tensor([number for number in numbers]).half()[:, None, None].repeat(1, *GRID),
        references=torch.tensor(shares.references),
        reference_appearances=references.float().mean(dim=(1, 2)),
        reference_tokens=references,
        candidates=candidates.tokens(references),
        sources=images[candidates.sources.long()],
        images=images,
        originals_px=torch.tensor([[number, 7] for number in numbers], dtype=torch.int32),
        inside=inside,
    )


def join(before: GoodImages, count: int, recipe: Recipe, with_roi: bool, tiles: int = 1) -> GoodImages:
    """Before, and so many new ones."""
    numbers = range(len(before.images), len(before.images) + count)
    images = torch.arange(count, dtype=torch.int32) // tiles
    num_before, num_added = len(before.images) // tiles, count // tiles
    joining = Joining(before, num_before, Added(images, num_added), None, frozenset())
    return joined(joining, good_images(numbers, joining.shares_of_added(GRID, recipe), with_roi, tiles), recipe)


@pytest.mark.parametrize("with_roi", [False, True])
@pytest.mark.parametrize("shifts", [0, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_where_there_is_room_joining_is_encoding_together(count: int, shifts: int, with_roi: bool):
    recipe = recipe_of(shifts=shifts)
    before = good_images(range(6), Shares.of(6, GRID, recipe), with_roi)
    together = good_images(range(6 + count), Shares.of(6 + count, GRID, recipe), with_roi)
    found = join(before, count, recipe, with_roi)
    assert found.tensors().keys() == together.tensors().keys()
    for name, tensor in together.tensors().items():
        assert torch.equal(getattr(found, name), tensor), name


def test_shifts_that_have_no_room_any_more_are_left_out():
    recipe = recipe_of(candidates=170, shifts=3)  # 12 + 6 + 8 + 9 tokens of an image with all shifts
    share = Shares.of(5, GRID, recipe)
    assert len(share.shifts) == 2 and len(Shares.of(7, GRID, recipe).shifts) == 1
    found = join(good_images(range(5), share), 2, recipe, False)
    together = good_images(range(7), Shares.of(7, GRID, recipe))
    assert torch.equal(found.candidates, together.candidates) and torch.equal(found.sources, together.sources)


def test_limits_hold_for_all_together_and_each_image_keeps_as_many_tokens():
    recipe = recipe_of(candidates=50, images=4)
    good = good_images(range(6), Shares.of(6, GRID, recipe))
    for _ in range(3):
        good = join(good, 2, recipe, False)
        count = len(good.images)
        assert len(good.references) == 4 and len(good.candidates) <= 50
        assert torch.bincount(good.sources).tolist() == [50 // count] * count
        for token, source in zip(good.candidates, good.sources.tolist(), strict=True):
            assert (tokens_of(source, 0) == token).all(dim=(1, 2)).any()
        for tokens, number in zip(good.reference_tokens, good.references.tolist(), strict=True):
            assert torch.equal(tokens, tokens_of(number, 0))


def test_of_tiles_whole_images_stay_references():
    recipe = recipe_of(images=2)
    before = good_images(range(6), Shares(12, tuple(range(6)), ()), tiles=3)
    found = join(before, 6, recipe, False, tiles=3)
    assert found.images.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.images[found.references].tolist() == [0, 0, 0, 3, 3, 3]
    assert torch.bincount(found.sources).tolist() == [36] * 4


def test_images_without_a_tile_in_the_region_keep_their_numbers():
    recipe = recipe_of(images=4)
    before = good_images(range(6), Shares(12, tuple(range(6)), ()), tiles=3)  # two images; a third one has no tile
    joining = Joining(before, 3, Added(torch.tensor([1, 1], dtype=torch.int32), 3), None, frozenset())
    shares = joining.shares_of_added(GRID, recipe)
    added = replace(good_images(range(6, 8), shares), images=joining.added.images)
    found = joined(joining, replace(added, sources=added.images[added.sources.long()]), recipe)
    assert found.images.tolist() == [0, 0, 0, 1, 1, 1, 4, 4]
    assert found.sources.unique().tolist() == [0, 1, 4]

"""Cores of shards: what covers them covers all tokens, within the bound."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.memory.coreset import greedy_coreset
from flawmap.memory.shard_cores import Choosing, Core, _filled, _groups

DIM, PROJECTED = 3, 8


def tokens_of(seed: int, count: int, blocks: int = 2) -> torch.Tensor:
    return torch.randn(count, blocks, DIM, generator=torch.Generator().manual_seed(seed)).half()


def choosing_of(size: int, folds: torch.Tensor | None = None) -> Choosing:
    return Choosing(size, folds, PROJECTED, 0, "cpu")


def projected(tokens: torch.Tensor) -> torch.Tensor:
    """Where the distances between (n, d) tokens are measured."""
    projection = torch.randn(DIM, PROJECTED, generator=torch.Generator().manual_seed(0))
    return F.normalize(tokens.float(), dim=-1) @ projection / PROJECTED**0.5


def radius(of: torch.Tensor, centres: torch.Tensor) -> float:
    return float(torch.cdist(of, centres, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1).max())


def smallest_radius(points: torch.Tensor, size: int) -> float:
    """With the best of all choices of centres among the points, which is not below that with any centres."""
    return min(radius(points, points[list(chosen)]) for chosen in combinations(range(len(points)), size))


def cores_of(tokens: torch.Tensor, shards: int, choosing: Choosing) -> list[Core]:
    parts = torch.arange(len(tokens)).tensor_split(shards)
    return [
        Core.of(tokens[part], torch.arange(len(part)), choosing.of_part(range(int(part[0]), int(part[-1]) + 1)))
        for part in parts
    ]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(6, 11),
    size=st.integers(1, 3),
    shards=st.integers(2, 3),
    with_folds=st.booleans(),
)
def test_two_rounds_cover_all_tokens_within_four_times_the_smallest_radius(seed, count, size, shards, with_folds):
    tokens = tokens_of(seed, count)
    folds = torch.arange(count) % 3 if with_folds else None
    core = Core.joined(cores_of(tokens, shards, choosing_of(size, folds)), 10_000, choosing_of(size))
    chosen, _ = choosing_of(size).choose(core.tokens, core.sources)
    for block in range(2):
        points, centres = projected(tokens[:, block]), projected(core.tokens[chosen[block], block])
        assert len(centres) == size
        assert radius(points, centres) <= 4 * smallest_radius(points, size) + 1e-3  # half precision


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 2))
def test_a_further_round_adds_twice_the_smallest_radius(seed, size):
    tokens = tokens_of(seed, 12)
    cores = cores_of(tokens, 4, choosing_of(size))
    core = Core.joined(cores, 2 * size, choosing_of(size))  # two of four become one, twice
    assert len(core.tokens) == 2 * size
    chosen, _ = choosing_of(size).choose(core.tokens, core.sources)
    for block in range(2):
        points, centres = projected(tokens[:, block]), projected(core.tokens[chosen[block], block])
        assert radius(points, centres) <= 6 * smallest_radius(points, size) + 1e-3


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_without_a_fold_a_core_covers_the_others_as_one_choice_does(seed):
    """What takes the place of a fold's tokens is in the core, so none of the others is farther than without shards."""
    tokens, folds = tokens_of(seed, 30, blocks=1), torch.arange(30) % 3
    choosing = choosing_of(6, folds)
    core = Core.of(tokens, torch.arange(30), choosing)
    assert 6 <= len(core.tokens) <= 12
    _, without = choosing.choose(tokens, torch.arange(30))
    points = projected(tokens[:, 0])
    for fold in range(3):
        others, kept = points[folds != fold], core.sources[:, 0][folds[core.sources[:, 0].long()] != fold].long()
        assert set(without[fold][0].tolist()) <= set(kept.tolist())
        assert radius(others, points[kept]) <= radius(others, points[without[fold][0]]) + 1e-6


def test_a_row_names_the_image_of_each_blocks_token():
    tokens, images = tokens_of(1, 20), torch.arange(20) // 2
    core = Core.of(tokens, images, choosing_of(5, torch.arange(10) % 2))
    assert len(core.tokens) < 20 and core.tokens.dtype == torch.float16 and core.sources.dtype == torch.int32
    for block in range(2):
        assert len(core.tokens[:, block].unique(dim=0)) == len(core.tokens)  # none twice
        for token, source in zip(core.tokens[:, block], core.sources[:, block].tolist(), strict=True):
            assert (tokens[images == source, block] == token).all(dim=1).any()
    first = greedy_coreset(tokens[:, 0], 5, torch.Generator().manual_seed(0), PROJECTED)
    assert (core.tokens[:, 0][:, None] == tokens[first, 0]).all(dim=2).any(dim=0).all()


@pytest.mark.parametrize("folds", [None, torch.arange(7) % 2])
def test_where_no_more_tokens_are_there_than_are_chosen_all_stay_in_their_order(folds):
    tokens = tokens_of(0, 7)
    core = Core.of(tokens, torch.arange(7), choosing_of(7, folds))
    assert torch.equal(core.tokens, tokens) and core.sources.tolist() == [[number, number] for number in range(7)]


def test_rows_are_filled_evenly():
    assert _filled(torch.tensor([2, 5]), 5, 8).tolist() == [0, 2, 3, 5, 7]  # of 0 1 3 4 6 7: first, middle, last
    assert _filled(torch.tensor([2, 5]), 2, 8).tolist() == [2, 5]


@pytest.mark.parametrize(
    ("sizes", "limit", "ends"),
    [([3, 3, 3, 3], 6, [2, 4]), ([3, 3, 3], 100, [3]), ([5, 5, 5], 1, [2, 3]), ([1, 9, 1, 9], 10, [2, 4])],
)
def test_as_many_cores_as_fit_become_one_and_two_at_least(sizes, limit, ends):
    assert [group.stop for group in _groups(sizes, limit)] == ends
    assert [size for group in _groups(sizes, limit) for size in sizes[group]] == sizes

"""The coreset: the very picks of the plain greedy rule, however few candidates are looked at together."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.memory import coreset
from flawmap.memory.coreset import Coreset, greedy_coreset


def clustered(count: int, seed: int) -> torch.Tensor:
    """Unit vectors in a few groups, as tokens lie."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 32, generator=generator)
    vectors = centres[torch.randint(5, (count,), generator=generator)] + torch.randn(count, 32, generator=generator)
    return torch.nn.functional.normalize(vectors, dim=-1)


def plain_greedy(
    vectors: torch.Tensor, size: int, seed: int, picked: Sequence[int] = (), never: Sequence[int] = ()
) -> list[int]:
    """One pick after another over all distances, in double precision, in the same random projection.

    Args:
        picked: to go on from; none: a random one.
        never: are not picked.
    """
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(vectors.shape[1], 64, generator=generator)
    points = (vectors @ projection / 64**0.5).double()
    picked = list(picked) or [int(torch.randint(len(points), (1,), generator=generator))]
    distances = torch.cdist(points, points)
    while len(picked) < size:
        nearest = distances[:, picked].amin(dim=1)
        nearest[[*picked, *never]] = -1
        picked.append(int(nearest.argmax()))
    return picked


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 150), share=st.floats(0.05, 0.95), candidates=st.integers(1, 160), seed=st.integers(0, 10**6)
)
def test_picks_are_those_of_the_plain_rule(count: int, share: float, candidates: int, seed: int):
    vectors, size = clustered(count, seed), max(1, int(share * count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "CANDIDATES", candidates)
        patch.setattr(coreset, "ROWS", 16)
        found = greedy_coreset(vectors, size, torch.Generator().manual_seed(seed))
    assert found.tolist() == plain_greedy(vectors, size, seed)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 200), share=st.floats(0.05, 0.95), candidates=st.integers(1, 90), looks=st.integers(2, 70))
def test_picks_are_the_same_however_many_are_made_before_the_host_looks(count, share, candidates, looks):
    vectors, size = clustered(count, count), max(1, int(share * count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "CANDIDATES", candidates)
        one = greedy_coreset(vectors, size, torch.Generator().manual_seed(1))
        patch.setattr(coreset, "_pick_among", partial(coreset._pick_among, picks_per_look=looks))
        many = greedy_coreset(vectors, size, torch.Generator().manual_seed(1))
    assert torch.equal(one, many)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(10, 150), share=st.floats(0.05, 0.95), candidates=st.integers(1, 160), seed=st.integers(0, 10**6)
)
def test_without_a_fold_picking_goes_on_from_the_picks_that_stay(count: int, share: float, candidates: int, seed: int):
    vectors, size = clustered(count, seed), max(1, int(share * count))
    folds = torch.randint(3, (count,), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "CANDIDATES", candidates)
        patch.setattr(coreset, "ROWS", 16)
        found = Coreset(vectors, torch.Generator().manual_seed(seed), folds=folds)
        picked = found.pick(size)
        without = [found.without_fold(fold, size) for fold in range(int(folds.max()) + 1)]
    assert picked.tolist() == plain_greedy(vectors, size, seed)  # folds change no pick
    for fold, of_fold in enumerate(without):
        never = (folds == fold).nonzero()[:, 0].tolist()
        stays = [number for number in picked.tolist() if folds[number] != fold]
        if size >= count - len(never):
            assert of_fold.tolist() == [number for number in range(count) if folds[number] != fold]
        elif stays:  # else the first pick is any of those that are left: all are as far from no picks
            assert of_fold.tolist() == plain_greedy(vectors, size, seed, stays, never)
        assert len(set(of_fold.tolist())) == len(of_fold) and not set(of_fold.tolist()) & set(never)


def test_repeated_vectors_are_picked_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coreset, "CANDIDATES", 4)
    different = clustered(20, seed=1)
    vectors = torch.cat([different, different])
    found = greedy_coreset(vectors, 20, torch.Generator().manual_seed(0))
    assert sorted(int(i) % 20 for i in found) == list(range(20))
    most = greedy_coreset(vectors, 39, torch.Generator().manual_seed(0))
    assert len(set(most.tolist())) == 39


def test_the_length_of_a_vector_does_not_count():
    vectors, lengths = clustered(300, seed=2), torch.linspace(0.1, 9, 300)[:, None]
    expected = greedy_coreset(vectors, 40, torch.Generator().manual_seed(0))
    assert torch.equal(greedy_coreset(lengths * vectors, 40, torch.Generator().manual_seed(0)), expected)


def test_all_are_kept_where_there_are_no_more():
    vectors = clustered(7, seed=0)
    assert greedy_coreset(vectors, 7, torch.Generator()).tolist() == list(range(7))
    assert greedy_coreset(vectors, 9, torch.Generator()).tolist() == list(range(7))


def test_a_coreset_finds_every_cluster_before_it_takes_a_second_of_one():
    centers = 100 * torch.eye(8)
    vectors = centers.repeat_interleave(50, dim=0) + torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    chosen = greedy_coreset(vectors, 8, torch.Generator().manual_seed(3))
    assert sorted((chosen // 50).tolist()) == list(range(8))


def test_a_coreset_covers_better_than_a_random_choice():
    crowded = torch.tensor([1.0, 0.0, 0.0]) + 0.1 * torch.randn(1900, 3, generator=torch.Generator().manual_seed(0))
    spread = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    vectors = torch.nn.functional.normalize(torch.cat([crowded, spread]), dim=-1)

    def radius(chosen: torch.Tensor) -> float:
        return torch.cdist(vectors, vectors[chosen]).min(dim=1).values.max().item()

    assert radius(greedy_coreset(vectors, 100, torch.Generator().manual_seed(0))) < 0.8 * radius(
        torch.randperm(2000)[:100]
    )

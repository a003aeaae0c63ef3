"""Which image comes when: permutations, shares of several processes, going on from any step."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from flawmap.engine import sampling
from flawmap.engine.sampling import BatchOrder, evenly_spread, stage_loader

pytestmark = pytest.mark.usefixtures("small_heads")


def batches_of_each_rank(monkeypatch: pytest.MonkeyPatch, world_size: int, **arguments: int) -> list[list]:
    order = BatchOrder(world_size=world_size, **arguments)
    found = []
    monkeypatch.setattr(sampling.dist, "is_initialized", lambda: True)
    for rank in range(world_size):
        monkeypatch.setattr(sampling.dist, "get_rank", lambda rank=rank: rank)
        found.append(list(order))
    return found


@given(images=st.integers(2, 40), batch=st.integers(1, 12), epochs=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_every_epoch_is_a_permutation_of_which_the_last_partial_batch_waits(
    images: int, batch: int, epochs: int, seed: int
):
    batch = min(batch, images)
    per_epoch = images // batch
    batches = list(BatchOrder(images, batch, per_epoch * epochs, seed))
    assert [len(items) for items in batches] == [batch] * (per_epoch * epochs)
    for epoch in range(epochs):
        items = list(chain.from_iterable(batches[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert {number for number, _ in items} == {epoch}
        indices = [index for _, index in items]
        assert len(set(indices)) == len(indices) == per_epoch * batch
        assert set(indices) <= set(range(images))


def test_no_image_is_always_left_over():
    batches = list(BatchOrder(num_images=5, batch_size=4, total_steps=40, seed=0))
    left_over = [set(range(5)) - {index for _, index in items} for items in batches]
    assert set.union(*left_over) == set(range(5))


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, other = (list(BatchOrder(30, 10, 9, seed)) for seed in (3, 3, 4))
    assert first == again and first != other
    epochs = [[index for items in first[start : start + 3] for _, index in items] for start in (0, 3, 6)]
    assert epochs[0] != epochs[1] != epochs[2]
    # the order of an epoch does not depend on how long training is
    assert list(BatchOrder(30, 10, 4, 3)) == first[:4]


@pytest.mark.parametrize("first_step", [0, 1, 2, 5, 8, 9])
def test_going_on_from_a_step_gives_the_batches_that_are_left(first_step: int):
    order = BatchOrder(10, 4, 9, seed=0)
    everything = list(order)
    order.first_step = first_step
    assert list(order) == everything[first_step:]
    assert len(order) == 9


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_shares_of_all_processes_are_the_joint_batch(monkeypatch: pytest.MonkeyPatch, world_size: int):
    arguments = {"num_images": 26, "batch_size": 12, "total_steps": 5, "seed": 1}
    ranks = batches_of_each_rank(monkeypatch, world_size, **arguments)
    monkeypatch.undo()
    for step, joint in enumerate(BatchOrder(**arguments)):
        shares = [batches[step] for batches in ranks]
        assert {len(share) for share in shares} == {12 // world_size}
        assert sorted(chain.from_iterable(shares)) == sorted(joint)


@pytest.mark.parametrize(("images", "batch", "world_size"), [(10, 5, 2), (3, 4, 1), (10, 0, 1)])
def test_batches_that_cannot_be_shared_out_are_refused(images: int, batch: int, world_size: int):
    with pytest.raises(ValueError, match=f"{images} images cannot give {world_size} processes a share of {batch}"):
        BatchOrder(images, batch, 4, 0, world_size)


class ItemsThemselves(Dataset):
    def __getitem__(self, item: tuple[int, int]) -> tuple[int, int]:
        return item


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_at_the_step_whatever_the_workers(workers: int):
    """A worker fetches ahead as soon as the loader's iterator is made."""
    loader = stage_loader(ItemsThemselves(), 10, 4, total_steps=6, seed=0, workers=workers)
    loader.batch_sampler.first_step = 3
    expected = list(BatchOrder(10, 4, 6, 0))[3:]
    found = [list(zip(epochs.tolist(), indices.tolist(), strict=True)) for epochs, indices in loader]
    assert found == expected


def test_few_of_many_images_are_spread_over_all():
    assert evenly_spread(3, 64) == [0, 1, 2]
    many = evenly_spread(1000, 64)
    assert len(many) == len(set(many)) == 64 and (many[0], many[-1]) == (0, 999)
    assert np.diff(many).max() <= 16  # no kind that is listed in a row is missed

"""Which patches are dropped: against brute force, exact counts, chance levels and determinism."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare
from torch import Tensor

from flawmap.paper.patch_masking import (
    _blocks,
    attention_patch_mask,
    block_patch_mask,
    kept_patches,
    most_attended_patch_mask,
    num_dropped,
    patch_mask,
    random_patch_mask,
)
from flawmap.recipe.settings import MaskingSettings


def attention(images: int, patches: int, seed: int = 0) -> Tensor:
    """Positive, with many ties."""
    return torch.randint(1, 12, (images, patches), generator=torch.Generator().manual_seed(seed)) / 100


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks_of_every_strategy(images: int, rows: int, columns: int, drop_ratio: float) -> dict[str, Tensor]:
    seen = attention(images, rows * columns)
    return {
        "attention": attention_patch_mask(seen, drop_ratio),
        "most attended": most_attended_patch_mask(seen, drop_ratio),
        "random": random_patch_mask(images, rows * columns, drop_ratio, generator()),
        "block": block_patch_mask(images, rows, columns, drop_ratio, generator()),
    }


# ---- how many


@pytest.mark.parametrize(
    ("patches", "drop_ratio", "dropped"),
    [(196, 0.3, 58), (36, 0.3, 10), (100, 0.29, 29), (100, 0.3, 30), (10, 0.7, 7), (196, 0.0, 0), (4, 0.99, 3)],
)
def test_k_is_the_floor_of_r_n(patches: int, drop_ratio: float, dropped: int):
    assert num_dropped(patches, drop_ratio) == dropped


@given(st.integers(1, 1100), st.integers(0, 999))
def test_k_is_exact_for_every_decimal_ratio_and_keeps_one(patches: int, thousandths: int):
    exact = math.floor(Fraction(thousandths, 1000) * patches)
    assert num_dropped(patches, thousandths / 1000) == min(exact, patches - 1)


@given(st.integers(1, 5), st.integers(1, 15), st.integers(1, 15), st.integers(0, 99))
def test_every_strategy_drops_exactly_k_of_each_image(images: int, rows: int, columns: int, percent: int):
    k = min(percent * rows * columns // 100, rows * columns - 1)
    for strategy, mask in masks_of_every_strategy(images, rows, columns, percent / 100).items():
        assert mask.shape == (images, rows * columns), strategy
        assert mask.sum(dim=1).tolist() == [k] * images, strategy


# ---- APMask and its control


@pytest.mark.parametrize(("strategy", "sign"), [(attention_patch_mask, 1), (most_attended_patch_mask, -1)])
@given(st.integers(1, 4), st.integers(1, 60), st.floats(0, 0.95), st.integers(0, 1000))
def test_the_k_least_or_most_attended_are_dropped_and_of_equal_ones_the_first(
    strategy: Callable[[Tensor, float], Tensor], sign: int, images: int, patches: int, ratio: float, seed: int
):
    seen = attention(images, patches, seed)
    k = num_dropped(patches, ratio)
    for row, mask in zip(seen.tolist(), strategy(seen, ratio), strict=True):
        by_hand = sorted(range(patches), key=lambda patch: (sign * row[patch], patch))[:k]
        assert mask.nonzero().flatten().tolist() == sorted(by_hand)


def test_the_two_halves_of_distinct_attention_are_complements():
    seen = torch.stack([torch.randperm(100, generator=generator(seed)) for seed in range(5)]) / 5000
    assert torch.equal(attention_patch_mask(seen, 0.5), ~most_attended_patch_mask(seen, 0.5))


def test_only_the_order_of_attention_matters():
    seen = attention(3, 196)
    assert torch.equal(attention_patch_mask(seen, 0.3), attention_patch_mask((5 * seen).exp() - 7, 0.3))


def test_evenly_spread_attention_drops_the_first_patches():
    for mask in (
        attention_patch_mask(torch.full((2, 36), 1 / 36), 0.3),
        most_attended_patch_mask(torch.ones(2, 36), 0.3),
    ):
        assert mask[:, :10].all() and not mask[:, 10:].any()


def test_no_ratio_drops_nothing():
    for strategy, mask in masks_of_every_strategy(2, 6, 6, 0.0).items():
        assert not mask.any(), strategy
        assert kept_patches(mask).tolist() == [list(range(36))] * 2, strategy


# ---- random


def test_random_masks_drop_every_patch_equally_often():
    counts = random_patch_mask(4000, 36, 0.3, generator()).sum(dim=0).double()
    p = 10 / 36
    # each image drops k: the covariance of its N drops is p (1 - p) N / (N - 1) (I - 1 / N), of rank N - 1
    statistic = float(((counts - 4000 * p) ** 2).sum() / (4000 * p * (1 - p))) * 35 / 36
    assert 1e-3 < chi2.sf(statistic, df=35) < 1 - 1e-3


def test_random_masks_drop_every_pair_equally_often():
    mask = random_patch_mask(5000, 8, 0.5, generator()).double()
    together = (mask.T @ mask / 5000)[~torch.eye(8, dtype=torch.bool)]
    torch.testing.assert_close(together, torch.full_like(together, 4 / 8 * 3 / 7), atol=0.03, rtol=0)


def test_images_of_a_batch_get_masks_of_their_own():
    assert len({tuple(mask.tolist()) for mask in random_patch_mask(50, 196, 0.3, generator())}) == 50
    assert len({tuple(mask.tolist()) for mask in block_patch_mask(50, 14, 14, 0.3, generator())}) == 50


@pytest.mark.parametrize(
    "draw", [lambda g: random_patch_mask(8, 100, 0.3, g), lambda g: block_patch_mask(8, 10, 10, 0.3, g)]
)
def test_drawn_masks_depend_on_the_generator_alone(draw):
    first = generator(3)
    mask, following = draw(first), draw(first)
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(draw(generator(3)), mask)
    assert not torch.equal(following, mask)  # the state moves on
    assert not torch.equal(draw(generator(4)), mask)


# ---- blocks


def neighbours(mask: Tensor, rows: int, columns: int) -> float:
    """Mean number of adjacent pairs (beside or below) that are both dropped."""
    grid = mask.reshape(-1, rows, columns)
    pairs = (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()
    return float(pairs) / len(grid)


@pytest.mark.parametrize(("rows", "columns"), [(14, 14), (6, 6), (10, 10), (9, 16)])
def test_blocks_hang_together_more_than_twice_as_much_as_chance(rows: int, columns: int):
    n = rows * columns
    k = num_dropped(n, 0.3)
    pairs = rows * (columns - 1) + columns * (rows - 1)
    by_chance = pairs * k * (k - 1) / (n * (n - 1))
    assert neighbours(random_patch_mask(500, n, 0.3, generator()), rows, columns) == pytest.approx(by_chance, rel=0.06)
    assert neighbours(block_patch_mask(500, rows, columns, 0.3, generator()), rows, columns) > 2 * by_chance


def test_a_block_is_a_rectangle_of_the_stated_area_and_aspect():
    k, sides = 60, []
    for draws in torch.rand(2000, 1, 4, generator=generator()):  # one try each
        mask = _blocks(14, 14, k, draws)
        if not mask.any():
            continue  # too high, too wide, or rounded to more than k patches
        height, width = int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())
        assert height * width == int(mask.sum()) <= k
        inside = mask[mask.any(dim=1)][:, mask.any(dim=0)]
        assert inside.all()
        sides.append((height, width))
    assert len(sides) > 1500
    # before rounding: area in 16 to 60, aspect in 0.3 to 3.33
    assert all((height + 0.5) * (width + 0.5) > 16 for height, width in sides)
    assert all(
        (height - 0.5) / (width + 0.5) < 1 / 0.3 and (height + 0.5) / (width - 0.5) > 0.3 for height, width in sides
    )
    log_aspects = np.log([height / width for height, width in sides])
    assert abs(log_aspects.mean()) < 0.06 and log_aspects.std() == pytest.approx(np.log(1 / 0.3) / 3**0.5, rel=0.06)


def test_blocks_never_drop_more_than_k_and_nearly_always_all_of_it():
    filled = torch.stack([_blocks(10, 10, 30, draws).sum() for draws in torch.rand(300, 64, 4, generator=generator())])
    assert filled.max() == 30 and filled.float().mean() > 29.5


def test_blocks_reach_every_patch():
    share = block_patch_mask(2000, 6, 6, 0.3, generator()).float().mean(dim=0).reshape(6, 6)
    assert share.min() > 0.1  # corners are covered less often than the middle, but they are
    torch.testing.assert_close(share, share.flip(0), atol=0.07, rtol=0)
    torch.testing.assert_close(share, share.flip(1), atol=0.07, rtol=0)
    torch.testing.assert_close(share, share.T, atol=0.07, rtol=0)


def test_what_no_block_can_fill_is_topped_up_at_random():
    mask = block_patch_mask(200, 1, 40, 0.3, generator())  # one row: blocks two patches high do not fit
    assert (mask.sum(dim=1) == 12).all()
    counts = block_patch_mask(1000, 1, 3, 0.4, generator()).sum(dim=0)  # k = 1
    assert counts.sum() == 1000
    assert chisquare(counts.numpy()).pvalue > 1e-3


# ---- what is kept


@given(st.integers(1, 5), st.integers(2, 40), st.floats(0, 0.95), st.integers(0, 1000))
def test_kept_patches_are_all_others_in_row_major_order(images: int, patches: int, ratio: float, seed: int):
    mask = random_patch_mask(images, patches, ratio, generator(seed))
    by_hand = [[patch for patch in range(patches) if not row[patch]] for row in mask.tolist()]
    assert kept_patches(mask).tolist() == by_hand


def test_gathering_kept_patches_gives_the_patches_that_are_not_masked():
    tokens = torch.randn(3, 36, 4, generator=generator())
    mask = attention_patch_mask(attention(3, 36), 0.3)
    gathered = tokens.gather(1, kept_patches(mask)[..., None].expand(-1, -1, 4))
    torch.testing.assert_close(gathered, tokens[~mask].reshape(3, 26, 4))


# ---- by name


def test_a_strategy_by_its_name_is_the_function_of_that_name():
    seen, ratio = attention(3, 24), 0.4
    expected = {
        "none": torch.zeros(3, 24, dtype=torch.bool),
        "random": random_patch_mask(3, 24, ratio, generator(5)),
        "attention": attention_patch_mask(seen, ratio),
        "most_attended": most_attended_patch_mask(seen, ratio),
        "block": block_patch_mask(3, 4, 6, ratio, generator(5)),
    }
    assert tuple(expected) == get_args(get_type_hints(MaskingSettings)["strategy"])
    for name, mask in expected.items():
        assert torch.equal(patch_mask(name, (4, 6), ratio, generator(5), seen, num_images=3), mask), name


@pytest.mark.parametrize("strategy", ["attention", "most_attended"])
def test_a_strategy_that_follows_the_attention_wants_it(strategy: str):
    with pytest.raises(ValueError, match=f"{strategy} needs the attention"):
        patch_mask(strategy, (4, 6), 0.3, generator())


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="no masking strategy 'chess'"):
        patch_mask("chess", (4, 6), 0.3, generator())

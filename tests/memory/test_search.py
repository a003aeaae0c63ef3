"""The search for the nearest token: what a coarse product may cost, and what it may not."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.memory.search import GROUP, PROPOSED, SMALLEST_COARSE, NearestSearch, Product, highest_columns

COARSE: tuple[Product, ...] = ("int8", "bf16")


def units(count: int, dim: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    """Unit vectors around a common mean, as tokens of a ViT lie."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(
        torch.randn(dim, generator=generator) + spread * torch.randn(count, dim, generator=generator), dim=-1
    )


@pytest.mark.parametrize("product", COARSE)
@given(seed=st.integers(0, 10_000), count=st.integers(SMALLEST_COARSE, 1500), spread=st.floats(0.01, 2.0))
@settings(max_examples=20, deadline=None)
def test_a_similarity_falls_short_by_at_most_twice_the_rounding_bound(product, seed: int, count: int, spread: float):
    memory, queries = units(count, 24, seed, spread), units(40, 24, seed + 1, spread)
    search = NearestSearch(memory, product)
    found, index = search(queries)
    exact = queries @ memory.T  # (n, m)
    assert (exact.max(dim=1).values - found <= 2 * search.rounding_bound(queries) + 1e-6).all()
    torch.testing.assert_close(found, exact.gather(1, index[:, None])[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("product", COARSE)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 2.0))
@settings(max_examples=20, deadline=None)
def test_the_bound_holds_for_the_coarse_product_itself(product, seed: int, spread: float):
    memory, queries = units(SMALLEST_COARSE, 24, seed, spread), units(30, 24, seed + 1, spread)
    search = NearestSearch(memory, product)
    coarse = search._coarse_product(queries).float()
    target = memory
    if product == "int8":
        target = memory - memory.mean(dim=0)
        coarse = coarse * (queries.abs().amax(dim=1, keepdim=True) / 127) * (target.abs().max() / 127)
    error = (coarse - queries @ target.T).abs().amax(dim=1)
    assert (error <= search.rounding_bound(queries) + 1e-6).all()


@pytest.mark.parametrize("product", COARSE)
def test_nearly_always_the_nearest_token_is_found(product: Product):
    memory, queries = units(3001, 96, 0), units(500, 96, 1)
    exact = (queries @ memory.T).max(dim=1).values
    found, _ = NearestSearch(memory, product)(queries)
    assert (exact - found < 1e-6).float().mean() > 0.99
    assert (exact - found).max() < 0.01


@pytest.mark.parametrize("product", ["fp32", *COARSE])
def test_an_excluded_token_is_never_found(product: Product):
    memory = units(SMALLEST_COARSE + 3, 32, 0)  # the last group is filled up with the first tokens
    queries = memory[:50]
    excluded = torch.arange(40)
    found, index = NearestSearch(memory, product)(queries, excluded)
    exact = queries @ memory.T
    exact[:, :40] = -1
    assert (index >= 40).all()
    torch.testing.assert_close(found, exact.max(dim=1).values, atol=1e-4, rtol=0)
    assert (index[40:] == torch.arange(40, 50)).all()  # these are still there


@pytest.mark.parametrize("product", ["fp32", *COARSE])
@pytest.mark.parametrize("left", [0, 3])
def test_where_few_tokens_are_left_or_none(product: Product, left: int):
    memory = units(SMALLEST_COARSE, 16, 0)
    found, index = NearestSearch(memory, product)(memory[-5:], torch.arange(SMALLEST_COARSE - left))
    if left == 0:
        assert found.tolist() == [-1] * 5
    else:
        assert (index >= SMALLEST_COARSE - left).all()
        expected = (memory[-5:] @ memory[-left:].T).max(dim=1).values
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_queries_do_not_depend_on_each_other():
    memory, queries = units(2000, 48, 0), units(600, 48, 1)
    search = NearestSearch(memory, "int8")
    together = search(queries)
    for start, stop in ((0, 1), (250, 262), (599, 600)):
        alone = search(queries[start:stop])
        assert torch.equal(alone[1], together[1][start:stop])
        torch.testing.assert_close(alone[0], together[0][start:stop], atol=1e-6, rtol=0)


def test_a_small_memory_is_searched_exactly():
    assert NearestSearch(units(SMALLEST_COARSE - 1, 8, 0), "int8").product == "fp32"


@given(seed=st.integers(0, 10_000), groups=st.integers(PROPOSED, 40), is_whole=st.booleans())
@settings(max_examples=40, deadline=None)
def test_highest_columns_are_those_that_sorting_gives(seed: int, groups: int, is_whole: bool):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-50, 50, (7, GROUP * groups), generator=generator)  # many are equal
    values = values.int() if is_whole else values + torch.rand(values.shape, generator=generator)
    columns = highest_columns(values, PROPOSED)
    assert all(len(set(row)) == PROPOSED for row in columns.tolist())
    found = values.gather(1, columns).sort(dim=1, descending=True).values
    assert torch.equal(found, values.sort(dim=1, descending=True).values[:, :PROPOSED])

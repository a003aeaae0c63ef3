"""Shifts by half a patch: what the shifted grid sees, which patches count, and how many shifts there is room for."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.memory.shifts import SHIFTS, Shift, shifts_within


@given(down=st.booleans(), right=st.booleans(), rows=st.integers(2, 6), columns=st.integers(2, 6))
def test_each_patch_that_counts_sees_the_image_half_a_patch_further(down: bool, right: bool, rows: int, columns: int):
    patch_px, shift = 4, Shift(down, right)
    image = torch.randn(2, 3, rows * patch_px, columns * patch_px, generator=torch.Generator().manual_seed(rows))
    shifted = shift.images(image, patch_px)
    assert shifted.shape == image.shape
    # Each patch as a token of one block: its first pixel's colours.
    tokens = shifted[..., ::patch_px, ::patch_px].flatten(2).transpose(1, 2)[:, :, None]  # (b, n, 1, 3)
    inside = shift.inside(tokens, (rows, columns))
    kept_rows, kept_columns = shift.grid(rows, columns)
    assert inside.shape == (2, kept_rows * kept_columns, 1, 3)
    for row in range(kept_rows):
        for column in range(kept_columns):
            y, x = row * patch_px + 2 * down, column * patch_px + 2 * right
            assert y + patch_px <= rows * patch_px and x + patch_px <= columns * patch_px  # nothing repeated is seen
            assert torch.equal(inside[:, row * kept_columns + column, 0], image[:, :, y, x])
            seen = shifted[:, :, row * patch_px : (row + 1) * patch_px, column * patch_px : (column + 1) * patch_px]
            assert torch.equal(seen, image[:, :, y : y + patch_px, x : x + patch_px])


@given(
    limit=st.integers(1, 3000),
    images=st.integers(1, 20),
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    at_most=st.integers(0, 3),
)
def test_there_are_as_many_shifts_as_fit(limit: int, images: int, rows: int, columns: int, at_most: int):
    def candidates(count: int) -> int:
        sizes = [(rows - 1) * (columns - 1), (rows - 1) * columns, rows * (columns - 1)]
        return images * (rows * columns + sum(sizes[:count]))

    shifts = shifts_within(limit, images, (rows, columns), at_most)
    assert shifts == SHIFTS[: len(shifts)] and len(shifts) <= at_most
    assert not shifts or candidates(len(shifts)) <= limit
    assert len(shifts) == at_most or candidates(len(shifts) + 1) > limit

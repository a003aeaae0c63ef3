"""How an image is cut into tiles, and how their maps are joined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.data.images.resize import resize_image
from flawmap.data.images.tiles import MOST_TILES, OVERLAP, Tiling, finest_tiling, starts, tiling_for_defects
from images import striped

TILING = Tiling(scale=0.5, side=4, patch_size_px=8)


@given(st.integers(1, 200), st.integers(OVERLAP + 1, 32))
def test_tiles_cover_a_side_evenly_and_overlap(length: int, side: int):
    found = starts(length, side)
    assert found[0] == 0
    if length <= side:
        assert found == [0]
        return
    assert found[-1] == length - side
    steps = np.diff(found)
    assert (steps > 0).all() and (steps <= side - OVERLAP).all() and np.ptp(steps) <= 1
    one_less = (len(found) - 1) * (side - OVERLAP) + OVERLAP
    assert one_less < length, "one tile less would not do"


def test_the_grid_keeps_the_aspect_and_is_no_smaller_than_a_tile():
    assert TILING.side_px == 32 and TILING.patch_of_original_px == 16
    assert TILING.grid(96, 160) == (6, 10)
    assert TILING.grid(96, 20) == (6, 4), "a side shorter than a tile is stretched to one"
    assert TILING.places((6, 10)) == [(0, 0), (0, 2), (0, 4), (0, 6), (2, 0), (2, 2), (2, 4), (2, 6)]
    assert TILING.count(96, 160) == 8 and TILING.count(64, 64) == 1


def test_tiles_are_parts_of_the_resized_image():
    image = striped(0, 96, 160)
    resized = resize_image(image, 48, 80)
    for tile, (row, column) in zip(TILING.tiles(image), TILING.places((6, 10)), strict=True):
        assert np.array_equal(tile, resized[8 * row : 8 * row + 32, 8 * column : 8 * column + 32])
    larger = TILING.tiles(image, side_px=64)
    assert larger.shape == (8, 64, 64, 3)
    assert np.array_equal(larger[5], image[32:96, 32:96]), "the same part of the image, at twice the size"


@given(st.integers(4, 30), st.integers(4, 30), st.integers(0, 2**32 - 1))
def test_maps_that_agree_join_to_the_map_they_were_cut_from(rows: int, columns: int, seed: int):
    whole = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    maps = np.stack([whole[r : r + 4, c : c + 4] for r, c in TILING.places((rows, columns))])
    np.testing.assert_allclose(TILING.joined(maps, (rows, columns)), whole, rtol=1e-5, atol=1e-6)


def test_between_two_tiles_that_differ_the_joined_map_rises_without_a_step():
    tiling = Tiling(1.0, 8, 8)
    joined = tiling.joined(np.stack([np.zeros((8, 8), "f4"), np.ones((8, 8), "f4")]), (8, 14))
    # Two columns lie in both tiles: weights 2 and 1 of the left one, 1 and 2 of the right one.
    np.testing.assert_allclose(joined[0], [0] * 6 + [1 / 3, 2 / 3] + [1] * 6, atol=1e-6)


def test_the_finest_tiling_within_the_work_is_two_by_two_on_a_square():
    tiling = finest_tiling([(1024, 1024)] * 10, side=16, patch_size_px=14)
    assert tiling is not None and tiling.grid(1024, 1024) == (30, 30) and tiling.count(1024, 1024) == 4


@pytest.mark.parametrize(
    ("size", "expected"), [((500, 1250), 3), ((4000, 5000), 4), ((340, 340), 4), ((100, 2000), 4), ((700, 700), 4)]
)
def test_other_shapes_get_as_many_tiles_as_the_work_allows(size: tuple[int, int], expected: int):
    tiling = finest_tiling([size], side=16, patch_size_px=14)
    assert tiling is not None and tiling.count(*size) == expected <= MOST_TILES
    assert tiling.scale <= 1, "an image has no more detail than its pixels"


def test_images_that_the_model_sees_whole_anyway_get_no_tiles():
    assert finest_tiling([(224, 224), (200, 250)], side=16, patch_size_px=14) is None
    assert finest_tiling([(330, 330)], side=16, patch_size_px=14) is None, "not much finer"


def test_images_of_many_sizes_share_one_scale_and_the_work_is_their_mean():
    sizes = [(500, 500)] * 9 + [(250, 250)]
    tiling = finest_tiling(sizes, side=16, patch_size_px=14)
    assert tiling is not None
    assert [tiling.count(*size) for size in sizes] == [4] * 9 + [1]
    assert finest_tiling([(400, 400)] * 5 + [(900, 900)], side=16, patch_size_px=14) is None, "4.8 on average"


@given(smallest_px=st.floats(0.5, 500), longest=st.integers(30, 6000))
def test_tiles_for_a_defect_show_it_half_a_patch_wide_where_the_image_has_the_pixels(smallest_px: float, longest: int):
    tiling = tiling_for_defects(smallest_px, [(30, longest), (20, 20)], side=16, patch_size_px=14)
    patch_in_whole = longest / 16
    if tiling is None:  # the whole image shows it, or has not even the pixels that it sees
        assert patch_in_whole <= 2 * smallest_px * (1 + 1e-6) or longest <= 224
    else:
        assert patch_in_whole > 2 * smallest_px * (1 - 1e-6)
        assert tiling.patch_of_original_px == pytest.approx(max(14, 2 * smallest_px), rel=1e-6)

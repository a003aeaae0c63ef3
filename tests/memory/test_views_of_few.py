"""Views of images: what they show, which of their patches count, and how many there is room for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.memory.shifts import SHIFTS
from flawmap.memory.views import KINDS, SAFE, VIEWS, View, possible_kinds, views_of, views_within
from flawmap.vit.inputs import normalise, unnormalised


def picture(size: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth, so that turning it interpolates well; two images, normalised."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(40, 216, (2, 3, 4, 4), generator=generator).float()
    return normalise(torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False))


def test_the_default_view_is_the_image_itself():
    images = picture()
    assert torch.equal(View().images(images), images)
    assert View().counted(torch.ones(2, 16, dtype=torch.bool), (4, 4)).all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact_and_counterclockwise(quarters: int):
    images = picture()
    assert torch.equal(View(turn_deg=90.0 * quarters).images(images), torch.rot90(images, quarters, (-2, -1)))


def test_two_turns_by_45_degrees_are_about_one_by_90_in_the_middle():
    images, eighth = picture(64), View(turn_deg=45.0)
    twice, once = eighth.images(eighth.images(images)), View(turn_deg=90.0).images(images)
    middle = (..., slice(20, 44), slice(20, 44))
    torch.testing.assert_close(twice[middle], once[middle], atol=0.05, rtol=0.05)


def test_a_mirrored_view_twice_is_the_image():
    images, mirrored = picture(), View(mirrored=True)
    assert torch.equal(mirrored.images(mirrored.images(images)), images)
    assert torch.equal(mirrored.images(images), images.flip(-1))
    assert torch.equal(View(mirrored=True, turn_deg=180.0).images(images), images.flip(-2))


def test_a_zoomed_view_shows_the_middle_larger():
    images = picture(64)
    zoomed = View(zoom=2.0).images(images)
    torch.testing.assert_close(zoomed[..., 1::4, 1::4], images[..., 16:48:2, 16:48:2], atol=0.1, rtol=0.1)


def test_light_changes_values_as_it_says_and_clips():
    images = picture()
    values = unnormalised(images)
    brighter = unnormalised(View(gain=1.5).images(images))
    torch.testing.assert_close(brighter, (1.5 * values).clamp(0, 1), atol=1e-5, rtol=1e-5)
    darker = unnormalised(View(gamma=2.0).images(images))
    torch.testing.assert_close(darker, values.clamp(0, 1) ** 2, atol=1e-5, rtol=1e-5)


@given(number=st.integers(0, len(VIEWS) - 1), seed=st.integers(0, 50))
def test_only_patches_count_that_see_nothing_but_what_counts(number: int, seed: int):
    """Pixels that do not count have another value; no patch that counts may show any of it."""
    view, side, patch_px = VIEWS[number], 4, 12
    view = View(view.turn_deg, view.mirrored, view.zoom)
    inside = torch.rand(2, side * side, generator=torch.Generator().manual_seed(seed)) < 0.7
    pixels = inside.reshape(2, 1, side, side).repeat_interleave(patch_px, 2).repeat_interleave(patch_px, 3)
    seen = view.images(pixels.float().expand(-1, 3, -1, -1))[:, :1]
    counted = view.counted(inside, (side, side))
    assert counted.shape == inside.shape
    least = -torch.nn.functional.max_pool2d(-seen, patch_px).flatten(1)
    assert (least[counted] > 0.6).all()  # bicubic interpolation rings at the borders of patches that do not count
    if view.turn_deg % 90 == 0 and view.zoom == 1:
        on_grid = inside.reshape(2, 1, side, side).float().expand(-1, 3, -1, -1)
        assert torch.equal(counted, view.images(on_grid)[:, 0].flatten(1) > 0.5)


def test_a_turned_view_leaves_the_corners_out_and_a_zoomed_one_the_border():
    inside = torch.ones(1, 64, dtype=torch.bool)
    turned = View(turn_deg=45.0).counted(inside, (8, 8)).reshape(8, 8)
    assert not turned[0, 0] and not turned[7, 0] and turned[2:6, 2:6].all()
    smaller = View(zoom=0.5).counted(inside, (8, 8)).reshape(8, 8)
    assert torch.equal(smaller.nonzero(), torch.cartesian_prod(torch.arange(2, 6), torch.arange(2, 6)))
    assert View(zoom=1.1).counted(inside, (8, 8)).all()


def test_kinds_and_numbers_belong_together():
    assert [VIEWS[number] for number in views_of(["mirrored"])] == list(KINDS["mirrored"])
    assert views_of(tuple(KINDS)) == tuple(range(len(VIEWS))) and views_of(()) == ()
    assert set(SAFE) < set(KINDS)


@pytest.mark.parametrize(("sizes", "may_turn"), [([[100, 100], [100, 125]], True), ([[100, 100], [100, 130]], False)])
def test_only_nearly_square_images_are_turned(sizes: list[list[int]], may_turn: bool):
    assert ("turned" in possible_kinds(torch.tensor(sizes))) == may_turn


@given(limit=st.integers(1, 5000), images=st.integers(1, 19), wanted=st.integers(0, 19), shifts=st.integers(0, 3))
def test_there_are_as_many_views_as_fit(limit: int, images: int, wanted: int, shifts: int):
    numbers = views_within(limit, images, (3, 4), SHIFTS[:shifts], range(wanted))
    of_shifts = sum(rows * columns for rows, columns in (shift.grid(3, 4) for shift in SHIFTS[:shifts]))
    assert tuple(numbers) == tuple(range(len(numbers)))
    assert not numbers or images * (12 + of_shifts + 12 * len(numbers)) <= limit
    assert len(numbers) == wanted or images * (12 + of_shifts + 12 * (len(numbers) + 1)) > limit

"""Multi-crop views: crops decoded from images that say where a pixel came from, chances, exact operations."""

import functools
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.stats import binomtest, kstest, uniform

from flawmap.paper import views
from flawmap.paper.views import (
    STUDENT_GLOBAL_VIEW,
    STUDENT_LOCAL_VIEW,
    TEACHER_VIEW,
    ViewRecipe,
    make_view,
    make_views,
    random_resized_crop,
)

SIDE = 200
WHOLE = ViewRecipe(1.0, 1.0, blur_probability=0.0, solarize_probability=0.0)  # a square image is not cropped at all


@pytest.fixture
def no_colour(monkeypatch):
    monkeypatch.setattr(views, "JITTER_PROBABILITY", 0.0)
    monkeypatch.setattr(views, "GRAY_PROBABILITY", 0.0)


def box_of(crop: np.ndarray) -> np.ndarray:
    """Left, top, width and height of a crop of a coordinate image, in pixels of that image."""
    size = len(crop)
    middle = slice(size // 5, size - size // 5)  # cubic interpolation is exact for ramps, away from the border
    places = np.arange(size)[middle] + 0.5
    box = []
    for values in (crop[..., 0].mean(axis=0), crop[..., 1].mean(axis=1)):
        slope, start = np.polyfit(places, values[middle] + 0.5, 1)
        box.append((start, slope * size))
    return np.array([box[0][0], box[1][0], box[0][1], box[1][1]])


def test_parameters_are_dinos():
    assert ViewRecipe(0.4, 1.0, 1.0, 0.0) == TEACHER_VIEW
    assert ViewRecipe(0.4, 1.0, 0.1, 0.2) == STUDENT_GLOBAL_VIEW
    assert ViewRecipe(0.05, 0.4, 0.5, 0.0) == STUDENT_LOCAL_VIEW
    assert (views.JITTER_PROBABILITY, views.JITTER) == (0.8, (0.4, 0.4, 0.2, 0.1))
    assert (views.GRAY_PROBABILITY, views.SOLARIZE_THRESHOLD) == (0.2, 128)


# ---- crops


@pytest.mark.parametrize("recipe", [TEACHER_VIEW, STUDENT_LOCAL_VIEW])
def test_area_and_aspect_of_crops(recipe: ViewRecipe, coordinate_image):
    image, generator = coordinate_image(SIDE, SIDE), np.random.default_rng(0)
    crops = (random_resized_crop(image, 40, recipe.min_area, recipe.max_area, generator) for _ in range(500))
    left, top, width, height = np.array([box_of(crop) for crop in crops]).T
    share, aspect = width * height / SIDE**2, width / height
    one_pixel = 1.04  # sides are rounded to pixels, and decoded to about a tenth of one
    assert share.min() > recipe.min_area / one_pixel and share.max() < recipe.max_area * one_pixel
    assert aspect.min() > 3 / 4 / one_pixel and aspect.max() < 4 / 3 * one_pixel
    assert min(left.min(), top.min()) > -1 and max((left + width).max(), (top + height).max()) < SIDE + 1
    if recipe.max_area < 0.5:  # every draw fits, so that nothing is drawn again
        assert kstest(np.log(aspect), uniform(np.log(3 / 4), 2 * np.log(4 / 3)).cdf).pvalue > 1e-3
        assert kstest(share, uniform(recipe.min_area, recipe.max_area - recipe.min_area).cdf).pvalue > 1e-3
        assert kstest(left / (SIDE - width), uniform(0, 1).cdf).pvalue > 1e-3
        assert kstest(top / (SIDE - height), uniform(0, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(40, 240), (240, 40)])
def test_where_no_drawn_crop_fits_the_aspect_still_holds(height: int, width: int, coordinate_image):
    image, generator = coordinate_image(height, width), np.random.default_rng(0)
    boxes = np.array([box_of(random_resized_crop(image, 40, 0.9, 1.0, generator)) for _ in range(50)])
    wanted = 4 / 3 if width > height else 3 / 4
    assert boxes[:, 2] / boxes[:, 3] == pytest.approx(wanted, rel=0.03)
    assert boxes[:, 2:].min(axis=1) == pytest.approx(40, abs=0.5)  # as large as fits
    along = boxes[:, 0] if width > height else boxes[:, 1]
    assert along.max() - along.min() > 100


def test_crops_are_resized_as_pillow_resizes_them():
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    ours = random_resized_crop(image, 20, 1.0, 1.0, np.random.default_rng(0))  # 1.0: only the whole image fits
    assert np.array_equal(ours, np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC)))


def crops_of_one_call(monkeypatch, image: np.ndarray, seed: int) -> list[tuple]:
    """Box, size and area range of every crop that one call of make_views takes."""
    taken, original = [], random_resized_crop

    def recording(image, size_px, min_area, max_area, generator):
        crop = original(image, size_px, min_area, max_area, generator)
        taken.append((*box_of(crop).round(1).tolist(), size_px, min_area, max_area))
        return crop

    monkeypatch.setattr(views, "random_resized_crop", recording)
    make_views(image, 70, 30, 8, np.random.default_rng(seed))
    return taken


def test_no_view_shares_a_crop(monkeypatch, coordinate_image):
    taken = crops_of_one_call(monkeypatch, coordinate_image(SIDE, SIDE), 1)
    assert [crop[4:] for crop in taken] == [(70, 0.4, 1.0)] * 2 + [(30, 0.05, 0.4)] * 8
    assert len({crop[:4] for crop in taken}) == 10


# ---- number, sizes, determinism


@given(st.integers(16, 64), st.integers(16, 64), st.integers(8, 48), st.integers(8, 32), st.integers(0, 4))
def test_number_and_sizes(height: int, width: int, global_px: int, local_px: int, num_locals: int):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    made = make_views(image, global_px, local_px, num_locals, np.random.default_rng(height))
    assert made.teacher.shape == made.student_global.shape == (global_px, global_px, 3)
    assert [local.shape for local in made.student_locals] == [(local_px, local_px, 3)] * num_locals


def test_views_depend_on_the_generator_alone():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image.flags.writeable = False
    make = functools.partial(make_views, image, 48, 24, 3)
    first = make(np.random.default_rng(7))
    np.random.seed(0)
    again, other = make(np.random.default_rng(7)), make(np.random.default_rng(8))
    pairs = [(first.teacher, again.teacher, other.teacher), (first.student_global, again.student_global, other.teacher)]
    pairs += list(zip(first.student_locals, again.student_locals, other.student_locals, strict=True))
    assert len(pairs) == 5
    for mine, same, different in pairs:
        assert np.array_equal(mine, same) and not np.array_equal(mine, different)


def test_gray_images_stay_gray():
    gray = np.random.default_rng(0).integers(0, 256, (60, 60, 1), dtype=np.uint8).repeat(3, axis=2)
    for seed in range(20):
        made = make_views(gray, 32, 16, 2, np.random.default_rng(seed))
        for view in (made.teacher, made.student_global, *made.student_locals):
            assert (view[..., 0] == view[..., 1]).all() and (view[..., 1] == view[..., 2]).all()


# ---- what happens to a view, and how often


def share_of(happened: Callable[[np.ndarray], bool], image: np.ndarray, recipe: ViewRecipe, draws: int = 400) -> int:
    generator = np.random.default_rng(2)
    return sum(bool(happened(make_view(image, 16, recipe, generator))) for _ in range(draws))


def fits(count: int, probability: float, draws: int = 400) -> bool:
    return binomtest(count, draws, probability).pvalue > 1e-3


def test_half_of_the_views_are_mirrored_and_none_is_upside_down(coordinate_image):
    image = coordinate_image(32, 32, step=8)
    upside_down = []

    def is_mirrored(view: np.ndarray) -> bool:
        upside_down.append(view[0].mean() > view[-1].mean())
        return view[:, 0, 0].mean() > view[:, -1, 0].mean()

    assert fits(share_of(is_mirrored, image, TEACHER_VIEW), 0.5)
    assert len(upside_down) == 400 and not any(upside_down)


@pytest.mark.parametrize("recipe", [TEACHER_VIEW, STUDENT_LOCAL_VIEW])
def test_a_fifth_of_the_views_is_gray(recipe: ViewRecipe):
    image = np.full((32, 32, 3), (200, 60, 60), np.uint8)
    assert fits(share_of(lambda view: (view[..., 0] == view[..., 1]).all(), image, recipe), 0.2)


def test_a_fifth_of_the_views_keeps_its_colours():
    image = np.full((32, 32, 3), (200, 60, 60), np.uint8)
    same = share_of(lambda view: (view == image[0, 0]).all(), image, TEACHER_VIEW)
    assert fits(same, 0.2 * 0.8)  # neither jittered nor gray


@pytest.mark.parametrize(("recipe", "probability"), [(STUDENT_GLOBAL_VIEW, 0.2), (TEACHER_VIEW, 0.0)])
def test_only_the_students_global_view_is_solarised(recipe: ViewRecipe, probability: float):
    white = np.full((32, 32, 3), 255, np.uint8)  # at its darkest 153 before solarisation, so 102 or less after it
    solarised = share_of(lambda view: (view < 128).all(), white, recipe)
    assert fits(solarised, probability) if probability else solarised == 0


@pytest.mark.parametrize(
    ("recipe", "probability"), [(TEACHER_VIEW, 1.0), (STUDENT_GLOBAL_VIEW, 0.1), (STUDENT_LOCAL_VIEW, 0.5)]
)
def test_blur_is_as_frequent_as_the_recipe_says_and_its_sigma_uniform(recipe, probability: float, monkeypatch):
    sigmas, original = [], cv2.GaussianBlur

    def recording(image, size, sigmaX):
        sigmas.append(sigmaX)
        return original(image, size, sigmaX=sigmaX)

    monkeypatch.setattr(cv2, "GaussianBlur", recording)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    share_of(lambda view: True, image, recipe)
    assert fits(len(sigmas), probability) if probability < 1 else len(sigmas) == 400
    assert kstest(sigmas, uniform(0.1, 1.9).cdf).pvalue > 1e-3


def test_blurring_spreads_a_point_by_its_sigma(no_colour, monkeypatch):
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    recipe = ViewRecipe(1.0, 1.0, blur_probability=1.0, solarize_probability=0.0)
    for seed in range(10):
        generator = np.random.default_rng(seed)
        view = make_view(image, 41, recipe, generator)[..., 0].astype(float)
        generator = np.random.default_rng(seed)
        sharp = make_view(image, 41, WHOLE, generator)
        assert sharp.max() == 255
        assert view.sum() == pytest.approx(255, abs=45) and view[20, 20] == view.max()
        assert np.array_equal(view, view[:, ::-1]) and np.array_equal(view, view[::-1])


def test_solarisation_equals_pillows(no_colour):
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    image[0, :2, 0] = 127, 128
    recipe = ViewRecipe(1.0, 1.0, blur_probability=0.0, solarize_probability=1.0)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(image), 128))
    for seed in range(6):
        view = make_view(image, 30, recipe, np.random.default_rng(seed))
        assert np.array_equal(view, expected) or np.array_equal(view[:, ::-1], expected)


def test_without_colours_blur_and_solarisation_a_view_is_a_crop_or_its_mirror_image(no_colour):
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    mirrored = set()
    for seed in range(20):
        view = make_view(image, 30, WHOLE, np.random.default_rng(seed))
        assert np.array_equal(view, image) or np.array_equal(view, image[:, ::-1])
        mirrored.add(np.array_equal(view, image))
    assert mirrored == {True, False}

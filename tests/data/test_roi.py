"""Regions of interest: what files say, which pixels and patches count, and what is refused."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flawmap.data.images.tiles import Tiling
from flawmap.data.roi import OUTSIDE_COLOUR, RegionOfInterest
from flawmap.data.rois import read_rois, refuse_unfit, rois_of, rois_of_text, with_roi_content
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import DataSettings, Recipe
from images import noise


def text(**content: object) -> str:
    return json.dumps(content)


def roi_of_text(content: str) -> RegionOfInterest:
    """The region of all images."""
    return rois_of_text(content).of(None)


def refused(content: str) -> UserError:
    with pytest.raises(UserError) as caught:
        rois_of_text(content, "line.json")
    assert caught.value.place == "line.json" and caught.value.remedy
    return caught.value


def test_a_rectangle_in_pixels_covers_the_pixels_whose_centres_it_holds():
    inside = roi_of_text(text(image_size_px=[8, 6], inside=[{"rectangle": [2, 1, 5, 4]}])).at(6, 8)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(inside, expected)


@given(st.integers(4, 40), st.integers(4, 40))
def test_pixels_and_shares_say_the_same_at_every_size(height, width):
    in_pixels = text(image_size_px=[8, 4], inside=[{"rectangle": [2, 0, 6, 4]}])
    in_shares = text(inside=[{"rectangle": [0.25, 0, 0.75, 1]}])
    np.testing.assert_array_equal(roi_of_text(in_pixels).at(height, width), roi_of_text(in_shares).at(height, width))


def test_outside_is_cut_out_of_inside_and_of_the_whole_image_where_nothing_is_inside():
    hole = [{"rectangle": [0, 0, 0.5, 0.5]}]
    both = roi_of_text(text(inside=[{"rectangle": [0, 0, 1, 0.5]}], outside=hole)).at(4, 4)
    only = roi_of_text(text(outside=hole)).at(4, 4)
    assert both.astype(int).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0] * 4, [0] * 4]
    assert only.astype(int).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1] * 4, [1] * 4]


def test_a_patch_counts_if_half_of_it_or_more_lies_inside():
    for share, counts in ((0.45, [True, False]), (0.5, [True, True]), (0.55, [True, True])):
        roi = roi_of_text(text(inside=[{"rectangle": [0, 0, 0.5 + share / 2, 1]}]))
        assert roi.patches((1, 2))[0].tolist() == counts
    with pytest.raises(UserError, match="too small: of 2 x 2 patches"):
        roi_of_text(text(inside=[{"rectangle": [0.4, 0.4, 0.6, 0.6]}])).patches((2, 2))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000))
def test_the_cover_of_a_patch_by_a_mask_is_the_share_of_its_pixels(rows, columns, seed):
    mask = np.random.default_rng(seed).random((rows * 4, columns * 4)) < 0.5
    mask[:4, :4] = True
    roi = roi_of_text(json.dumps(_recipe_text(mask)))
    expected = mask.reshape(rows, 4, columns, 4).mean(axis=(1, 3)) >= 0.5
    np.testing.assert_array_equal(roi.patches((rows, columns)), expected)
    np.testing.assert_array_equal(roi.at(*mask.shape), mask)


def _recipe_text(mask: np.ndarray) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return {"mask_png": base64.b64encode(file.getvalue()).decode()}


def test_a_mask_file_is_read_by_white_and_kept_as_text(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 5:35] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    before = (tmp_path / "mask.png").read_bytes()
    rois = read_rois(tmp_path / "mask.png")
    roi = rois.of(None)
    np.testing.assert_array_equal(roi.at(30, 40), mask > 0)
    assert rois_of_text(rois.text).text == rois.text and (tmp_path / "mask.png").read_bytes() == before
    assert roi.at(60, 80).sum() == 4 * (mask > 0).sum(), "an image of twice the size has the same region"


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((8, 8), np.uint8), "no pixel of the mask is white .brightest: 0 of 255"),
        (np.ones((8, 8), np.uint8), "brightest: 1 of 255"),
        (noise(0, 40, 40), "a picture, not a mask"),
    ],
)
def test_files_that_are_no_mask_are_refused(tmp_path, pixels, problem):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=problem):
        read_rois(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "this is not JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "has no shapes"),
        (text(inside=[], outside=[]), "has no shapes"),
        (text(insde=[{"rectangle": [0, 0, 1, 1]}]), "unknown field 'insde'.*did you mean inside"),
        (text(inside=[{"rectangel": [0, 0, 1, 1]}]), "unknown field 'rectangel'.*did you mean rectangle"),
        (text(inside={"rectangle": [0, 0, 1, 1]}), "inside must be a list"),
        (text(inside=[{"polygon": [[0, 0], [1, 1]]}]), "has 2 different corners"),
        (text(inside=[{"polygon": [[0, 0], [1, 1], [0, 0]]}]), "has 2 different corners"),
        (text(inside=[{"polygon": [[0, 0], [0.5, 0.5], [1, 1]]}]), "on a line"),
        (text(inside=[{"polygon": [[0, 0], [1, "1"], [1, 0]]}]), r"corners \[x, y\]"),
        (text(inside=[{"rectangle": [0.5, 0, 0.2, 1]}]), r"must be \[left, top, right, bottom\]"),
        (text(inside=[{"rectangle": [10, 0, 90, 80]}]), "shares from 0 to 1"),
        (text(image_size_px=[100, 50], inside=[{"rectangle": [10, 0, 90, 80]}]), "outside of the image of 100 x 50 px"),
        (text(image_size_px=100, inside=[{"rectangle": [10, 0, 90, 80]}]), r"must be \[width, height\]"),
        (text(image_size_px=[100, 0], inside=[{"rectangle": [10, 0, 90, 80]}]), r"must be \[width, height\]"),
        (text(inside=[{"rectangle": [0, 0, 1, 1], "polygon": []}]), "a polygon and a rectangle"),
        (text(inside=[{"rectangle": [0, 0, 0.5, 1]}], outside=[{"rectangle": [0, 0, 0.6, 1]}]), "covers nothing"),
        (text(mask_png="no PNG"), "damaged"),
        (text(inside=[{"rectangle": [0, 0, 1, True]}]), "must be"),
        ('{"inside": [{"rectangle": [0, 0, 1, NaN]}]}', "must be"),
    ],
)
def test_texts_that_say_no_region_are_refused(content, problem):
    error = refused(content)
    assert re.search(problem, error.problem), error.problem


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_rois(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_rois(tmp_path)


def test_a_recipe_takes_in_the_content_of_the_file_and_is_the_same_without_it(tmp_path):
    file = tmp_path / "line.json"
    file.write_text(text(inside=[{"rectangle": [0, 0, 0.5, 1]}]), encoding="utf-8")
    recipe = with_roi_content(Recipe(data=DataSettings(roi=str(file))))
    file.unlink()
    assert with_roi_content(recipe) == recipe and recipe.data.roi.startswith("{")
    saved = tmp_path / "recipe.yaml"
    saved.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(saved) == recipe
    assert rois_of(load_recipe(saved)).of(None).at(2, 2).tolist() == [[True, False], [True, False]]


def unfit(recipe: Recipe, sizes_px: dict[str, tuple[int, int]]) -> None:
    refuse_unfit(recipe, [NormalImage(key, Path(key)) for key in sizes_px], sizes_px, "here")


def test_images_of_another_shape_are_refused_and_those_of_another_size_are_not():
    roi = text(image_size_px=[100, 50], inside=[{"rectangle": [0, 0, 50, 50]}])
    recipe = Recipe(data=DataSettings(roi=roi))
    unfit(recipe, {"a.png": (50, 100), "b.png": (500, 1000), "c.png": (50, 101)})
    with pytest.raises(UserError, match=r"1 of 2 images have another one, first: b\.png with 60 x 50 px"):
        unfit(recipe, {"a.png": (50, 100), "b.png": (50, 60)})
    shares = replace(recipe, data=replace(recipe.data, roi=text(inside=[{"rectangle": [0, 0, 0.5, 1]}])))
    unfit(shares, {"b.png": (50, 60)})


def test_outside_an_image_has_one_colour():
    image = noise(1, 10, 20)
    grey = roi_of_text(text(inside=[{"rectangle": [0, 0, 0.5, 1]}])).with_grey_outside(image)
    np.testing.assert_array_equal(grey[:, :10], image[:, :10])
    assert (grey[:, 10:] == OUTSIDE_COLOUR).all()


def test_tiles_without_anything_inside_are_left_out_and_do_not_count_in_the_map():
    tiling = Tiling(1.0, 4, 1)
    grid = (4, 10)
    inside = np.zeros(grid, bool)
    inside[:, :3] = True
    assert tiling.places(grid) == [(0, 0), (0, 2), (0, 4), (0, 6)]
    assert tiling.places(grid, inside) == [(0, 0), (0, 2)]
    assert len(tiling.tiles(noise(0, 4, 10), inside=inside)) == 2
    maps = np.stack([np.full((4, 4), 1, np.float32), np.full((4, 4), 3, np.float32)])
    joined = tiling.joined(maps, grid, inside)
    whole = tiling.joined(np.concatenate([maps, np.zeros((2, 4, 4), np.float32)]), grid)
    np.testing.assert_array_equal(joined[:, :3], whole[:, :3])
    assert (joined[:, 3:] == joined[:, :3].min()).all()

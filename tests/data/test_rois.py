"""Regions of interest by camera: which one an image gets, what files say, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flawmap.data.rois import (
    depends_on,
    in_words,
    read_rois,
    refuse_too_small,
    refuse_unfit,
    rois_of,
    rois_of_text,
    with_roi_content,
)
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.recipe.settings import DataSettings, Recipe

LEFT_HALF = {"inside": [{"rectangle": [0, 0, 0.5, 1]}]}
UPPER_HALF = {"inside": [{"rectangle": [0, 0, 1, 0.5]}]}
ALL = {"inside": [{"rectangle": [0, 0, 1, 1]}]}
TWO = {"cameras": {"left": LEFT_HALF, "top": UPPER_HALF}}
EXPECTED = {"left": [[1, 0], [1, 0]], "top": [[1, 1], [0, 0]], None: [[1, 1], [1, 1]]}


def of(content: dict) -> Recipe:
    return Recipe(data=DataSettings(roi=json.dumps(content)))


def image(key: str, camera: str | None) -> NormalImage:
    return NormalImage(key, Path(key), camera=camera)


@given(st.sampled_from(["left", "top", "right", None]))
def test_an_image_gets_the_region_of_its_camera_and_else_the_default(camera):
    rois = rois_of(of(TWO | ALL))
    expected = EXPECTED.get(camera, EXPECTED[None])
    assert rois.of(camera).at(2, 2).astype(int).tolist() == expected
    assert rois.of(camera).camera == (camera if camera in TWO["cameras"] else None)
    assert [roi.camera for roi in rois.all] == [None, "left", "top"] and rois.camera_of_self_test is None


@pytest.mark.parametrize(("camera", "why"), [("right", "none is for camera right"), (None, "nobody has named")])
def test_without_a_default_an_image_of_no_known_camera_is_refused(camera, why):
    rois = rois_of(of(TWO))
    assert rois.default is None and rois.camera_of_self_test == "left"
    with pytest.raises(UserError, match=rf"for one camera \(left, top\).*{why}") as caught:
        rois.of_each([image("0.png", "left"), image("1.png", camera)])
    assert caught.value.place == "data.roi" and "--camera" in caught.value.remedy
    default = json.loads("{" + caught.value.remedy.partition("such as ")[2].partition(", and train")[0] + "}")
    assert rois_of_text(json.dumps(TWO | default)).of(camera).share == 1, "the remedy can be followed literally"


def test_one_region_for_all_is_that_of_every_camera():
    rois = rois_of(of(LEFT_HALF))
    assert rois.cameras == {} and rois.of("left") is rois.of(None) is rois.default
    assert rois.text == rois.default.text == json.dumps(LEFT_HALF)


def test_keys_of_results_depend_on_cameras_only_where_regions_do():
    images = [image("0.png", "left"), image("1.png", "top")]
    assert depends_on(None, images) == {}
    assert depends_on(rois_of(of(LEFT_HALF)), images) == {"roi": json.dumps(LEFT_HALF)}
    assert depends_on(rois_of(of(TWO)), images) == {"roi": json.dumps(TWO), "cameras": ["left", "top"]}


def test_a_file_may_name_masks_beside_it_and_the_recipe_holds_their_content(tmp_path):
    mask = np.zeros((8, 10), np.uint8)
    mask[2:6, 1:9] = 255
    Image.fromarray(mask).save(tmp_path / "left.png")
    (tmp_path / "top.json").write_text(json.dumps(UPPER_HALF), encoding="utf-8")
    file = tmp_path / "line.json"
    file.write_text(json.dumps({"cameras": {"left": "left.png", "top": "top.json"}}), encoding="utf-8")
    recipe = with_roi_content(Recipe(data=DataSettings(roi=str(file))))
    for name in ("left.png", "top.json", "line.json"):
        (tmp_path / name).unlink()
    assert with_roi_content(recipe) == recipe and "\n" not in recipe.data.roi
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    rois = rois_of(load_recipe(tmp_path / "recipe.yaml"))
    np.testing.assert_array_equal(rois.of("left").at(8, 10), mask > 0)
    assert rois.of("top").at(2, 2).astype(int).tolist() == EXPECTED["top"]


def test_a_file_that_is_named_may_not_be_of_several_cameras_or_missing(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps(TWO), encoding="utf-8")
    (tmp_path / "line.json").write_text(json.dumps({"cameras": {"left": "other.json"}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"camera left has the file other\.json, which is of several cameras"):
        read_rois(tmp_path / "line.json")
    (tmp_path / "line.json").write_text(json.dumps({"cameras": {"left": "none.png"}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"no such file: .*none\.png"):
        read_rois(tmp_path / "line.json")
    (tmp_path / "left_mask.png").write_bytes(b"")
    (tmp_path / "line.json").write_text(json.dumps({"cameras": {"left": "left_msk.png"}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"left_mask\.png exists"):
        read_rois(tmp_path / "line.json")


@pytest.mark.parametrize(
    ("content", "problem", "place"),
    [
        ({"cameras": {}}, "must be an object with the region of each camera", "line.json"),
        ({"cameras": [LEFT_HALF]}, "must be an object with the region of each camera", "line.json"),
        ({"camera": {"left": LEFT_HALF}}, "unknown field 'camera'.*did you mean cameras", "line.json"),
        ({"cameras": {"left": "left.png"}}, "camera left must be an object, or in a file", "line.json"),
        ({"cameras": {"left/1": LEFT_HALF}}, "a camera cannot be named 'left/1'", "line.json"),
        ({"cameras": {"left": {}}}, "has no shapes", "line.json, camera left"),
        ({"cameras": {"left": TWO}}, "unknown field 'cameras'", "line.json, camera left"),
        ({"cameras": TWO["cameras"], "inside": []}, "has no shapes", "line.json"),
        ({"image_size_px": [8, 8], "cameras": TWO["cameras"]}, "image_size_px stands beside cameras", "line.json"),
    ],
)
def test_texts_that_say_no_region_of_a_camera_are_refused(content, problem, place):
    with pytest.raises(UserError, match=problem) as caught:
        rois_of_text(json.dumps(content), "line.json")
    assert caught.value.place == place and caught.value.remedy


def test_each_camera_may_have_images_of_its_own_shape():
    wide = {"image_size_px": [200, 100], "inside": [{"rectangle": [0, 0, 100, 100]}]}
    recipe = of({"cameras": {"wide": wide, "top": UPPER_HALF}})
    images = [image("0.png", "wide"), image("1.png", "top"), image("2.png", "wide")]
    refuse_unfit(recipe, images, {"0.png": (100, 200), "1.png": (50, 50), "2.png": (50, 100)}, "here")
    with pytest.raises(UserError, match=r"of camera wide is for images of 200 x 100.*1 of 3 .*first: 2\.png") as caught:
        refuse_unfit(recipe, images, {"0.png": (100, 200), "1.png": (50, 50), "2.png": (50, 60)}, "here")
    assert caught.value.place == "here"


def test_a_region_smaller_than_a_patch_is_refused_with_its_camera():
    dot = {"inside": [{"rectangle": [0.4, 0.4, 0.6, 0.6]}]}
    recipe = of({"cameras": {"left": LEFT_HALF, "dot": dot}})
    refuse_too_small(recipe, (5, 5))
    with pytest.raises(UserError, match="of camera dot is too small: of 2 x 2 patches"):
        refuse_too_small(recipe, (2, 2))
    refuse_too_small(replace(recipe, data=replace(recipe.data, roi=None)), (2, 2))


def test_words_say_how_much_of_each_cameras_images_counts():
    rest = "nothing outside is learned or scored"
    assert in_words(Recipe()) is None
    assert in_words(of(LEFT_HALF)) == f"50.0% of each image counts; {rest}"
    assert in_words(of(TWO)) == f"of each image counts: camera left 50.0%, camera top 50.0%; {rest}"
    assert in_words(of(TWO | ALL)).startswith(
        "of each image counts: camera left 50.0%, camera top 50.0%, all others 100"
    )

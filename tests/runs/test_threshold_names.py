"""One name for whose thresholds are meant: a camera's, a product's, or both."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import explained
from flawmap.data.part_names import NAME, is_part_name
from flawmap.data.sample import NormalImage
from flawmap.runs.cameras import command_for_camera, is_camera_name, refuse_bad_name, refuse_unknown_camera
from flawmap.runs.threshold_names import (
    camera_in,
    is_threshold_name,
    names_of,
    nearest_name,
    options_of,
    product_in,
    products_in,
    threshold_name,
    trained_names,
    whose,
)

NAMES = st.none() | st.from_regex(NAME, fullmatch=True)
TRAINED = {"nut@": 3, "nut@left": 3, "screw@": 30, "screw@left": 18, "screw@right": 12, "left": 21, "right": 12}


@given(product=NAMES, camera=NAMES)
def test_a_name_holds_its_parts(product: str | None, camera: str | None):
    name = threshold_name(product, camera)
    assert (product_in(name), camera_in(name)) == (product, camera)
    assert (name is None) == (product is None and camera is None)
    assert name is None or is_threshold_name(name)


def test_for_people_and_for_commands():
    assert [whose(name) for name in (None, "left", "screw@", "screw@left")] == [
        "",
        "camera left",
        "product screw",
        "product screw, camera left",
    ]
    assert options_of("screw@left") == ("--product", "screw", "--camera", "left") and options_of(None) == ()
    assert is_camera_name("screw@") and not any(map(is_camera_name, ("@left", "a@b@c", "con@left", "screw@default")))
    assert command_for_camera("run", "M4 x 10@Kamera 2") == (
        "flawmap calibrate run GOOD_IMAGES --product M4-x-10 --camera Kamera-2"
    )


@pytest.mark.parametrize(
    ("asked", "known", "used"),
    [
        ("screw@left", ("screw@left", "screw@", "left"), "screw@left"),
        ("screw@left", ("screw@", "left"), "screw@"),
        ("screw@left", ("nut@left", "left"), "left"),
        ("screw@left", ("nut@", "right"), None),
        ("screw@", ("screw@left", "nut@"), None),
        (None, ("screw@",), None),
    ],
)
def test_who_judges_where_there_is_no_threshold_of_its_own(asked: str | None, known: tuple[str, ...], used: str | None):
    assert nearest_name(asked, known) == used


def test_each_image_counts_for_its_product_its_camera_and_both():
    def image(product: str | None, camera: str | None) -> NormalImage:
        return NormalImage("a", Path("a"), None, None, product, camera)

    assert names_of(image("screw", "left")) == ("screw@left", "screw@", "left")
    assert names_of(image("screw", None)) == ("screw@",) and names_of(image(None, "left")) == ("left",)
    assert names_of(image(None, None)) == ()
    images = [image("screw", "left")] * 18 + [image("screw", "right")] * 12 + [image("nut", "left")] * 3
    assert trained_names(images) == TRAINED and products_in(TRAINED) == ("nut", "screw")


def test_what_training_has_seen_is_known_and_nothing_else():
    for name in (None, "nut@", "nut@left", "nut@right", "screw@left", "right"):
        refuse_unknown_camera(name, {}, "run", trained=TRAINED)
    bolt = explained(lambda: refuse_unknown_camera("bolt@left", {}, "run", trained=TRAINED))
    assert bolt.problem == "the model does not know the product 'bolt'; it knows nut, screw"
    assert bolt.remedy == "flawmap calibrate run GOOD_IMAGES --product bolt --camera left"
    screw = explained(lambda: refuse_unknown_camera("scrw@", {}, "run", trained=TRAINED))
    assert screw.remedy == "did you mean product screw?"
    m8 = explained(lambda: refuse_unknown_camera("M8@", {}, "run", trained={"M6@": 30}))
    assert m8.remedy == "flawmap calibrate run GOOD_IMAGES --product M8"  # a number is no mistyped letter
    top = explained(lambda: refuse_unknown_camera("nut@top", {}, "run", trained=TRAINED))
    assert top.problem == "there is no threshold for camera 'top'; known cameras: left, right"
    none = explained(lambda: refuse_unknown_camera("nut@", {}, "run"))
    assert none.problem.endswith("it knows none: it was trained on images without a product")


def test_names_of_products_are_checked_like_those_of_cameras():
    refuse_bad_name("screw@left", {})
    assert explained(lambda: refuse_bad_name("M4 x@left", {})).remedy == "--product M4-x"
    assert explained(lambda: refuse_bad_name("Nul@", {})).remedy == "--product product-Nul"
    assert is_part_name("product-Nul")

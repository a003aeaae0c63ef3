"""The proposed region of interest: dark borders and burnt-in text that stay at their place, in made-up X-rays."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from flawmap.data.roi_proposal import (
    CELLS,
    ProposedRois,
    dark_border,
    mark_cells,
    proposal_of,
    propose_roi,
    propose_rois,
)
from flawmap.data.rois import rois_of_text
from flawmap.data.sample import NormalImage

CELL = 1 / CELLS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def xray(generator, left=0, top=0, right=0, bottom=0, text_at=None, side=256, text="ID 1234"):
    """Smooth gray from 60 to 200 with noise, a black border of some pixels, and white letters."""
    coarse = Image.fromarray(generator.integers(60, 200, (4, 4), dtype=np.uint8)).resize((side, side))
    pixels = np.asarray(coarse).astype(np.int16) + generator.integers(-5, 6, (side, side))
    pixels[:top], pixels[:, :left] = 3, 3
    pixels[side - bottom :], pixels[:, side - right :] = 3, 3
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if text_at is not None:
        ImageDraw.Draw(image).text(text_at, text, 255)
    return np.asarray(image)


def saved(folder, images):
    found = []
    for number, pixels in enumerate(images):
        path = folder / f"{number:03d}.png"
        Image.fromarray(pixels).save(path)
        found.append(NormalImage(path.name, path, f"{number:064x}"))
    return found


def test_the_border_is_as_deep_as_its_dark_rows_and_columns(rng):
    assert dark_border(xray(rng, left=16, top=8, right=32)) == (16 / 256, 8 / 256, 32 / 256, 0.0)
    assert dark_border(xray(rng)) == (0.0, 0.0, 0.0, 0.0)
    assert dark_border(np.zeros((8, 8), np.uint8)) == (0.0, 0.0, 0.0, 0.0)


def test_text_in_the_border_does_not_end_it(rng):
    assert dark_border(xray(rng, top=24, text_at=(100, 5)))[1] == 24 / 256


@pytest.mark.parametrize("side", [256, 512, 900])
def test_letters_are_marks_and_large_bright_parts_are_not(rng, side):
    """A bright half of the image, its edge, and a bright disc of a fifth of the side are anatomy."""
    pixels = xray(rng, side=side) // 2
    pixels[:, side // 2 :] = 250
    y, x = np.mgrid[:side, :side]
    pixels[(y - side // 2) ** 2 + (x - side // 4) ** 2 < (side / 10) ** 2] = 250
    assert not mark_cells(pixels).any()
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((side // 16, side // 16), "R", 255)
    rows, columns = np.nonzero(mark_cells(np.asarray(image)))
    assert len(rows) and rows.max() < CELLS // 4 and columns.max() < CELLS // 4


def test_what_stays_at_its_place_is_proposed(rng, tmp_path):
    """The border of four of five images, and the text of all."""
    images = [
        xray(rng, left=20 if number % 5 else 0, top=10 + number % 7, text_at=(150, 200), text=f"ID {number}")
        for number in range(20)
    ]
    proposal = propose_roi(saved(tmp_path, images))
    assert proposal is not None and proposal.border == (20 / 256, 11 / 256, 0.0, 0.0)
    ((left, top, right, bottom),) = proposal.texts
    assert 150 / 256 - 2 * CELL <= left <= 150 / 256 and 200 / 256 - 2 * CELL <= top <= 204 / 256
    assert right > 160 / 256 and bottom > 208 / 256 and right - left < 0.25 and bottom - top < 0.12
    content = json.loads(ProposedRois({None: proposal}).to_text())
    assert content["inside"] == [{"rectangle": [0.0781, 0.043, 1, 1]}]
    assert content["outside"] == [{"rectangle": [round(edge, 4) for edge in proposal.texts[0]]}]
    assert "80% of the images (left 7.8%, top 4.3%)" in proposal.words and "one place" in proposal.words


def test_text_at_another_place_in_each_image_is_not_proposed(rng, tmp_path):
    places = [(20 + 10 * number, 10 + 12 * number) for number in range(15)]
    assert propose_roi(saved(tmp_path, [xray(rng, text_at=place, text="L") for place in places])) is None


def test_borders_of_fewer_images_are_not_proposed(rng, tmp_path):
    assert propose_roi(saved(tmp_path, [xray(rng, left=20 if number % 4 else 0) for number in range(12)])) is None


def test_each_camera_has_a_proposal_of_its_own_that_can_be_read_back(rng, tmp_path):
    """One with a border at the left, one at the right, and one without any, all mixed in one list."""
    borders = {"west": {"left": 32}, "east": {"right": 64}, "top": {}}
    images = saved(tmp_path, [xray(rng, **borders[camera]) for _ in range(12) for camera in borders])
    images = [replace(image, camera=camera) for image, camera in zip(images, [*borders] * 12, strict=True)]
    assert propose_roi(images) is None  # together, no border stays at its place
    proposed = propose_rois(images)
    assert proposed is not None
    assert proposed.words == (
        "a dark border in 80% of the images (left 12.5%) (camera west); "
        "a dark border in 80% of the images (right 25.0%) (camera east)"
    )
    rois = rois_of_text(proposed.to_text())
    shares = {camera: rois.of(camera).share for camera in ("west", "east", "top", None, "other")}
    assert shares == {"west": 0.875, "east": 0.75, "top": 1.0, None: 1.0, "other": 1.0}
    assert propose_rois([image for image in images if image.camera == "top"]) is None


def test_images_without_a_camera_have_the_regions_default(rng, tmp_path):
    images = saved(tmp_path, [xray(rng, left=32 if number < 12 else 0) for number in range(24)])
    images[12:] = [replace(image, camera="right") for image in images[12:]]
    proposed = propose_rois(images)
    assert proposed is not None and proposed.words == "a dark border in 80% of the images (left 12.5%)"
    rois = rois_of_text(proposed.to_text())
    assert (rois.of(None).share, rois.of("right").share) == (0.875, 1.0)


def test_few_images_and_colours_are_not_looked_at(rng, tmp_path):
    images = [xray(rng, left=40) for _ in range(12)]
    assert propose_roi(saved(tmp_path, images[:9])) is None
    coloured = [np.stack([image, image, 255 - image], axis=2) for image in images]
    assert propose_roi(saved(tmp_path, coloured)) is None


def test_text_inside_the_border_needs_no_place_of_its_own():
    """Cells that the border covers are left out; a place that it covers in part is cut."""
    cells = np.zeros((CELLS, CELLS), bool)
    cells[0:2, 10:20] = True  # in the border
    cells[6:10, 30:34] = True
    proposal = proposal_of([(0.0, 0.125, 0.0, 0.0)] * 3, [cells] * 3)
    assert proposal is not None
    assert proposal.border == (0.0, 0.125, 0.0, 0.0)
    assert proposal.texts == ((30 / CELLS, 8 / CELLS, 34 / CELLS, 10 / CELLS),)

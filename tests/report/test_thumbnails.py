"""Maps, masks and thumbnails, value by value."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap.drawing.colour import ColourScale
from flawmap.drawing.overlay import TRUTH_GREEN
from flawmap.report.run_files import ScoredImage, read_run
from flawmap.report.thumbnails import data_uri, read_map, sample_images, shrink, tiles_of
from flawmap.runs.calibration import MapScale

SCALE = ColourScale(-1.0, 0.5, 2.0)


def test_a_map_comes_back_in_its_own_unit(tmp_path: Path) -> None:
    stored = np.array([[0, 65535], [32768, 16384]], dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / "map.png")
    read = read_map(tmp_path / "map.png", MapScale(-1.0, 2.0))
    assert read.dtype == np.float32
    assert read == pytest.approx(-1 + stored / 65535 * 3, abs=1e-6)
    assert read_map(tmp_path / "map.png", MapScale(0.0, 1.0), size=(5, 7)).shape == (5, 7)


def test_images_shrink_to_their_longer_side_and_never_grow() -> None:
    wide = np.zeros((100, 800, 3), dtype=np.uint8)
    assert shrink(wide, 200).shape == (25, 200, 3)
    assert shrink(wide, 900).shape == wide.shape
    assert shrink(np.zeros((1, 4000, 3), dtype=np.uint8), 100).shape == (1, 100, 3)


def test_a_data_uri_holds_the_image() -> None:
    image = np.full((6, 9, 3), (200, 30, 90), dtype=np.uint8)
    head, packed = data_uri(image).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(packed))) as file:
        assert np.abs(np.asarray(file).astype(int) - image).max() <= 3


def test_a_defect_of_one_pixel_is_still_outlined(tmp_path: Path) -> None:
    Image.fromarray(np.full((1500, 1500, 3), 90, dtype=np.uint8)).save(tmp_path / "image.png")
    mask = np.zeros((1500, 1500), dtype=np.uint8)
    mask[700, 100] = 255
    Image.fromarray(mask).save(tmp_path / "truth.png")
    scored = ScoredImage("k", tmp_path / "image.png", "x", True, 1.0, True, None, tmp_path / "truth.png")
    tiles = tiles_of(scored, MapScale(0.0, 1.0), SCALE)
    green = (tiles["truth"] == TRUTH_GREEN).all(axis=2)
    assert np.argwhere(green).tolist() == [[140, 20]]
    assert set(tiles) == {"image", "truth"}


def test_an_image_that_is_gone_leaves_its_map(made_up) -> None:
    scored = read_run(made_up.run).images[69]
    scored.path.unlink()
    tiles = tiles_of(scored, MapScale(-1.0, 2.0), SCALE)
    assert set(tiles) == {"map"} and tiles["map"].shape == (96, 128, 3)
    hottest = np.unravel_index(tiles["map"].astype(int).sum(axis=2).argmax(), (96, 128))
    assert scored.truth_file is not None
    with Image.open(scored.truth_file) as file:
        assert np.asarray(file)[hottest] == 255  # the fixture's map peaks inside its defect


def test_sample_map_is_coloured_on_the_given_scale(trained_run: Path) -> None:
    row = read_run(trained_run).samples[0]
    images = sample_images(row, SCALE, 224)
    assert set(images) == {"input", "attention", "masked", "simulated", "map"}
    with Image.open(row.files["map"]) as file:
        values = -1.0 + np.asarray(file).astype(np.float64) / 255 * 3.0
    assert np.array_equal(images["map"], SCALE.colours(values))
    stored_on = replace(row, map_ends=MapScale(0.0, 6.0))  # a calibration after the training moves colours, not values
    values = np.asarray(Image.open(row.files["map"])).astype(np.float64) / 255 * 6.0
    assert np.array_equal(sample_images(stored_on, SCALE, 224)["map"], SCALE.colours(values))
    gray = sample_images(row, None, 224)["map"]
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (images["simulated"] == TRUTH_GREEN).all(axis=2).any()

"""Regions of interest by camera: each image counts in its own camera's, in training, updates and detection."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.runs.run_folder import create_run
from images import noise, striped, write_image
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

HEIGHT, WIDTH, COUNT = 120, 180, 20
LEFT_PART = {"image_size_px": [WIDTH, HEIGHT], "inside": [{"rectangle": [0, 0, 100, HEIGHT]}]}
RIGHT_PART = {"image_size_px": [WIDTH, HEIGHT], "inside": [{"rectangle": [80, 0, WIDTH, HEIGHT]}]}
BOTH = json.dumps({"cameras": {"west": LEFT_PART, "east": RIGHT_PART}})
OUTSIDE = {"west": slice(100, WIDTH), "east": slice(0, 80)}  # columns
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
    *("memory.image_share=0.2", "expectation.appearance=mean_token"),
)
KINDS = {
    "tiles": ("data.tiles=100",),
    "relative": ("data.tiles=none", "memory.relative=true"),
    "few": ("data.tiles=none", "method=memory"),
}


def camera_of(number: int) -> str:
    return "west" if number % 3 else "east"


def with_clutter(image: np.ndarray, camera: str, seed: int) -> np.ndarray:
    """Noise outside of the camera's region."""
    image, columns = image.copy(), OUTSIDE[camera]
    image[:, columns] = noise(seed, HEIGHT, columns.stop - columns.start)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cameras")
    for number in range(COUNT):
        image = striped(number, HEIGHT, WIDTH)
        write_image(folder / "good" / f"{number:02d}.png", image)
        write_image(folder / "cluttered" / f"{number:02d}.png", with_clutter(image, camera_of(number), number))
    return folder


@pytest.fixture(
    scope="module", params=["few", *(pytest.param(k, marks=pytest.mark.slow) for k in ("relative", "tiles"))]
)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def good(folder: Path, name: str, count: int = COUNT) -> list[NormalImage]:
    images = load_images(folder / name).images[:count]
    return [replace(image, camera=camera_of(number)) for number, image in enumerate(images)]


def fit(folder: Path, images: str, kind: str, run: str, roi: str) -> AnomalyDetector:
    recipe = tiny_recipe(*SETTINGS, *KINDS[kind])
    recipe = replace(recipe, data=replace(recipe.data, roi=roi))
    run_folder = create_run(folder / f"{run}-{kind}", "test", recipe)
    chosen = good(folder, images, 6 if kind == "few" else COUNT)
    detector = AnomalyDetector(recipe).fit(chosen, run_folder, device="cpu")
    detector.run_path = run_folder.path  # for the test
    return detector


def assert_same(one: AnomalyDetector, other: AnomalyDetector) -> None:
    assert one.scorer_.state_dict().keys() == other.scorer_.state_dict().keys()
    for name, tensor in one.scorer_.state_dict().items():
        torch.testing.assert_close(other.scorer_.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    assert other.calibrations_ == one.calibrations_ and other.proxy_ == one.proxy_


@pytest.fixture(scope="module")
def both(folder: Path, kind: str) -> AnomalyDetector:
    return fit(folder, "good", kind, "both", BOTH)


@pytest.mark.slow
def test_the_same_region_for_all_cameras_is_one_region_bit_by_bit(folder, kind):
    of_each = json.dumps({"cameras": {"west": LEFT_PART, "east": LEFT_PART}})
    each, one = (
        fit(folder, "good", kind, name, roi) for name, roi in (("each", of_each), ("one", json.dumps(LEFT_PART)))
    )
    assert_same(one, each)
    image = with_clutter(striped(60, HEIGHT, WIDTH), "west", 1)
    for camera in ("west", "east"):
        found, expected = each.analyse(image, camera), one.analyse(image)
        assert found.scores == expected.scores
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


@pytest.mark.slow
def test_what_lies_outside_of_a_cameras_own_region_changes_neither_model_nor_threshold(folder, kind, both):
    assert_same(both, fit(folder, "cluttered", kind, "cluttered", BOTH))


def test_what_lies_outside_of_a_cameras_own_region_changes_neither_score_nor_map(both):
    image, scores = striped(61, HEIGHT, WIDTH), {}
    for camera, columns in OUTSIDE.items():
        plain, beside = both.analyse(image, camera), both.analyse(with_clutter(image, camera, 2), camera)
        assert beside.scores == plain.scores
        np.testing.assert_array_equal(beside.anomaly_map, plain.anomaly_map)
        assert not plain.inside[:, columns].any() and plain.inside.sum() == 100 * HEIGHT
        (other,) = OUTSIDE.keys() - {camera}
        assert both.analyse(with_clutter(image, other, 2), camera).scores != plain.scores
        scores[camera] = plain.scores
    assert scores["west"] != scores["east"]


def test_images_that_share_a_pass_each_have_their_own_region(both):
    images = [striped(62 + number, HEIGHT, WIDTH) for number in range(3)]
    cameras = ["west", "east", "west"]
    both._at_once = ImagesAtOnce(3)
    try:
        together = both.analyse_many(images, cameras=cameras)
    finally:
        both._at_once = None
    for image, camera, found in zip(images, cameras, together, strict=True):
        alone = both.analyse(image, camera)
        assert found.scores == pytest.approx(alone.scores, abs=1e-4)
        np.testing.assert_array_equal(found.inside, alone.inside)


def test_the_memory_holds_tokens_of_each_image_from_its_cameras_region_alone(both, kind):
    tensors = read_tensors(both.run_path / "checkpoints" / "encoding.safetensors")
    inside = tensors["inside"].reshape(-1, 4, 4)  # (i, rows, columns)
    west, east = [True, True, False, False], [False, False, True, True]
    expected = [west if camera_of(number) == "west" else east for number in range(len(inside))]
    assert inside.any(dim=1).tolist() == expected
    tokens = tensors["reference_tokens"][tensors["inside"][tensors["references"]]]
    own = int(inside.sum())
    for candidate in tensors["candidates"][:own]:
        assert (tokens == candidate).flatten(1).all(dim=1).any()


def test_a_camera_without_a_region_is_refused_and_a_saved_model_knows_its_regions(both, folder, kind):
    image = striped(63, HEIGHT, WIDTH)
    with pytest.raises(UserError, match="nobody has named the camera"):
        both.predict(image)
    with pytest.raises(UserError, match="none is for camera top"):
        both.analyse(image, "top")
    both.save_pretrained(folder / f"model-{kind}")
    loaded = AnomalyDetector.from_pretrained(folder / f"model-{kind}", "cpu", camera="east")
    found = loaded.predict(image)
    assert found.score == both.predict(image, camera="east").score == both.analyse(image, "east").scores["mean_logit"]
    np.testing.assert_array_equal(found.inside, both.analyse(image, "east").inside)
    stored = loaded.self_test_
    assert stored.is_passed_by(loaded.self_test().score, loaded.self_test().map_peak)


def test_good_images_of_several_cameras_are_scored_each_in_its_own_region(both, folder):
    images = good(folder, "good", 3)
    expected = [both.analyse(striped(number, HEIGHT, WIDTH), camera_of(number)) for number in range(3)]
    assert both.score_samples(images).tolist() == [one.scores["mean_logit"] for one in expected]

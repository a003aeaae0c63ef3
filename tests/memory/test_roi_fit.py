"""A region of interest: what lies outside enters nothing and changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.images.files import read_image
from flawmap.data.open_data import load_images
from flawmap.data.roi import OUTSIDE_COLOUR
from flawmap.data.rois import rois_of_text
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.tensor_files import read_tensors
from flawmap.runs.run_folder import create_run
from images import noise, striped, write_image
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

HEIGHT, WIDTH, COUNT = 120, 180, 20
LEFT = json.dumps({"image_size_px": [WIDTH, HEIGHT], "inside": [{"rectangle": [0, 0, 100, HEIGHT]}]})
ALL = json.dumps({"inside": [{"rectangle": [0, 0, 1, 1]}]})
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
    *("memory.image_share=0.2", "expectation.appearance=mean_token"),
)
KINDS = {"whole": ("data.tiles=none",), "tiles": ("data.tiles=100",), "relative": ("memory.relative=true",)}


@pytest.fixture(scope="module", params=["whole", "tiles", pytest.param("relative", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roi")
    for number in range(COUNT):
        image = striped(number, HEIGHT, WIDTH)
        write_image(folder / "good" / f"{number:02d}.png", image)
        image = image.copy()
        image[:, 100:] = noise(number, HEIGHT, WIDTH - 100)
        write_image(folder / "cluttered" / f"{number:02d}.png", image)
    return folder


def fit(folder: Path, images: str, run: str, roi: str | None, *changes: str) -> AnomalyDetector:
    recipe = tiny_recipe(*SETTINGS, *changes)
    recipe = replace(recipe, data=replace(recipe.data, roi=roi))
    run_folder = create_run(folder / run, "test", recipe)
    detector = AnomalyDetector(recipe).fit(load_images(folder / images), run_folder, device="cpu")
    detector.run_path = run_folder.path  # for the test
    return detector


@pytest.fixture(scope="module")
def left(folder: Path, kind: tuple[str, ...]) -> AnomalyDetector:
    return fit(folder, "good", f"left-{kind[0]}", LEFT, *kind)


def test_what_lies_outside_changes_neither_model_nor_threshold(folder, kind, left):
    other = fit(folder, "cluttered", f"cluttered-{kind[0]}", LEFT, *kind)
    for name, tensor in left.scorer_.state_dict().items():
        torch.testing.assert_close(other.scorer_.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    assert other.calibration_ == left.calibration_
    assert other.proxy_ == left.proxy_


def test_a_defect_outside_changes_neither_score_nor_map_and_one_inside_does(left):
    image = striped(50, HEIGHT, WIDTH)
    outside, inside = image.copy(), image.copy()
    outside[20:100, 105:175] = noise(1, 80, 70)
    inside[20:100, 5:75] = noise(1, 80, 70)
    plain, beside, defect = left.predict([image, outside, inside])
    assert beside.score == plain.score and beside.scores == plain.scores
    np.testing.assert_array_equal(beside.anomaly_map, plain.anomaly_map)
    assert beside.regions == plain.regions and beside.is_anomalous == plain.is_anomalous
    assert defect.score != plain.score


def test_outside_the_map_is_as_low_as_its_lowest_value_inside_and_no_region_lies_there(left):
    found = left.predict(striped(51, HEIGHT, WIDTH))
    assert found.inside[:, :100].all() and not found.inside[:, 100:].any()
    assert (found.anomaly_map[:, 100:] == found.anomaly_map[:, :100].min()).all()
    assert found.to_json()["inside_share"] == pytest.approx(100 / WIDTH)
    lowest = replace(left.calibration_, map_threshold=float(found.anomaly_map.min()) - 1)
    copied = AnomalyDetector(left.recipe)
    copied.scorer_, copied.calibration_ = left.scorer_, lowest
    (region,) = copied.predict(striped(51, HEIGHT, WIDTH)).regions
    assert region.box_xyxy_px == (0, 0, 100, HEIGHT) and region.area_px == 100 * HEIGHT


@pytest.mark.slow
def test_a_region_of_everything_gives_the_results_of_none(folder, kind):
    none, everything = (
        fit(folder, "good", f"{name}-{kind[0]}", roi, *kind) for name, roi in (("no", None), ("all", ALL))
    )
    before, state = everything.scorer_.state_dict(), none.scorer_.state_dict()
    assert before.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(before[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert everything.calibration_.threshold == pytest.approx(none.calibration_.threshold, abs=1e-3)
    image = striped(52, HEIGHT, WIDTH)
    assert everything.predict(image).score == pytest.approx(none.predict(image).score, abs=1e-3)
    np.testing.assert_allclose(everything.predict(image).anomaly_map, none.predict(image).anomaly_map, atol=2e-3)


def test_the_image_share_is_of_the_patches_inside(left):
    scorer = getattr(left.scorer_, "whole", left.scorer_)
    inside = torch.from_numpy(rois_of_text(LEFT).of(None).patches((4, 4))).flatten()[None]  # 2 of 4 columns
    assert inside.sum() == 8
    patches = torch.arange(16.0)[None]
    values = patches[inside].sort(descending=True).values
    expected = values[:2].mean()  # a fifth of 8, rounded
    assert float(scorer.top_mean(patches, inside)) == pytest.approx(float(expected))


def test_a_saved_model_keeps_its_region(left, folder, kind):
    left.save_pretrained(folder / f"model-{kind[0]}")
    loaded = AnomalyDetector.from_pretrained(folder / f"model-{kind[0]}", "cpu")
    assert loaded.recipe.data.roi == left.recipe.data.roi == LEFT
    image = striped(53, HEIGHT, WIDTH)
    assert loaded.predict(image).score == left.predict(image).score
    np.testing.assert_array_equal(loaded.predict(image).anomaly_map, left.predict(image).anomaly_map)


def test_no_simulated_defect_lies_outside(left):
    for path in sorted((left.run_path / "samples").glob("*footprint*.png")):
        footprint = read_image(path)[..., 0] > 0
        width = footprint.shape[1]
        assert not footprint[:, round(width * 100 / WIDTH) + 1 :].any()


def test_the_memory_holds_no_token_of_a_patch_outside(left):
    good = read_tensors(left.run_path / "checkpoints" / "encoding.safetensors")
    inside = good["inside"]  # (i, 16), the first two of four columns
    assert inside.reshape(-1, 4, 4).any(dim=0).any(dim=0).tolist() == [True, True, False, False]
    tokens = good["reference_tokens"][inside[good["references"]]]  # (n, l, d)
    count, shifted = int(inside.sum()), COUNT * 3 * 1  # half a patch down and to the right, between inner patches only
    assert len(good["candidates"]) == count + shifted == len(good["sources"])
    for candidate in good["candidates"][:count]:
        assert (tokens == candidate).flatten(1).all(dim=1).any()


def test_pixels_outside_have_one_colour_before_the_encoder_sees_them():
    grey = rois_of_text(LEFT).of(None).with_grey_outside(striped(1, HEIGHT, WIDTH))
    assert (grey[:, 100:] == OUTSIDE_COLOUR).all()
    np.testing.assert_array_equal(grey[:, :100], striped(1, HEIGHT, WIDTH)[:, :100])

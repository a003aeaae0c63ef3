"""Exports of models with a region of interest: they answer as the detector does, and nothing outside counts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from images import noise, striped, write_good, write_image
from tiny_detector import tiny_recipe

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from flawmap.data.open_data import load_images
from flawmap.deploy import load
from flawmap.deploy.export import export_model
from flawmap.deploy.parity import CheckImage
from flawmap.deploy.runtime import EXTENSIONS
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import FORMAT, WITHOUT_PRODUCTS, WITHOUT_ROI_OF_CAMERAS
from flawmap.errors import UserError
from flawmap.runs.self_test import SCORE, self_test_image

LEFT = json.dumps({"inside": [{"rectangle": [0, 0, 0.55, 1]}], "outside": [{"rectangle": [0, 0, 0.3, 0.2]}]})
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
    *("expectation.appearance=mean_token", "memory.image_share=0.2"),
)
BOTH = {  # of two cameras
    "west": {"inside": [{"rectangle": [0, 0, 0.55, 1]}]},
    "east": {"inside": [{"rectangle": [0.3, 0.2, 1, 1]}]},
}
KINDS = {"whole": (), "relative": ("memory.relative=true",), "tiles": ("data.tiles=28",)}
SIZES = [(48, 48), (40, 90), (120, 70)]


@pytest.fixture(
    scope="module", params=["whole", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("relative", "tiles"))]
)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def detector(tmp_path_factory, kind) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good"), 8))
    recipe = tiny_recipe(*SETTINGS, *KINDS[kind])
    return AnomalyDetector(replace(recipe, data=replace(recipe.data, roi=LEFT))).fit(images, device="cpu")


@pytest.fixture(scope="module")
def check_images(tmp_path_factory) -> list[CheckImage]:
    folder = tmp_path_factory.mktemp("check")
    return [CheckImage(write_image(folder / f"{n}.png", striped(n, *size))) for n, size in enumerate(SIZES)]


def exported_as(to: str, detector: AnomalyDetector, folder: Path, images: list[CheckImage]):
    path = folder / f"part{EXTENSIONS[to]}"
    parity = export_model(detector, path, to, images)
    assert parity.is_good and parity.max_score_difference < 1e-4
    return load(path, threads=1)


def test_a_file_answers_as_the_detector_does(detector, tmp_path, check_images):
    model = exported_as("onnx", detector, tmp_path, check_images)
    assert model.facts.roi == LEFT
    assert json.loads(model.facts.to_text())["format"] == (
        WITHOUT_ROI_OF_CAMERAS if model.facts.has_batch_axis else WITHOUT_PRODUCTS
    )
    for number, size in enumerate(SIZES):
        image = striped(7 + number, *size)
        native, found = detector.predict(image), model.predict(image)
        assert found.scores == pytest.approx(native.scores, abs=1e-4)
        np.testing.assert_allclose(found.anomaly_map, native.anomaly_map, atol=2e-3)
        np.testing.assert_array_equal(found.inside, native.inside)
        cluttered = np.where(native.inside[..., None], image, noise(number, *size))
        again = model.predict(cluttered)
        assert again.scores == found.scores
        np.testing.assert_array_equal(again.anomaly_map, found.anomaly_map)


@pytest.mark.parametrize("to", [pytest.param("openvino", marks=pytest.mark.slow), "torchscript"])
def test_other_formats_keep_the_region_or_are_refused_with_the_way_out(detector, kind, tmp_path, check_images, to):
    if to == "openvino":
        pytest.importorskip("openvino")
    if kind == "tiles":
        with pytest.raises(UserError) as caught:
            exported_as(to, detector, tmp_path, check_images)
        assert caught.value.remedy == "--to onnx"
        return
    model = exported_as(to, detector, tmp_path, check_images)
    image = striped(9, 40, 90)
    assert model.predict(image).scores == pytest.approx(detector.predict(image).scores, abs=1e-4)
    cluttered = np.where(detector.predict(image).inside[..., None], image, noise(9, 40, 90))
    assert model.predict(cluttered).scores == model.predict(image).scores


def test_a_model_that_decides_by_the_peak_of_the_map_is_refused(detector, tmp_path, check_images):
    by_peak = AnomalyDetector(replace(detector.recipe, detect=replace(detector.recipe.detect, image_score="map_max")))
    by_peak.scorer_, by_peak.origin_ = detector.scorer_, detector.origin_
    with pytest.raises(UserError, match="cannot decide by the map's peak") as caught:
        export_model(by_peak, tmp_path / "part.onnx", "onnx", check_images)
    assert "detect.image_score=mean_logit" in caught.value.remedy


@pytest.fixture(scope="module")
def of_cameras(tmp_path_factory, kind) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good"), 8)).images
    images = [replace(image, camera=list(BOTH)[number % 2]) for number, image in enumerate(images)]
    recipe = tiny_recipe(*SETTINGS, *KINDS[kind])
    roi = json.dumps({"cameras": BOTH})
    return AnomalyDetector(replace(recipe, data=replace(recipe.data, roi=roi))).fit(images, device="cpu")


@pytest.mark.parametrize(
    "to", ["onnx", *(pytest.param(to, marks=pytest.mark.slow) for to in ("openvino", "torchscript"))]
)
def test_a_file_takes_the_region_of_each_images_camera(of_cameras, kind, tmp_path, check_images, to):
    if to == "openvino":
        pytest.importorskip("openvino")
    if kind == "tiles" and to != "onnx":
        pytest.skip("models with tiles are written as ONNX alone")
    named = [replace(image, camera=list(BOTH)[number % 2]) for number, image in enumerate(check_images)]
    model = exported_as(to, of_cameras, tmp_path, named)
    assert json.loads(model.facts.to_text())["format"] == FORMAT and model.facts.patch_size_px == 16
    tested = model.predict(self_test_image(), model.facts.camera_of_self_test)
    assert model.facts.self_test.is_passed_by(tested.scores[SCORE], float(tested.anomaly_map.max()))
    images, cameras = [striped(7 + number, 40, 90) for number in range(3)], ["west", "east", "west"]
    together = (model.in_batches_of(3) if model.facts.has_batch_axis else model).predict_many(images, cameras)
    for image, camera, found in zip(images, cameras, together, strict=True):
        native = of_cameras.analyse(image, camera)
        assert found.scores == pytest.approx(native.scores, abs=1e-4)
        np.testing.assert_allclose(found.anomaly_map, native.anomaly_map, atol=2e-3)
        np.testing.assert_array_equal(found.inside, native.inside)
        cluttered = np.where(native.inside[..., None], image, noise(1, 40, 90))
        assert model.predict(cluttered, camera).scores == model.predict(image, camera).scores
    with pytest.raises(UserError, match="nobody has named the camera"):
        model.predict(images[0])
    with pytest.raises(UserError, match="none is for camera top"):
        model.predict_many(images[:1], ["top"])
    assert load(tmp_path / f"part{EXTENSIONS[to]}", threads=1, camera="east").predict(images[1]).scores == (
        model.predict(images[1], "east").scores
    )

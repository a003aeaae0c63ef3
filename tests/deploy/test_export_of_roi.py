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
from flawmap.detect.model_facts import FORMAT, WITHOUT_PRODUCTS
from flawmap.errors import UserError

LEFT = json.dumps({"inside": [{"rectangle": [0, 0, 0.55, 1]}], "outside": [{"rectangle": [0, 0, 0.3, 0.2]}]})
SETTINGS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
    *("expectation.appearance=mean_token", "memory.image_share=0.2"),
)
KINDS = {"whole": (), "relative": ("memory.relative=true",), "tiles": ("data.tiles=28",)}
SIZES = [(48, 48), (40, 90), (120, 70)]


@pytest.fixture(scope="module", params=KINDS)
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
    assert json.loads(model.facts.to_text())["format"] == (FORMAT if model.facts.has_batch_axis else WITHOUT_PRODUCTS)
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


@pytest.mark.parametrize("to", ["openvino", "torchscript"])
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

"""Every exported graph takes another threshold, and uses the calibrated one where none is given."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime

from flawmap.data.images.resize import resize_image
from flawmap.deploy.export import export_model
from flawmap.deploy.graph import THRESHOLD, default_threshold
from flawmap.deploy.parity import CheckImage
from flawmap.detect.model_facts import ModelFacts
from images import striped, write_image
from tiny_detector import fitted_detector

IMAGE = striped(3, 40, 64)


def facts_with(threshold: float) -> ModelFacts:
    facts = fitted_detector().facts("tile")
    assert facts.calibration is not None
    return replace(facts, calibration=replace(facts.calibration, threshold=threshold))


def inputs_of(image: np.ndarray, sizes_px: tuple[int, ...]) -> list[np.ndarray]:
    squares = [np.array(resize_image(image, size, size))[None] for size in sizes_px]
    return [*squares, np.array(image.shape[:2], np.int64)]


@given(st.floats(-(2.0**90), 2.0**90), st.floats(-(2.0**90), 2.0**90, width=32))
def test_a_float32_score_is_above_the_default_where_it_is_above_the_threshold(threshold: float, score: float):
    default = default_threshold(facts_with(threshold)).item()
    assert (score > default) == (score > threshold)
    assert default <= threshold < float(np.nextafter(np.float32(default), np.float32(np.inf)))


def test_before_calibration_nothing_is_above_the_default():
    assert default_threshold(replace(fitted_detector().facts("tile"), calibration=None)).item() == np.inf


def test_an_onnx_file_has_an_optional_input_with_the_calibrated_threshold(onnx_file: Path):
    session, facts = onnxruntime.InferenceSession(onnx_file), fitted_detector().facts("tile")
    (optional,) = session.get_overridable_initializers()
    assert (optional.name, optional.type, optional.shape) == (THRESHOLD, "tensor(float)", [])
    names = [given.name for given in session.get_inputs()]
    assert names == [*(f"square_{size}px" for size in facts.sizes_px), "size_px"]
    (stored,) = (one for one in onnx.load(onnx_file).graph.initializer if one.name == THRESHOLD)
    assert onnx.numpy_helper.to_array(stored) == default_threshold(facts).numpy()
    inputs = dict(zip(names, inputs_of(IMAGE, facts.sizes_px), strict=True))
    score, by_default = session.run(["score", "is_anomalous"], inputs)
    assert by_default == (score > default_threshold(facts).item())
    for threshold, expected in ((np.nextafter(score, np.float32(-np.inf)), True), (score, False)):
        again, flag = session.run(["score", "is_anomalous"], inputs | {THRESHOLD: np.array(threshold)})
        assert (again, flag) == (score, expected)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_openvino_file_has_a_variable_that_is_exact_in_half_precision_too(tmp_path: Path, precision: str):
    openvino = pytest.importorskip("openvino")
    detector = fitted_detector()
    image = write_image(tmp_path / "check.png", IMAGE)
    export_model(detector, tmp_path / "tile.xml", "openvino", [CheckImage(image)], precision)
    model = openvino.Core().read_model(tmp_path / "tile.xml")
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request, inputs = compiled.create_infer_request(), inputs_of(IMAGE, detector.sizes_px)
    assert [one.friendly_name for one in model.get_parameters()] == [
        *(f"square_{size}px" for size in detector.sizes_px),
        "size_px",
    ]

    def verdict() -> tuple[np.float32, bool]:
        results = request.infer(inputs)
        score, flag = (np.array(results[output]) for output in compiled.outputs[:2])
        return np.float32(score), bool(flag)

    score, by_default = verdict()
    assert by_default == (score > default_threshold(detector.facts("tile")).item())
    (variable,) = request.query_state()
    assert variable.name == THRESHOLD
    for threshold, expected in ((np.nextafter(score, np.float32(-np.inf)), True), (score, False)):
        variable.state = openvino.Tensor(np.array(threshold, np.float32))
        assert verdict() == (score, expected)
    request.reset_state()
    assert verdict() == (score, by_default)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [12.109512, -3.75e-4, 0.0, 1.0, -0.0001220703125, float("inf")])
def test_a_stored_number_is_exact_in_half_precision(tmp_path: Path, threshold: float):
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    from flawmap.deploy.openvino_threshold import store_threshold

    score, given = ops.parameter([], np.float32, "score"), ops.parameter([], np.float32, THRESHOLD)
    given.friendly_name = THRESHOLD
    above = ops.greater(score, given)
    model = openvino.Model([above], [score, given], "above")
    stored = float(np.float32(threshold))
    store_threshold(model, stored)
    openvino.save_model(model, tmp_path / "above.xml", compress_to_fp16=True)
    compiled = openvino.compile_model(tmp_path / "above.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lower, upper = (np.nextafter(np.float32(stored), np.float32(end)) for end in (-np.inf, np.inf))
    flags = [bool(compiled([np.array(value, np.float32)])[0]) for value in (lower, np.float32(stored), upper)]
    assert flags == [False, False, not np.isinf(stored)]


@pytest.mark.slow
def test_a_torchscript_file_has_a_buffer(tmp_path: Path):
    import torch

    detector = fitted_detector()
    image = write_image(tmp_path / "check.png", IMAGE)
    export_model(detector, tmp_path / "tile.torchscript", "torchscript", [CheckImage(image)])
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch recommends torch.export instead
        module = torch.jit.load(tmp_path / "tile.torchscript")
    *squares, size_px = (torch.from_numpy(one) for one in inputs_of(IMAGE, detector.sizes_px))
    score, by_default, *_ = module(squares, size_px)
    assert torch.equal(module.threshold, default_threshold(detector.facts("tile")))
    assert bool(by_default) == bool(score > module.threshold)
    for threshold, expected in ((score - 0.1, True), (score, False)):
        module.threshold.copy_(threshold)
        assert bool(module(squares, size_px)[1]) == expected

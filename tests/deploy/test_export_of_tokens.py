"""Exports of scorers on tokens: they answer as the detector does, and give no votes, which would mean nothing."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_deploy_guide import python_with

from assertions import explained
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime

from flawmap.data.images.resize import resize_image
from flawmap.data.open_data import load_images
from flawmap.deploy import load
from flawmap.deploy.export import export_model
from flawmap.deploy.parity import CheckImage, compare
from flawmap.deploy.runtime import EXTENSIONS, ExportedModel
from flawmap.deploy.token_graph import token_graph
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import read_facts
from flawmap.memory.scorer import build_scorer
from flawmap.recipe.settings import Recipe
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder

SETTINGS = ("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused")
SMALL = ("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6")

SCORES = ("mean_logit", "map_max", "appearance_distance")


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good")))
    return AnomalyDetector(tiny_recipe(*SETTINGS, *SMALL)).fit(images, device="cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, detector) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    image = write_image(folder / "check.png", striped(7, 40, 90))
    assert export_model(detector, folder / "tile.onnx", "onnx", [CheckImage(image)]).max_score_difference < 1e-3
    return folder / "tile.onnx"


def test_neither_the_detector_nor_its_file_votes(detector, exported):
    image = striped(8)
    image[10:30, 10:30] = 0
    native, found = detector.predict(image), load(exported, threads=1).predict(image)
    assert tuple(native.scores) == tuple(found.scores) == detector.score_names == SCORES
    assert found.scores == pytest.approx(native.scores, abs=1e-3)
    name = "appearance_distance"
    assert found.scores[name] == pytest.approx(native.scores[name], abs=1e-5)
    assert native.score == native.scores["mean_logit"] and found.score == pytest.approx(native.score, abs=1e-3)


def test_a_composed_graph_takes_another_threshold(detector, exported):
    session, image = onnxruntime.InferenceSession(exported), striped(8)
    (optional,) = session.get_overridable_initializers()
    assert optional.name == "threshold"
    square, size_px = (given.name for given in session.get_inputs())
    inputs = {square: np.array(resize_image(image, 64, 64))[None], size_px: np.array(image.shape[:2], np.int64)}
    score, by_default = session.run(["score", "is_anomalous"], inputs)
    assert by_default == (score > detector.calibration_.threshold)
    for threshold, expected in ((score - np.float32(0.1), True), (score, False)):
        (flag,) = session.run(["is_anomalous"], inputs | {"threshold": np.array(threshold)})
        assert flag == expected


def test_the_file_says_how_it_searches_and_holds_the_memory_once(detector, exported):
    facts = load(exported, threads=1).facts
    assert (facts.precision, facts.search) == ("fp32", "fp32")  # a memory of 40 tokens is compared exactly
    tokens = detector.scorer_.memory.tokens
    known = [one for one in onnx.load(exported).graph.initializer if list(one.dims) == list(tokens[0].shape)]
    assert [one.data_type for one in known] == [onnx.TensorProto.FLOAT16] * len(tokens)


def test_images_of_one_size_share_a_run_when_asked_and_score_as_alone(exported, monkeypatch):
    images = [striped(n, 40, 90) for n in range(3)] + [striped(3, 20, 30)] + [striped(n, 40, 90) for n in (4, 5, 6)]
    model = load(exported, threads=1)
    alone = model.predict_many(images)
    sizes: list[int] = []
    run_graph = model._run_graph
    monkeypatch.setattr(
        model, "_run_graph", lambda inputs, size_px: (sizes.append(len(inputs[0])), run_graph(inputs, size_px))[1]
    )
    together = model.in_batches_of(2).predict_many(images)
    assert sizes == [2, 1, 1, 2, 1]
    for one, other in zip(alone, together, strict=True):
        assert other.scores == pytest.approx(one.scores, abs=1e-5)
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=1e-4)
    assert (model.batch_size, load(exported, threads=1, batch_size=8).batch_size) == (1, 8)


def test_the_guide_says_how_to_ask_for_a_batch(exported, tmp_path, monkeypatch):
    pixels = [striped(n, 40, 90) for n in range(2)]
    for number, image in enumerate(pixels, 1):
        write_image(tmp_path / "new" / f"000{number}.png", image)
    shutil.copy(exported, tmp_path / "parts.onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_with("predict_many"), names)
    expected = [one.score for one in load(exported, threads=1).predict_many(pixels)]
    assert [one.score for one in names["detections"]] == pytest.approx(expected, abs=1e-5)


def test_a_file_of_earlier_flawmap_gives_outputs_of_one_image(exported, monkeypatch):
    """Without the axis, and without the word for it in its facts, which are of an earlier format."""
    model, image = load(exported, threads=1), striped(8, 40, 90)
    assert json.loads(model.facts.to_text())["format"] == 5 and model.facts.has_batch_axis
    text = json.loads(dataclasses.replace(model.facts, has_batch_axis=False).to_text())
    del text["has_batch_axis"]
    earlier = read_facts(json.dumps(text), "")
    assert text["format"] == 1 and not earlier.has_batch_axis
    old = ExportedModel(earlier, lambda *inputs: [output[0] for output in model._run_graph(*inputs)])
    found, expected = old.predict(image), model.predict(image)
    assert found.scores == expected.scores and np.array_equal(found.anomaly_map, expected.anomaly_map)
    error = explained(lambda: old.in_batches_of(2))
    assert (error.problem, error.place) == ("the graph of this file takes one image at a time", "batch_size=2")


def test_the_check_of_an_export_gives_the_graph_several_images_at_once(detector, exported, tmp_path):
    """A file whose second image of a batch differs is found, though it scores each image alone as it should."""
    model, image = load(exported, threads=1), CheckImage(write_image(tmp_path / "check.png", striped(7, 40, 90)))

    def second_differs(inputs: list, size_px: np.ndarray) -> list:
        outputs = model._run_graph(inputs, size_px)
        outputs[3][1:] += 0.5
        return outputs

    wrong = ExportedModel(model.facts, second_differs)
    alone = compare(detector, wrong, [image])
    assert alone.is_good and alone.with_a_batch(detector, model.in_batches_of(3), [image]).is_good
    found = alone.with_a_batch(detector, wrong.in_batches_of(3), [image])
    assert not found.is_good and found.max_score_difference == pytest.approx(0.5, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "target"), [(".xml", "openvino"), (".torchscript", "torchscript")])
def test_other_formats_answer_as_the_detector_does(tmp_path, detector, suffix, target):
    if target == "openvino":
        pytest.importorskip("openvino")
    images = [CheckImage(write_image(tmp_path / f"{n}.png", striped(20 + n, 50, 60))) for n in range(3)]
    parity = export_model(detector, tmp_path / f"tile{suffix}", target, images)
    assert parity.max_score_difference < 1e-3
    assert load(tmp_path / f"tile{suffix}").facts.search == "fp32"


@pytest.mark.slow
def test_half_the_weights_are_half_the_size(tmp_path, detector, exported):
    image = CheckImage(write_image(tmp_path / "check.png", striped(7, 40, 90)))
    parity = export_model(detector, tmp_path / "half.onnx", "onnx", [image], "fp16")
    assert 0 < parity.max_score_difference < 0.1
    assert load(tmp_path / "half.onnx", threads=1).facts.model_id.endswith("-fp16")
    assert (tmp_path / "half.onnx").stat().st_size < 0.65 * exported.stat().st_size


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good")))
    return AnomalyDetector(tiny_recipe(*SETTINGS, *SMALL, "compute.precision=int8")).fit(images, device="cpu")


@pytest.mark.slow
def test_a_model_in_int8_is_judged_like_one_in_fp32(tmp_path, int8, exported):
    images = [CheckImage(write_image(tmp_path / f"{n}.png", striped(20 + n, 50, 60))) for n in range(3)]
    path = tmp_path / "tile.onnx"
    parity = export_model(int8, path, "onnx", images)
    assert parity.is_good and parity.max_score_difference < 1e-3
    model = load(path, threads=1)
    pixels = [striped(20 + n, 50, 60) for n in range(3)]
    for one, other in zip(model.predict_many(pixels), model.in_batches_of(3).predict_many(pixels), strict=True):
        assert other.scores == pytest.approx(one.scores, abs=5e-5)
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=5e-5)
    facts = model.facts
    assert facts.precision == "int8" and facts.model_id == int8.facts("").model_id
    assert path.stat().st_size < 0.56 * exported.stat().st_size


@pytest.mark.parametrize(
    ("target", "precision", "place", "remedy"),
    [
        ("onnx", "fp32", "--precision", "--to onnx --precision int8"),
        ("onnx", "fp16", "--precision", "--to onnx --precision int8"),
        ("openvino", "int8", "--to", "--to onnx --precision int8"),
        ("torchscript", "int8", "--to", "--to onnx --precision int8"),
    ],
)
def test_a_model_in_int8_is_written_in_int8_only(tmp_path, int8, target, precision, place, remedy):
    path = tmp_path / f"a{EXTENSIONS[target]}"
    error = explained(lambda: export_model(int8, path, target, [CheckImage(path)], precision))
    assert error.problem == f"this model was fitted in int8, so that it cannot be written as {target} in {precision}"
    assert (error.place, error.remedy) == (place, remedy)


def test_a_model_in_fp32_is_not_written_in_int8(tmp_path, detector):
    """Its threshold would not hold."""
    error = explained(lambda: export_model(detector, tmp_path / "a.onnx", "onnx", [CheckImage(tmp_path)], "int8"))
    assert error.problem == "this model was fitted in fp32, and its thresholds do not hold for the scores of int8"
    assert "flawmap train DATA --set compute.precision=int8" in error.remedy and error.place == "--precision"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "relative", "memory_tokens", "references", "appearance"),
    [
        ("memory", True, 1030, 0, "cls"),
        ("residual", False, 1024, 0, "mean_token"),
        ("fused", True, 39, 30, "mean_token"),
        ("fused", False, 1100, 30, "cls"),
        ("memory", False, 1024, 30, "mean_token"),
    ],
)
def test_the_composed_graph_gives_what_the_detector_gives(method, relative, memory_tokens, references, appearance):
    changes = (f"method={method}", f"memory.relative={str(relative).lower()}", f"expectation.appearance={appearance}")
    recipe = tiny_recipe(*SETTINGS, *SMALL, *changes)
    detector = unfitted(recipe, memory_tokens, references)
    graph = token_graph(detector.scorer_, detector.facts("tile"))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for count, shape in ((1, (64, 64)), (1, (30, 100)), (3, (30, 100))):
        images = [striped(seed, *shape) for seed in range(count)]
        squares = np.stack([resize_image(image, 64, 64) for image in images])
        found = session.run(None, {"square_64px": squares, "size_px": np.array(shape)})
        shapes = [(count,), (count,), (count, *shape), (count, len(detector.score_names))]
        assert [output.shape for output in found] == shapes
        for image, score, _, anomaly_map, scores in zip(images, *found, strict=True):
            native = detector.analyse(image)
            assert score == pytest.approx(native.scores["mean_logit"], abs=1e-4)
            assert scores.tolist() == pytest.approx(list(native.scores.values()), abs=1e-4)
            np.testing.assert_allclose(anomaly_map, native.anomaly_map, atol=1e-4)


def unfitted(recipe: Recipe, memory_tokens: int, references: int) -> AnomalyDetector:
    """A detector whose memory and expectation hold what a few made-up images show."""
    encoder, origin = load_encoder(recipe.model)
    scorer = build_scorer(encoder.eval(), recipe, memory_tokens, references).eval()
    memory, expectation = scorer.memory, scorer.expectation
    generator = torch.Generator().manual_seed(0)
    squares = [striped(100 + n, 64, 64) for n in range(70)]
    images = torch.stack([normalise(channels_first(square)) for square in squares])
    appearances, tokens = scorer.taken.of_images(scorer.frozen, images)
    candidates = tokens.flatten(0, 1)  # (70 x 16, l, d)
    memory.tokens.copy_(candidates[:memory_tokens].transpose(0, 1))
    memory.normalise()
    memory.spacing.copy_(1 + 0.5 * memory.unit[..., 0])
    memory.mean.fill_(0.2)
    memory.deviation.fill_(0.1)
    if references:
        kinds = expectation.tops.shape[1]
        tops, means = torch.randn(2, references, kinds, generator=generator)
        expectation.remember(appearances[:references], tops, means)
    detector = AnomalyDetector(recipe)
    detector.scorer_, detector.origin_ = scorer, origin
    return detector

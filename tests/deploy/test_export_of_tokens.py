"""Exports of scorers on tokens: they answer as the detector does, and give no votes, which would mean nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

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
from flawmap.deploy.parity import CheckImage
from flawmap.deploy.runtime import EXTENSIONS
from flawmap.deploy.token_graph import token_graph
from flawmap.detect.detector import AnomalyDetector
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
    facts = load(path, threads=1).facts
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
    for seed, shape in enumerate([(64, 64), (30, 100)]):
        image = striped(seed, *shape)
        native = detector.analyse(image)
        inputs = {"square_64px": resize_image(image, 64, 64)[None], "size_px": np.array(shape)}
        score, _, anomaly_map, scores = session.run(None, inputs)
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

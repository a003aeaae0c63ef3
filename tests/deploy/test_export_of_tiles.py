"""Exports of models that score tiles: they answer as the detector does, whatever the number of an image's tiles."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from without_torch import predicted_without_torch

from assertions import explained
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime
from brightness_model import png, serving
from test_deploy_guide import python_with
from test_readiness import after_its_self_test

import flawmap.deploy.export as export_module
from flawmap.data.images.resize import resize_image
from flawmap.data.images.tiles import Tiling
from flawmap.data.open_data import load_images
from flawmap.deploy import load
from flawmap.deploy.export import export_model
from flawmap.deploy.opened_model import open_model
from flawmap.deploy.parity import CheckImage
from flawmap.deploy.runtime import EXTENSIONS
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.model_facts import read_facts
from flawmap.memory.tiled_scorer import TiledScorer

SETTINGS = ("data.image_size_px=64", "data.tiles=28", "detect.image_score=mean_logit", "pretrain.enabled=false")
SMALL = ("method=fused", "memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6")
TILES = {(48, 48): 9, (40, 90): 12, (20, 25): 1, (5, 200): 14, (120, 70): 32}  # of images of these sizes


def fitted(folder: Path, *changes: str) -> AnomalyDetector:
    images = load_images(write_good(folder, 8))
    return AnomalyDetector(tiny_recipe(*SETTINGS, *SMALL, *changes)).fit(images, device="cpu")


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> AnomalyDetector:
    return fitted(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def check_images(tmp_path_factory) -> list[CheckImage]:
    folder = tmp_path_factory.mktemp("check")
    paths = [write_image(folder / f"{n}.png", striped(n, *size)) for n, size in enumerate(TILES)]
    return [CheckImage(path) for path in paths]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, detector, check_images) -> Path:
    path = tmp_path_factory.mktemp("exported") / "part.onnx"
    assert export_model(detector, path, "onnx", check_images).max_score_difference < 1e-4
    return path


def holed(seed: int, height: int, width: int) -> np.ndarray:
    image = striped(seed, height, width)
    image[height // 4 : height // 2, width // 4 : width // 2] = 0
    return image


@pytest.mark.parametrize("size", TILES)
def test_a_file_answers_as_the_detector_does(detector, exported, size):
    assert isinstance(detector.scorer_, TiledScorer) and detector.scorer_.tiling.count(*size) == TILES[size]
    model = load(exported, threads=1)
    for image in (striped(7, *size), holed(8, *size)):
        native, found = detector.predict(image), model.predict(image)
        assert found.scores == pytest.approx(native.scores, abs=1e-4)
        assert found.anomaly_map.shape == size
        np.testing.assert_allclose(found.anomaly_map, native.anomaly_map, atol=1e-4)
        assert (found.is_anomalous, found.threshold) == (native.is_anomalous, native.threshold)
        assert [one.box_xyxy_px for one in found.regions] == [one.box_xyxy_px for one in native.regions]


def test_the_score_is_that_of_whole_image_and_tiles_and_not_of_one_alone(detector, exported):
    image = holed(8, 120, 70)
    whole, tiles = detector.analyse(image).scales
    score = load(exported, threads=1).predict(image).score
    assert score == pytest.approx((whole.logit + tiles.logit) / 2, abs=1e-4)
    assert min(abs(score - whole.logit), abs(score - tiles.logit)) > 1e-2


def run(file: Path, image: np.ndarray, order: list[int] | None = None) -> dict[str, np.ndarray]:
    """The graph's answer with tiles in any order; they have 4 x 4 patches of 16 px."""
    (height, width), scale = image.shape[:2], 64 / 28
    rows, columns = (max(4, int(side * scale / 16 + 0.5)) for side in (height, width))
    resized = resize_image(image, rows * 16, columns * 16)
    places = [(row, column) for row in starts(rows) for column in starts(columns)]
    places = [places[number] for number in order] if order else places
    inputs = {
        "square_64px": resize_image(image, 64, 64)[None],
        "tiles": np.stack(
            [resized[row * 16 : row * 16 + 64, column * 16 : column * 16 + 64] for row, column in places]
        ),
        "tile_places": np.array(places),
        "size_px": np.array([height, width]),
    }
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def starts(length: int) -> list[int]:
    count = -(-(length - 2) // 2)
    return [round(number * (length - 4) / max(count - 1, 1)) for number in range(count)]


@pytest.mark.parametrize("size", TILES)
def test_the_guide_says_how_programs_in_other_languages_cut(detector, exported, tmp_path, monkeypatch, size):
    image = holed(9, *size)
    write_image(tmp_path / "new" / "0001.png", image)
    shutil.copy(exported, tmp_path / "parts.onnx")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_with("tile_places"), names)
    native = detector.predict(image)
    assert float(names["score"]) == pytest.approx(native.score, abs=1e-4)
    assert bool(names["is_anomalous"]) == native.is_anomalous
    assert names["scores"].tolist() == pytest.approx(list(native.scores.values()), abs=1e-4)
    np.testing.assert_allclose(names["anomaly_map"], native.anomaly_map, atol=1e-4)


def test_tiles_may_come_in_any_order_and_twice(exported):
    image = holed(9, 40, 90)
    as_cut, shuffled = run(exported, image), run(exported, image, [5, 3, 0, 11, 7, 8, 3, 1, 2, 10, 9, 4, 6])
    assert float(shuffled["score"]) == float(as_cut["score"])  # no tile's score depends on another
    assert shuffled["anomaly_map"].shape == as_cut["anomaly_map"].shape


def test_a_patch_that_no_tile_shows_is_no_silent_pass(exported):
    answer = run(exported, striped(3, 40, 90), [0, 11])
    assert bool(answer["is_anomalous"]) and not np.isfinite(answer["anomaly_map"]).all()


def test_the_encoder_is_in_the_file_once_and_each_memory_once(detector, exported):
    model = onnx.load(exported)
    loops = [node for node in model.graph.node if node.op_type == "Scan"]
    bodies = [onnx.helper.get_node_attr_value(node, "body") for node in loops]
    stored = [(list(one.dims), one.data_type) for graph in (model.graph, *bodies) for one in graph.initializer]
    scorer = detector.scorer_
    vit = scorer.encoder.vit
    assert [dims for dims, _ in stored].count(list(vit.patch_embed.proj.weight.shape)) == 1
    of_blocks = [dims for dims, _ in stored if dims == list(vit.blocks[0].mlp.fc2.weight.shape)]
    assert len(of_blocks) == 1 + max(scorer.whole.taken.wanted)  # those after are not needed
    memories = (scorer.whole.memory.tokens, scorer.tiles.memory.tokens)
    shapes = [list(of_block.shape) for tokens in memories for of_block in tokens]
    of_memories = [(dims, kind) for dims, kind in stored if dims in shapes]
    assert sorted(dims for dims, _ in of_memories) == sorted(shapes)
    assert {kind for _, kind in of_memories} == {onnx.TensorProto.FLOAT16}


def test_no_name_in_a_loop_hides_one_outside(exported):
    graph = onnx.load(exported).graph
    outside = {name for node in graph.node for name in node.output}
    outside |= {one.name for one in (*graph.initializer, *graph.input)}
    for node in (node for node in graph.node if node.op_type == "Scan"):
        body = onnx.helper.get_node_attr_value(node, "body")
        inside = {name for node in body.node for name in node.output} | {
            one.name for one in (*body.initializer, *body.input)
        }
        assert outside.isdisjoint(inside)


# ---- what the file says of itself


def test_the_file_says_how_it_cuts_and_searches(detector, exported):
    facts = load(exported, threads=1).facts
    assert facts.tiling == detector.scorer_.tiling == Tiling(float(np.float32(64 / 28)), 4, 16)
    assert facts.search == "fp32" and facts.sizes_px == (64,) and facts.model_id == detector.facts("").model_id


def test_an_earlier_flawmap_runs_no_file_with_tiles_and_files_without_them_are_as_before(detector):
    facts = detector.facts("part")
    tiled = dataclasses.replace(facts, tiling=Tiling(0.5, 4, 16))
    assert json.loads(tiled.to_text())["format"] == 2 and read_facts(tiled.to_text(), "") == tiled
    plain = json.loads(facts.to_text())
    assert plain["format"] == 1 and plain.pop("tiling") is None
    assert read_facts(json.dumps(plain), "") == facts  # as an earlier flawmap wrote it


@pytest.mark.parametrize("tiling", [Tiling(0.0, 4, 16), Tiling(1.0, 5, 16), Tiling(1.0, 2, 32), "x", {"scale": 1.0}])
def test_a_damaged_tiling_is_explained(detector, tiling):
    values = json.loads(detector.facts("part").to_text()) | {"format": 2}
    values["tiling"] = dataclasses.asdict(tiling) if isinstance(tiling, Tiling) else tiling
    error = explained(lambda: read_facts(json.dumps(values), "a.onnx"))
    assert "damaged" in error.problem and error.place == "a.onnx" and "flawmap export" in error.remedy


# ---- where it is used


def test_the_runtime_needs_no_torch(detector, exported, check_images):
    path = check_images[1].path
    score = predicted_without_torch(exported, path)["score"]
    assert score == pytest.approx(detector.predict(path).score, abs=1e-4)


def test_a_server_of_the_file_passes_its_self_test_and_answers_as_the_detector_does(detector, exported, tmp_path):
    image = holed(8, 40, 90)
    with serving(open_model(exported, threads=1), tmp_path / "reviews.csv") as client:
        ready = after_its_self_test(client)
        assert ready.status == 200, ready.json
        assert ready.json["self_test"]["got"] == pytest.approx(detector.self_test().score, abs=1e-3)
        assert client.detect(png(image)).json["score"] == pytest.approx(detector.predict(image).score, abs=1e-4)


# ---- what is not written


@pytest.mark.parametrize("target", ["openvino", "torchscript"])
def test_other_formats_are_refused(tmp_path, detector, check_images, target, monkeypatch):
    monkeypatch.setitem(export_module.PACKAGES, target, ())
    path = tmp_path / f"part{EXTENSIONS[target]}"
    error = explained(lambda: export_model(detector, path, target, check_images))
    assert error.problem == f"a model that scores tiles cannot be written as {target}"
    assert (error.place, error.remedy) == ("--to", "--to onnx") and list(tmp_path.iterdir()) == []


def test_an_encoder_with_unknown_parts_is_refused(tmp_path, detector, check_images, monkeypatch):
    monkeypatch.setattr(export_module, "unknown_parts", lambda encoder: ["vit.blocks.0.attn: Other"])
    error = explained(lambda: export_model(detector, tmp_path / "part.onnx", "onnx", check_images))
    assert "vit.blocks.0.attn: Other" in error.problem and "data.tiles=none" in error.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_scores_the_whole_image_alone_is_not_kept(tmp_path, detector, check_images, monkeypatch):
    """As if tiles were lost on the way."""
    monkeypatch.setattr(
        export_module, "tiled_graph", lambda scorer, facts: export_module.token_graph(scorer.whole, facts)
    )
    monkeypatch.setattr(export_module, "_tiling", lambda detector: None)
    monkeypatch.setattr(export_module, "_has_batch_axis", lambda detector, to: True)
    parity = export_model(detector, tmp_path / "part.onnx", "onnx", check_images)
    assert not parity.is_good and list(tmp_path.iterdir()) == []


# ---- precisions and settings


@pytest.mark.slow
def test_half_the_weights_are_half_the_size(tmp_path, detector, exported, check_images):
    parity = export_model(detector, tmp_path / "half.onnx", "onnx", check_images, "fp16")
    assert 0 < parity.max_score_difference < 0.1
    assert load(tmp_path / "half.onnx", threads=1).facts.model_id.endswith("-fp16")
    assert (tmp_path / "half.onnx").stat().st_size < 0.65 * exported.stat().st_size


@pytest.mark.slow
def test_a_model_in_int8_is_judged_like_one_in_fp32(tmp_path, exported, check_images):
    """Each tile is rounded by its own range, as in detection; one range for all would differ."""
    int8 = fitted(tmp_path / "good", "compute.precision=int8")
    parity = export_model(int8, tmp_path / "part.onnx", "onnx", check_images)
    assert parity.is_good and parity.max_score_difference < 1e-4
    assert load(tmp_path / "part.onnx", threads=1).facts.precision == "int8"
    assert (tmp_path / "part.onnx").stat().st_size < 0.65 * exported.stat().st_size  # its heads stay in fp32


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("method=memory", "memory.relative=true", "expectation.appearance=mean_token", "memory.tokens=1400"),
        ("method=residual", "memory.relative=false", "expectation.appearance=cls"),
    ],
)
def test_every_method_on_tokens_is_written(tmp_path, check_images, changes):
    """Both memories have enough tokens for the search by proposals: of few whole images with the help of views."""
    detector = fitted(tmp_path / "good", *changes)
    parity = export_model(detector, tmp_path / "part.onnx", "onnx", check_images)
    assert parity.is_good and parity.max_score_difference < 1e-4
    model = load(tmp_path / "part.onnx", threads=1)
    if "memory.tokens=1400" in changes:
        assert model.facts.search == "int8, 8 re-ranked in fp32"
    image = holed(8, 120, 70)
    assert model.predict(image).scores == pytest.approx(detector.predict(image).scores, abs=1e-3)

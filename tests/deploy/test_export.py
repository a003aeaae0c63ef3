"""Exported files: they answer as the detector does, on any image, without torch; and a bad one is never left behind."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from without_torch import predicted_without_torch

from assertions import explained
from images import pixels_of, striped
from tiny_detector import fitted_detector

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import flawmap
import flawmap.deploy.export as export_module
from flawmap.data.images.resize import resize_image
from flawmap.deploy import load, runtime
from flawmap.deploy.export import export_model
from flawmap.deploy.graph import with_stored_positions
from flawmap.deploy.opened_model import open_model
from flawmap.detect.model_facts import read_facts


def test_an_onnx_file_answers_as_the_detector_does(onnx_file, images):
    detector, model = fitted_detector(), load(onnx_file, threads=1)
    for image in images:
        native, exported = detector.predict(image.path), model.predict(image.path)
        assert exported.anomaly_map.shape == native.anomaly_map.shape and exported.anomaly_map.dtype == np.float32
        assert np.allclose(exported.anomaly_map, native.anomaly_map, atol=1e-4)
        assert exported.scores == pytest.approx(native.scores, abs=1e-4)
        assert exported.score == pytest.approx(native.score, abs=1e-4)
        assert (exported.threshold, exported.is_anomalous) == (native.threshold, native.is_anomalous)
        assert [one.box_xyxy_px for one in exported.regions] == [one.box_xyxy_px for one in native.regions]
    assert list(onnx_file.parent.iterdir()) == [onnx_file]  # no half-made file beside it


def test_a_file_says_which_model_it_is(onnx_file):
    facts = load(onnx_file, threads=1).facts
    carried = {"self_test": facts.self_test, "files_sha256": facts.files_sha256}
    assert facts == dataclasses.replace(fitted_detector().facts("tile[1]"), **carried) and None not in carried.values()
    assert facts.sizes_px == (32, 64) and facts.flawmap == flawmap.__version__ and facts.precision == "fp32"


def test_the_graph_itself_gives_score_and_verdict_for_programs_in_other_languages(onnx_file, images):
    import onnxruntime

    detector, session = fitted_detector(), onnxruntime.InferenceSession(onnx_file)
    for image in images:
        pixels = pixels_of(image.path)
        inputs = {f"square_{size}px": resize_image(pixels, size, size)[None] for size in detector.sizes_px}
        outputs = session.run(None, inputs | {"size_px": np.array(pixels.shape[:2])})
        answer = dict(zip((output.name for output in session.get_outputs()), outputs, strict=True))
        native = detector.predict(image.path)
        assert float(answer["score"]) == pytest.approx(native.score, abs=1e-4)
        assert bool(answer["is_anomalous"]) == native.is_anomalous
        assert answer["scores"].tolist() == pytest.approx(list(native.scores.values()), abs=1e-4)


def test_positions_are_stored_and_no_resize_of_them_is_left(onnx_file):
    onnx = pytest.importorskip("onnx")
    resizes = [node for node in onnx.load(onnx_file).graph.node if node.op_type == "Resize"]
    modes = [onnx.helper.get_node_attr_value(node, "mode") for node in resizes]
    assert modes == [b"linear", b"linear"]  # one for the map of each size


def test_the_copy_with_stored_positions_shares_the_weights_and_leaves_the_scorer_alone():
    scorer = fitted_detector().scorer_
    assert scorer is not None
    copied = with_stored_positions(scorer, (32, 64))
    assert {p.data_ptr() for p in copied.parameters()} == {p.data_ptr() for p in scorer.parameters()}
    assert copied.encoder.stored_positions.keys() == {(2, 2), (4, 4)} and scorer.encoder.stored_positions == {}


def test_the_runtime_needs_no_torch(onnx_file, images):
    native = fitted_detector().predict(images[-1].path)
    assert predicted_without_torch(onnx_file, images[-1].path)["score"] == pytest.approx(native.score, abs=1e-4)


def test_a_file_that_answers_otherwise_is_not_left_behind(tmp_path, images, monkeypatch):
    """As if the exporter had lost a weight."""
    detector = copy.deepcopy(fitted_detector())
    graph = export_module.GRAPHS["onnx"]

    def lose_a_weight(exported, facts, path):
        changed = copy.deepcopy(exported)
        changed.scorer_.detection.neurons.bias.data[1] += 0.01
        return graph(changed, facts, path)

    monkeypatch.setitem(export_module.GRAPHS, "onnx", lose_a_weight)
    path = tmp_path / "bad.onnx"
    parity = export_model(detector, path, "onnx", images)
    assert not parity.is_good and parity.max_score_difference > 1e-3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_uncalibrated_detector_calls_nothing_anomalous(tmp_path, images):
    detector = copy.copy(fitted_detector())
    detector.calibration_ = None
    export_model(detector, tmp_path / "plain.onnx", "onnx", images[:1])
    found = load(tmp_path / "plain.onnx", threads=1).predict(images[-1].path)
    assert (found.is_anomalous, found.threshold, found.regions) == (False, None, ())


@pytest.mark.slow
def test_half_precision_reports_what_it_costs(tmp_path, images, onnx_file):
    parity = export_model(fitted_detector(), tmp_path / "small.onnx", "onnx", images, "fp16")
    assert 0 < parity.max_score_difference < 0.1 and parity.auroc is not None
    facts = load(tmp_path / "small.onnx", threads=1).facts
    assert facts.model_id.endswith("-fp16") and facts.search is None  # the paper's method has no memory
    assert (tmp_path / "small.onnx").stat().st_size < 0.7 * onnx_file.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino_answers_as_the_detector_does(tmp_path, images, precision):
    pytest.importorskip("openvino")
    parity = export_model(fitted_detector(), tmp_path / "tile.xml", "openvino", images, precision)
    assert parity.max_score_difference < (1e-4 if precision == "fp32" else 1e-2) and parity.n == len(images)
    assert {path.suffix for path in tmp_path.iterdir()} == {".xml", ".bin"}


@pytest.mark.slow
def test_torchscript_answers_as_the_detector_does(tmp_path, images):
    parity = export_model(fitted_detector(), tmp_path / "tile.torchscript", "torchscript", images)
    assert parity.is_good and parity.max_score_difference < 1e-5
    assert load(tmp_path / "tile.torchscript", threads=1).facts.precision == "fp32"


# ---- a folder as a model


def test_a_model_folder_opens_as_a_model(tmp_path):
    detector, image = fitted_detector(), striped(3)
    detector.save_pretrained(tmp_path / "tile")
    model = open_model(tmp_path / "tile", "cpu")
    assert model.facts == dataclasses.replace(detector.facts("tile"), self_test=detector.self_test())
    (detection,) = model.predict_many([image])
    assert detection.scores == detector.predict(image).scores
    attention = model.attention(image)
    assert attention is not None and attention.shape == (4, 4) and 0 < attention.sum() <= 1


# ---- mistakes


@pytest.mark.parametrize(
    ("path", "to", "precision", "problem"),
    [
        ("a.torchscript", "torchscript", "fp16", "torchscript is not written in fp16"),
        (
            "a.xml",
            "openvino",
            "int8",
            "this model was fitted in fp32, and its thresholds do not hold for the scores of int8",
        ),
        ("a.bin", "onnx", "fp32", "an export to onnx has the extension .onnx"),
        ("a.onnx", "openvino", "fp32", "an export to openvino has the extension .xml"),
    ],
)
def test_an_export_that_cannot_be_is_explained(tmp_path, images, path, to, precision, problem):
    error = explained(lambda: export_model(fitted_detector(), tmp_path / path, to, images, precision))
    assert error.problem == problem and error.place and error.remedy
    assert explained(lambda: export_model(fitted_detector(), tmp_path / "a.onnx", "onnx", ())).remedy


def test_a_mistyped_file_names_the_one_beside_it(tmp_path):
    (tmp_path / "line file.onnx").touch()
    assert f"; {tmp_path / 'line file.onnx'} exists)" in explained(lambda: load(tmp_path / "line fle.onnx")).problem


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.onnx", None, "no such file"),
        ("a.pt", b"", "this is not an exported model"),
        ("a.onnx", b"", "the file cannot be loaded"),
        ("a.onnx", b"\x00nonsense" * 100, "the file cannot be loaded: it is damaged, or not a .onnx file ("),
        ("a.torchscript", b"nonsense", "the file cannot be loaded: it is damaged, or not a .torchscript file ("),
        ("a.xml", b"<a/>", "the file cannot be loaded: it is damaged, or not a .xml file (it has no element <net>)"),
    ],
)
def test_a_file_that_is_none_is_explained(tmp_path, name, content, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert explained(lambda: load(tmp_path / name)).problem.startswith(problem)


def test_a_folder_is_no_file_and_another_file_is_no_model(tmp_path):
    (tmp_path / "part.png").write_bytes(b"picture")
    assert explained(lambda: load(tmp_path)).problem.startswith(f"{tmp_path} is a folder")
    error = explained(lambda: open_model(tmp_path / "part.png"))
    assert error.problem == "this is neither a run folder nor an exported file"
    assert error.place == str(tmp_path / "part.png") and ".onnx, .xml, .torchscript" in error.remedy


def test_a_long_or_layered_reason_is_told_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "a.xml").write_text("<a/>")

    def fail(path, threads, at_once=1):
        raise RuntimeError(
            "Exception from src/core.cpp:84:\nException from reader.cpp:1:\nno model " + 200 * "x" + "\n"
        )

    monkeypatch.setitem(runtime.LOADERS, ".xml", fail)
    problem = explained(lambda: load(tmp_path / "a.xml")).problem
    assert "(no model xxx" in problem and "cpp" not in problem and problem.endswith("x...)") and len(problem) < 200


def test_a_torn_file_is_explained(tmp_path, onnx_file):
    (tmp_path / "torn.onnx").write_bytes(onnx_file.read_bytes()[:-1000])
    assert explained(lambda: load(tmp_path / "torn.onnx")).problem.startswith("the file cannot be loaded")


def test_facts_survive_and_damaged_ones_are_explained():
    facts = fitted_detector().facts("tile")
    assert read_facts(facts.to_text(), "") == facts
    assert read_facts(dataclasses.replace(facts, calibration=None).to_text(), "").calibration is None
    values = json.loads(facts.to_text())
    for text, problem in (
        (None, "was not written by flawmap"),
        ("{", "damaged"),
        (json.dumps(values | {"image_score": "x"}), "damaged"),
        (json.dumps(values | {"format": "1"}), "damaged"),
    ):
        error = explained(lambda text=text: read_facts(text, "a.onnx"))
        assert problem in error.problem and error.place == "a.onnx" and error.remedy


def test_a_newer_format_asks_for_an_update_and_an_older_one_for_another_export():
    values = json.loads(fitted_detector().facts("tile").to_text())
    newer, older = (json.dumps(values | {"format": version}) for version in (99, 0))
    assert "update flawmap" in explained(lambda: read_facts(newer, "a.onnx")).remedy
    assert "flawmap export RUN" in explained(lambda: read_facts(older, "a.onnx")).remedy

"""An exported file carries the SHA-256 of itself and what it gives for the self-test image; loading compares."""

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assertions import explained
from images import striped
from tiny_detector import fitted_detector

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import onnx

import flawmap.deploy.export as export_module
from flawmap.deploy import load
from flawmap.deploy.export import export_model
from flawmap.deploy.file_digest import UNKNOWN, files_sha256
from flawmap.detect.detection import DAMAGED_MODEL, NotScoredError
from flawmap.detect.model_facts import METADATA_KEY, ModelFacts, read_facts
from flawmap.errors import UserError
from flawmap.reproducibility import file_sha256
from flawmap.runs.self_test import self_test_image

CHANGED = "the file is not what was exported: SHA-256 "


def refused(path: Path) -> UserError:
    """The error of a file that was changed."""
    error = explained(lambda: load(path, threads=1))
    assert error.remedy == "copy it again, or export it again: flawmap export RUN"
    return error


def facts_in(path: Path) -> ModelFacts:
    return read_facts(next(one.value for one in onnx.load(path).metadata_props if one.key == METADATA_KEY), "")


def rewrite(source: Path, target: Path, change: Callable[..., None], facts: ModelFacts) -> None:
    """As another program would: read, change and write an ONNX file.

    Args:
        source: a file of ours.
        target: in another folder.
        change: the model.
        facts: that the new file carries.
    """
    model = onnx.load(source)
    change(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_text()})
    onnx.save(model, target)


def rewrite_with_digest(source: Path, target: Path, change: Callable[..., None]) -> None:
    """The same by someone who also recomputes the digest."""
    facts = dataclasses.replace(facts_in(source), files_sha256={".onnx": UNKNOWN})
    rewrite(source, target, change, facts)
    rewrite(source, target, change, dataclasses.replace(facts, files_sha256=files_sha256(target)))


def plant(value: float) -> Callable[..., None]:
    """Replace one value of a weight of the encoder."""

    def change(model) -> None:
        weights = [one for one in model.graph.initializer if one.name.endswith("patch_embed.proj.weight")]
        array = onnx.numpy_helper.to_array(weights[0]).copy()
        array.reshape(-1)[3] = value
        weights[0].CopyFrom(onnx.numpy_helper.from_array(array, weights[0].name))

    return change


# ---- what a file carries


def test_the_facts_carry_the_hash_of_the_file_with_zeros_in_its_place(onnx_file):
    facts = load(onnx_file, threads=1).facts
    assert facts.files_sha256 is not None and facts.files_sha256.keys() == {".onnx"}
    digest = facts.files_sha256[".onnx"]
    content = onnx_file.read_bytes()
    assert content.count(digest.encode()) == 1
    assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


def test_the_facts_carry_what_the_file_gives_for_the_self_test_image(onnx_file):
    model, native = load(onnx_file, threads=1), fitted_detector().self_test()
    found, test = model.predict(self_test_image()), model.facts.self_test
    assert test is not None and test.is_passed_by(found.scores["mean_logit"], float(found.anomaly_map.max()))
    assert test.score == pytest.approx(found.scores["mean_logit"], abs=1e-6)
    assert test.is_passed_by(native.score, native.map_peak)
    assert (test.tolerance, test.map_tolerance) == pytest.approx((native.tolerance, native.map_tolerance), rel=1e-3)


def test_the_tolerance_is_at_least_what_the_check_measured(onnx_file):
    from flawmap.deploy.parity import Parity
    from flawmap.runs.calibration import MapScale

    exported, native = load(onnx_file, threads=1), fitted_detector().self_test()
    measured = Parity(3, 0.1, 7.0, 0, None, 0.25, 10.0)
    found = export_module._self_test(exported, native, measured, MapScale(0.0, 10.0))
    assert (found.tolerance, found.map_tolerance) == (0.25, 7.0)
    far = dataclasses.replace(native, score=native.score + 3, map_peak=native.map_peak - 50)
    found = export_module._self_test(exported, far, measured, MapScale(0.0, 10.0))
    assert (found.tolerance, found.map_tolerance) == pytest.approx((3.0, 50.0), abs=1e-3)


def test_a_file_may_have_another_name_and_place(onnx_file, tmp_path):
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").write_text("not ours")
    (tmp_path / "model.bin").write_text("not ours")
    assert load(tmp_path / "model.onnx", threads=1).predict(striped(1)).score == (
        load(onnx_file, threads=1).predict(striped(1)).score
    )


# ---- what is noticed


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
@pytest.mark.parametrize("bit", [0, 6])
def test_one_flipped_bit_is_noticed(onnx_file, tmp_path, share, bit):
    content = bytearray(onnx_file.read_bytes())
    content[round(share * len(content))] ^= 1 << bit
    path = tmp_path / "flipped.onnx"
    path.write_bytes(content)
    error = refused(path)
    assert error.place == str(path) and error.problem.startswith((CHANGED, "the file cannot be loaded"))


@pytest.mark.parametrize("key", [b'"threshold": ', b'"held_out_scores": [', b'"tolerance": ', b'"name": "'])
def test_changed_facts_are_noticed_as_well(onnx_file, tmp_path, key):
    content = bytearray(onnx_file.read_bytes())
    at = content.rindex(key) + len(key)
    content[at] = ord("2") if content[at] != ord("2") else ord("3")
    (tmp_path / "other.onnx").write_bytes(content)
    assert refused(tmp_path / "other.onnx").problem.startswith(CHANGED)


def test_another_digest_is_noticed(onnx_file, tmp_path):
    digest = load(onnx_file, threads=1).facts.files_sha256[".onnx"].encode()
    (tmp_path / "a.onnx").write_bytes(onnx_file.read_bytes().replace(digest, b"f" * 64))
    error = refused(tmp_path / "a.onnx")
    assert error.problem == f"{CHANGED}{digest.decode()[:16]}... instead of ffffffffffffffff..."


def rename_the_graph(model) -> None:
    model.graph.name = "simplified"


def add_other_metadata(model) -> None:
    model.doc_string = "optimised by another tool"


@pytest.mark.parametrize("change", [plant(0.5), plant(math.nan), plant(math.inf), rename_the_graph, add_other_metadata])
def test_a_file_that_another_program_wrote_is_noticed(onnx_file, tmp_path, change):
    rewrite(onnx_file, tmp_path / "other.onnx", change, facts_in(onnx_file))
    assert refused(tmp_path / "other.onnx").problem.startswith(CHANGED)


@pytest.mark.parametrize("missing", [1, 1000, 100_000])
def test_a_file_that_was_cut_off_is_noticed(onnx_file, tmp_path, missing):
    (tmp_path / "torn.onnx").write_bytes(onnx_file.read_bytes()[:-missing])
    assert refused(tmp_path / "torn.onnx").problem.startswith(("the file cannot be loaded", CHANGED))


def test_bytes_that_were_appended_are_noticed(onnx_file, tmp_path):
    (tmp_path / "long.onnx").write_bytes(onnx_file.read_bytes() + b"\x00")
    assert refused(tmp_path / "long.onnx").problem


def test_a_file_of_an_earlier_flawmap_opens_without_a_check(onnx_file, tmp_path):
    older = dataclasses.replace(facts_in(onnx_file), files_sha256=None, self_test=None)
    rewrite(onnx_file, tmp_path / "older.onnx", lambda model: None, older)
    found = load(tmp_path / "older.onnx", threads=1)
    assert found.facts.self_test is None and found.facts.files_sha256 is None
    assert found.predict(striped(1)).scores == load(onnx_file, threads=1).predict(striped(1)).scores


# ---- the finite check is what is left where the digest was recomputed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_planted_value_with_its_own_digest_scores_nothing_and_the_graph_passes_nothing(onnx_file, tmp_path, value):
    import onnxruntime

    path = tmp_path / "planted.onnx"
    rewrite_with_digest(onnx_file, path, plant(value))
    model = load(path, threads=1)
    with pytest.raises(NotScoredError) as caught:
        model.predict(striped(1))
    assert caught.value.problem.startswith("the model gives no finite ") and caught.value.remedy == DAMAGED_MODEL
    # a program in another language that looks at the verdict alone must not pass the part
    session = onnxruntime.InferenceSession(path)
    inputs = {f"square_{size}px": np.full((1, size, size, 3), 90, np.uint8) for size in model.facts.sizes_px}
    _, is_anomalous, anomaly_map, scores = session.run(None, inputs | {"size_px": np.array([40, 50])})
    assert bool(is_anomalous) and not (np.isfinite(scores).all() and np.isfinite(anomaly_map).all())


def test_a_change_with_its_own_digest_is_found_by_the_self_test(onnx_file, tmp_path):
    rewrite_with_digest(onnx_file, tmp_path / "other.onnx", plant(40.0))
    model = load(tmp_path / "other.onnx", threads=1)
    found = model.predict(self_test_image())
    assert not model.facts.self_test.is_passed_by(found.scores["mean_logit"], float(found.anomaly_map.max()))


# ---- other formats


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvinos_two_files_are_both_covered(tmp_path, images, precision):
    pytest.importorskip("openvino")
    path = tmp_path / "made" / "tile.xml"
    export_model(fitted_detector(), path, "openvino", images[:1], precision)
    carried = load(path, threads=1).facts.files_sha256
    assert carried is not None and carried.keys() == {".xml", ".bin"}
    assert carried[".bin"] == file_sha256(path.with_suffix(".bin"))
    for file in (path, path.with_suffix(".bin")):
        for share in (0.2, 0.5, 0.9):
            folder = Path(shutil.copytree(path.parent, tmp_path / f"{file.suffix}{share}"))
            content = bytearray(file.read_bytes())
            content[round(share * len(content))] ^= 1
            (folder / file.name).write_bytes(content)
            error = refused(folder / "tile.xml")
            assert error.problem.startswith((CHANGED, "the file cannot be loaded"))
            if file.suffix == ".bin":
                assert error.problem.startswith(CHANGED) and error.place == str(folder / "tile.bin")
    other = Path(shutil.copytree(path.parent, tmp_path / "other"))
    shutil.move(other / "tile.xml", other / "part.xml")
    shutil.move(other / "tile.bin", other / "part.bin")
    assert load(other / "part.xml", threads=1).facts.self_test == load(path, threads=1).facts.self_test


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # which recommends torch.export instead
def test_a_torchscript_file_is_covered_part_by_part(tmp_path, images):
    import torch

    path = tmp_path / "tile.torchscript"
    export_model(fitted_detector(), path, "torchscript", images[:1])
    facts = load(path, threads=1).facts
    assert facts.files_sha256 is not None and facts.files_sha256.keys() == {".torchscript"}
    for share in (0.2, 0.5, 0.8):
        content = bytearray(path.read_bytes())
        content[round(share * len(content))] ^= 1
        (tmp_path / "flipped.torchscript").write_bytes(content)
        assert refused(tmp_path / "flipped.torchscript").problem.startswith((CHANGED, "the file cannot be loaded"))
    module = torch.jit.load(path)
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = math.nan
    torch.jit.save(module, tmp_path / "saved.torchscript", _extra_files={METADATA_KEY: facts.to_text()})
    assert refused(tmp_path / "saved.torchscript").problem.startswith(CHANGED)
    older = dataclasses.replace(facts, files_sha256=None, self_test=None)
    torch.jit.save(module, tmp_path / "older.torchscript", _extra_files={METADATA_KEY: older.to_text()})
    with pytest.raises(NotScoredError):
        load(tmp_path / "older.torchscript", threads=1).predict(striped(1))


@pytest.mark.slow
def test_half_precision_is_covered_and_its_tolerance_is_what_it_costs(tmp_path, images):
    path = tmp_path / "small.onnx"
    parity = export_model(fitted_detector(), path, "onnx", images, "fp16")
    facts = load(path, threads=1).facts
    assert facts.self_test is not None and facts.self_test.tolerance >= parity.max_logit_difference
    rewrite(path, tmp_path / "other.onnx", add_other_metadata, facts)
    assert refused(tmp_path / "other.onnx").problem.startswith(CHANGED)

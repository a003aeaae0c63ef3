"""A model with a value that is not finite: no verb gives a verdict, and each says which image and what to do."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assertions import assert_explained, files_and_bytes
from images import write_category, write_good

DAMAGED = ("the model is damaged: copy it again, or train it again",)
TENSORS = ["detection.neurons.bias", "encoder.vit.blocks.0.norm1.weight", "encoder.vit.pos_embed"]


def plant(run: Path, tensor: str, value: float) -> None:
    """Replace the first value of one tensor of a run's model, and the hash that would give it away."""
    path = run / "model" / "model.safetensors"
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    tensors[tensor].reshape(-1)[0] = value
    save_file(tensors, path)
    config = path.with_name("config.json")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"weights_sha256": sha256}))


@pytest.fixture(params=[(name, math.nan) for name in TENSORS] + [(TENSORS[1], math.inf)], ids=str)
def broken_run(run_copy, request) -> Path:
    plant(run_copy, *request.param)
    return run_copy


@pytest.mark.parametrize("options", [(), ("--json",), ("--fail-on-anomaly",)])
def test_detect_lists_every_image_as_not_scored(cli, broken_run, tmp_path, options):
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    said = cli("detect", parts, "--model", broken_run, *options)
    assert (said.code, said.out) == (2, "")
    *failed, remedy, summary = said.err.splitlines()
    assert summary.startswith("0 scored, 3 not scored, 0 anomalous, ") and remedy == f"remedy: {DAMAGED[0]}"
    assert [line.partition(": the model gives no finite ")[0] for line in failed] == [
        f"not scored: {parts / name}" for name in ("000.png", "001.png", "002.png")
    ]
    tables = ["result.json", "results.csv", "results.jsonl"]
    assert [path.name for path in sorted(Path("detections").iterdir())] == tables
    result = json.loads(Path("detections/result.json").read_text())
    assert result["images"] == [] and len(result["not_scored"]) == 3
    assert all("finite" in one["problem"] for one in result["not_scored"])


def test_resume_tries_them_again_with_a_sound_model(cli, trained, run_copy, tmp_path):
    parts = write_good(tmp_path / "parts", 2, first_seed=800)
    plant(run_copy, TENSORS[0], math.nan)
    assert cli("detect", parts, "--model", run_copy, "--output", "out").code == 2
    assert cli("detect", parts, "--model", trained.run, "--output", "out", "--resume").code == 0
    assert len(json.loads(Path("out/result.json").read_text())["images"]) == 2


def test_workers_list_them_too(cli, run_copy, tmp_path):
    plant(run_copy, TENSORS[0], math.nan)
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    said = cli("detect", parts, "--model", run_copy, "--workers", "2")
    assert said.code == 2 and said.err.count("not scored: ") == 3
    assert f"remedy: {DAMAGED[0]}\n0 scored, 3 not scored" in said.err


def test_evaluate_names_the_image_and_keeps_the_former_results(cli, broken_run, tmp_path):
    data = write_category(tmp_path / "tile")
    before = files_and_bytes(broken_run)
    said = cli("evaluate", broken_run, data)
    first = min(path for path in (data / "test").rglob("*.png"))
    assert_explained(said, ("the model gives no finite",), str(first), DAMAGED)
    assert files_and_bytes(broken_run) == before


def test_calibrate_names_the_image_and_keeps_the_former_threshold(cli, broken_run, tmp_path):
    before = files_and_bytes(broken_run)
    said = cli("calibrate", broken_run, write_good(tmp_path / "fresh", 5, first_seed=900))
    assert_explained(said, ("the model gives no finite",), str(tmp_path / "fresh" / "000.png"), DAMAGED)
    assert files_and_bytes(broken_run) == before


def test_export_writes_no_file(cli, run_copy, tmp_path):
    pytest.importorskip("onnxscript")
    plant(run_copy, TENSORS[0], math.nan)
    parts = write_good(tmp_path / "parts", 2, first_seed=800)
    said = cli("export", run_copy, "--images", parts, "--output", tmp_path / "new" / "tile.onnx")
    assert_explained(said, ("the model gives no finite",), "self-test image", DAMAGED)
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


def test_the_numbers_of_the_fixture_are_what_it_says(broken_run, trained):
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (broken_run, trained.run))
    changed = [name for name in ours if not np.array_equal(ours[name], theirs[name], equal_nan=False)]
    assert len(changed) == 1 and not np.isfinite(ours[changed[0]]).all()


# ---- the hash


def flip_a_bit(path: Path) -> None:
    """The highest bit of an exponent: it turns a weight of 0.1 into one of 3e37."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 | 3] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("verb", ["detect", "evaluate", "calibrate", "serve", "export"])
def test_no_verb_opens_a_model_with_a_flipped_bit(cli, run_copy, tmp_path, verb):
    path = run_copy / "model" / "model.safetensors"
    flip_a_bit(path)
    parts = write_good(tmp_path / "parts", 2, first_seed=800)
    words = {
        "detect": ("detect", parts, "--model", run_copy),
        "evaluate": ("evaluate", run_copy, write_category(tmp_path / "tile")),
        "calibrate": ("calibrate", run_copy, parts),
        "serve": ("serve", run_copy, "--port", "8399"),
        "export": ("export", run_copy, "--images", parts),
    }
    problem = ("the weights are not those that were saved: SHA-256 ", " instead of ")
    assert_explained(cli(*words[verb]), problem, str(path), ("copy the whole folder again, or train again",))


def test_a_run_of_an_earlier_flawmap_is_opened_with_one_note(cli, run_copy, tmp_path):
    config = run_copy / "model" / "config.json"
    values = json.loads(config.read_text())
    del values["weights_sha256"], values["self_test"]
    config.write_text(json.dumps(values))
    said = cli("detect", write_good(tmp_path / "parts", 3, first_seed=800), "--model", run_copy)
    assert said.code == 0 and len(said.out.splitlines()) == 3
    assert said.err.count("note       this model is from an earlier flawmap and carries no checksum") == 1

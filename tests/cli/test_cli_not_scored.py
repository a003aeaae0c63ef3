"""A model with a value that is not finite: no verb gives a verdict, and each says which image and what to do."""

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
    """Replace the first value of one tensor of a run's model."""
    path = run / "model" / "model.safetensors"
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    tensors[tensor].reshape(-1)[0] = value
    save_file(tensors, path)


@pytest.fixture(params=[(name, math.nan) for name in TENSORS] + [(TENSORS[1], math.inf)], ids=str)
def broken_run(run_copy, request) -> Path:
    plant(run_copy, *request.param)
    return run_copy


@pytest.mark.parametrize("options", [(), ("--json",), ("--fail-on-anomaly",)])
def test_detect_lists_every_image_as_not_scored(cli, broken_run, tmp_path, options):
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    said = cli("detect", parts, "--model", broken_run, *options)
    assert (said.code, said.out) == (2, "")
    summary, *failed, remedy = said.err.splitlines()
    assert summary.startswith("0 images, 0 anomalous, ") and remedy == f"remedy: {DAMAGED[0]}"
    assert [line.partition(": the model gives no finite ")[0] for line in failed] == [
        f"not scored: {parts / name}" for name in ("000.png", "001.png", "002.png")
    ]
    assert [path.name for path in sorted(Path("detections").iterdir())] == ["result.json", "results.jsonl"]
    result = json.loads(Path("detections/result.json").read_text())
    assert result["images"] == [] and len(result["not_scored"]) == 3
    assert all("finite" in one["problem"] for one in result["not_scored"])


def test_resume_tries_them_again_with_a_sound_model(cli, trained, run_copy, tmp_path):
    parts = write_good(tmp_path / "parts", 2, first_seed=800)
    plant(run_copy, TENSORS[0], math.nan)
    assert cli("detect", parts, "--model", run_copy, "--output", "out").code == 2
    assert cli("detect", parts, "--model", trained.run, "--output", "out", "--resume").code == 0
    assert len(json.loads(Path("out/result.json").read_text())["images"]) == 2


@pytest.mark.slow
def test_workers_list_them_too(cli, run_copy, tmp_path):
    plant(run_copy, TENSORS[0], math.nan)
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    said = cli("detect", parts, "--model", run_copy, "--workers", "2")
    assert said.code == 2 and said.err.count("not scored: ") == 3 and said.err.endswith(f"remedy: {DAMAGED[0]}\n")


def test_evaluate_names_the_image_and_keeps_the_former_results(cli, broken_run, tmp_path):
    data = write_category(tmp_path / "tile")
    before = files_and_bytes(broken_run)
    said = cli("evaluate", broken_run, data)
    first = min(path for path in (data / "test").rglob("*.png"))
    assert_explained(said, ("the model gives no finite",), str(first), DAMAGED)
    assert files_and_bytes(broken_run) == before


def test_calibrate_names_the_image_and_keeps_the_former_threshold(cli, broken_run, tmp_path):
    before = files_and_bytes(broken_run)
    said = cli("calibrate", broken_run, write_good(tmp_path / "fresh", 4, first_seed=900))
    assert_explained(said, ("the model gives no finite",), str(tmp_path / "fresh" / "000.png"), DAMAGED)
    assert files_and_bytes(broken_run) == before


def test_export_writes_no_file(cli, run_copy, tmp_path):
    pytest.importorskip("onnxscript")
    plant(run_copy, TENSORS[0], math.nan)
    parts = write_good(tmp_path / "parts", 2, first_seed=800)
    said = cli("export", run_copy, "--images", parts, "--output", tmp_path / "new" / "tile.onnx")
    assert_explained(said, ("the model gives no finite",), str(parts / "000.png"), DAMAGED)
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


def test_the_numbers_of_the_fixture_are_what_it_says(broken_run, trained):
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (broken_run, trained.run))
    changed = [name for name in ours if not np.array_equal(ours[name], theirs[name], equal_nan=False)]
    assert len(changed) == 1 and not np.isfinite(ours[changed[0]]).all()

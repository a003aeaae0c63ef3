"""From a run to the line: export, detect with the file, calibrate with reviews, and what serve refuses."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")

import flawmap
from flawmap import AnomalyDetector
from flawmap.cli import main
from flawmap.deploy import load
from flawmap.deploy.reviews import ReviewFile, make_review
from flawmap.runs.manifest import read_manifest
from images import write_good


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    """A file made by the command, checked on the images that the run was trained from."""
    path = tmp_path_factory.mktemp("exported") / "tile.onnx"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["export", str(trained.run), "--output", str(path), "--count", "4", "--json"])
    said = json.loads(out.getvalue())
    assert code == 0 and said["is_good"] and said["n"] == 4 and said["max_score_difference"] < 1e-4
    assert said["file"] == str(path)
    return path


def test_detect_with_the_file_says_what_detect_with_the_run_says(cli, trained, exported, tmp_path):
    parts = write_good(tmp_path / "parts", 3, first_seed=800)
    by_run = cli("detect", parts, "--model", trained.run, "--output", "run", "--json")
    by_file = cli("detect", parts, "--model", exported, "--output", "file", "--json")
    assert by_file.code == 0
    for one, other in zip(by_run.out.splitlines(), by_file.out.splitlines(), strict=True):
        ours, theirs = json.loads(one), json.loads(other)
        assert theirs["score"] == pytest.approx(ours["score"], abs=1e-4)
        assert (theirs["image"], theirs["threshold"]) == (ours["image"], ours["threshold"])
        assert theirs["model_id"] == ours["model_id"]


@pytest.mark.slow
def test_a_file_carries_the_thresholds_of_all_cameras(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    for camera in ("left", "right"):
        assert cli("calibrate", run_copy, good, "--camera", camera, "--false-alarm-rate", "0.2").code == 0
    assert cli("export", run_copy, "--output", "tile.onnx", "--count", "2").code == 0
    for camera in (None, "left", "right"):
        of_camera = ("--camera", camera) if camera else ()
        threshold = AnomalyDetector.from_pretrained(run_copy, "cpu", camera=camera).calibration_.threshold
        assert load("tile.onnx", camera=camera).facts.calibration.threshold == threshold
        said = cli("detect", good, "--model", "tile.onnx", *of_camera, "--json", "--output", f"of-{camera}")
        records = [json.loads(line) for line in said.out.splitlines()]
        assert {(record["camera"], record["threshold"]) for record in records} == {(camera, threshold)}
    said = cli("detect", good, "--model", "tile.onnx", "--camera", "top")
    assert said.code == 2 and "no threshold for camera 'top'; known cameras: left, right" in said.err
    assert "at: tile.onnx" in said.err
    assert "remedy: flawmap calibrate tile.onnx GOOD_IMAGES --camera top" in said.err


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "lightning", "cv2", "jaxtyping"):
    sys.modules[name] = None
from flawmap.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_detect_with_the_file_needs_no_torch(cli, exported, tmp_path):
    parts = write_good(tmp_path / "parts", 25, first_seed=800)  # so many that progress is shown
    words = ["detect", parts, "--model", exported, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(flawmap.__file__).parents[1])}
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    ours = [json.loads(line) for line in cli(*words).out.splitlines()]
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["score"] for one in theirs] == [one["score"] for one in ours] and len(ours) == 25


def test_a_file_that_is_there_is_not_replaced(cli, trained, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"the line's model")
    said = cli("export", trained.run, "--output", tmp_path / "a.onnx")
    assert said.code == 2 and "this file already exists" in said.err
    assert (tmp_path / "a.onnx").read_bytes() == b"the line's model"
    (tmp_path / "b.bin").write_bytes(b"its weights")
    said = cli("export", trained.run, "--to", "openvino", "--output", tmp_path / "b.xml")
    assert said.code == 2 and "b.bin" in said.err


def test_a_run_whose_images_have_gone_wants_others(cli, run_copy, tmp_path):
    facts = json.loads((run_copy / "environment.json").read_text())
    (run_copy / "environment.json").write_text(json.dumps(facts | {"data": str(tmp_path / "gone")}))
    said = cli("export", run_copy)
    assert said.code == 2 and f"at: {run_copy}" in said.err and "--images FOLDER" in said.err


def test_a_count_that_is_none_is_explained(cli, trained):
    said = cli("export", trained.run, "--count", "0")
    assert said.code == 2 and "error: --count is 0, must be a whole number above 0" in said.err


# ---- reviews


@pytest.fixture
def reviews(run_copy) -> ReviewFile:
    """Ten good parts with scores 1 to 10, and a defect."""
    model_id = AnomalyDetector.from_pretrained(run_copy, "cpu").facts("").model_id
    file = ReviewFile(run_copy.parent / "reviews.csv")
    for number in range(1, 11):  # a good part is an ok that is right, or an anomaly that is not
        word = "disagree" if number > 5 else "agree"
        name, sha256 = f"{number}.png", f"{number:064x}"
        file.append(make_review(name, sha256, model_id, float(number), 2.0 * number, 5.0, word, ""))
    file.append(make_review("hole.png", "f" * 64, model_id, 99.0, 99.0, 5.0, "agree", ""))
    return file


def test_calibrate_takes_the_good_parts_of_reviews(cli, run_copy, reviews):
    said = cli("calibrate", run_copy, reviews.path, "--false-alarm-rate", "0.1", "--json")
    assert said.code == 0, said.err
    assert said.json["held_out_scores"] == [float(number) for number in range(1, 11)]
    assert said.json["n_held_out"] == 10 and said.json["map_threshold"] == 2 * said.json["threshold"]
    assert AnomalyDetector.from_pretrained(run_copy, "cpu").calibration_.threshold == said.json["threshold"]


def test_reviews_of_another_model_set_no_threshold(cli, run_copy, reviews):
    text = reviews.path.read_text()
    reviews.path.write_text(text.replace("-fp32,", "-int8,"))
    said = cli("calibrate", run_copy, reviews.path)
    assert said.code == 2 and "error: 11 of 11 reviews are of another model, first: 1.png" in said.err
    assert f"at: {reviews.path}" in said.err and "remedy: serve this run" in said.err


def test_reviews_of_training_images_set_no_threshold(cli, run_copy, reviews):
    seen = next(row.sha256 for row in read_manifest(run_copy / "data_manifest.csv") if row.split == "train")
    reviews.path.write_text(reviews.path.read_text().replace(f"{3:064x}", seen))
    said = cli("calibrate", run_copy, reviews.path)
    assert said.code == 2 and "error: 1 of these images were trained on, first: 3.png" in said.err


def test_reviews_without_a_good_part_set_no_threshold(cli, run_copy, reviews):
    header, *_, last = reviews.path.read_text().splitlines()
    reviews.path.write_text(f"{header}\n{last}\n")
    said = cli("calibrate", run_copy, reviews.path)
    assert said.code == 2 and "error: no image was reviewed as good" in said.err


# ---- serve


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0 lets other machines in, and there is no token"),
        (("--port", "70000"), "--port is 70000, must be between 1 and 65535"),
        (("--queue", "0"), "--queue is 0, must be a whole number above 0"),
        (("--max-megapixels", "-1"), "--max-megapixels is -1, must be a number above 0"),
        ((), "no such file: none.onnx"),
    ],
)
def test_what_serve_cannot_do_is_explained(cli, monkeypatch, words, problem):
    monkeypatch.delenv("FLAWMAP_TOKEN", raising=False)
    said = cli("serve", "none.onnx", *words)
    assert said.code == 2 and f"error: {problem}" in said.err and "remedy: " in said.err
    assert os.listdir() == []


def test_a_port_that_is_taken_is_explained_before_the_model_is_loaded(cli):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = cli("serve", "none.onnx", "--port", port)
    assert said.code == 2 and f"error: port {port} of 127.0.0.1 is taken" in said.err and "at: --port" in said.err
    assert f"remedy: --port {port + 1}, or stop the program that uses it" in said.err


def test_an_address_of_another_machine_is_explained(cli, monkeypatch):
    monkeypatch.setenv("FLAWMAP_TOKEN", "secret")
    said = cli("serve", "none.onnx", "--host", "192.0.2.1")  # kept for documentation: nobody has it
    assert said.code == 2 and "error: this machine has no address 192.0.2.1" in said.err and "at: --host" in said.err

"""flawmap train: what it writes, what it never changes, and how it resumes."""

import csv
import hashlib
import json
import shutil
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import flawmap.detect.fit_detector
from assertions import assert_explained, files_and_bytes
from flawmap.cli import main
from flawmap.cli.arguments import recipe_of
from flawmap.cli.train import add_arguments
from flawmap.paper.finetune import FinetuneModule
from flawmap.recipe.files import load_recipe
from flawmap.runs.result_folders import exclusive
from flawmap.runs.run_folder import RunFolder
from flawmap.train import data_of
from images import NUM_TRAIN, striped, write_category, write_good, write_image

QUICKEST = ("--set", "pretrain.enabled=false", "--set", "finetune.steps=1")  # for what does not look at the weights


def log_of(run: Path) -> list[tuple[str, int]]:
    return [(r["stage"], r["step"]) for r in map(json.loads, (run / "log.jsonl").read_text().splitlines())]


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl+C in the middle of stage 2, with checkpoints at every step; counts the steps of stage 2 that were begun."""
    stages, step = flawmap.detect.fit_detector.fit_scorer, FinetuneModule.training_step
    monkeypatch.setattr(flawmap.detect.fit_detector, "fit_scorer", partial(stages, save_every_seconds=0.0))
    begun: list[int] = []

    def counted(self, batch, number):
        begun.append(self.global_step)
        if self.global_step == stop["at"]:
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(FinetuneModule, "training_step", counted)
    stop = {"at": 2, "begun": begun}
    return stop


def test_the_smallest_defect_is_short_for_two_settings(capsys):
    parser = ArgumentParser()
    add_arguments(parser)
    data = recipe_of(parser.parse_args(["good", "--smallest-defect-px", "7.5", "--set", "seed=3"])).data
    assert (data.tiles, data.smallest_defect_px) == ("auto", 7.5)
    assert main(["train", "good", "--smallest-defect-px", "8", "--set", "data.tiles=none"]) == 2
    assert "data.smallest_defect_px has no effect with data.tiles none" in capsys.readouterr().err


# ---- a finished run


def test_results_go_to_stdout_and_progress_to_stderr(trained):
    assert (
        trained.result.out == f"run        {trained.run}      next: flawmap detect NEW_IMAGES --model {trained.run}\n"
    )
    labels = [line.split("  ")[0].strip() for line in trained.result.err.splitlines()]
    expected = ["data", "split", "run", "device", "pretrain", "attention", "finetune", "simulated", "threshold"]
    assert [label for label in expected if any(line.startswith(label) for line in labels)] == expected
    assert f'{NUM_TRAIN} good images, layout "MVTec AD' in trained.result.err
    assert "22 train, 2 held out for the threshold (seed 0)" in trained.result.err
    assert "from 2 images (cannot resolve below 33.3%)" in trained.result.err
    assert "not a test result" in trained.result.err


def test_a_run_folder_holds_what_was_promised(trained):
    files = set(files_and_bytes(trained.run))
    assert {
        *("recipe.yaml", "environment.json", "data_manifest.csv", "log.jsonl"),
        *(f"model/{name}" for name in ("model.safetensors", "config.json", "calibration.json", "README.md")),
        *("checkpoints/pretrain.safetensors", "checkpoints/finetune.safetensors"),
    } <= files
    assert not [name for name in files if name.endswith((".pt", ".pkl", ".ckpt", ".part", ".tmp"))]
    assert load_recipe(trained.run / "recipe.yaml") == load_recipe(trained.recipe)


def test_the_environment_says_how_to_repeat_it(trained):
    environment = json.loads((trained.run / "environment.json").read_text())
    words = ["train", str(trained.data), "--recipe", str(trained.recipe), "--run", str(trained.run), "--device", "cpu"]
    assert environment["command"].split() == ["flawmap", *words]
    assert environment["seed"] == 0 and environment["device"] == "cpu" and environment["torch"]


def test_the_manifest_lists_every_training_image_with_hash_side_and_size(trained):
    with (trained.run / "data_manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"train/good/{n:03d}.png" for n in range(NUM_TRAIN)]
    assert sorted(row["split"] for row in rows) == ["held_out"] * 2 + ["train"] * 22
    for row in rows:
        assert row["sha256"] == hashlib.sha256((trained.data / row["path"]).read_bytes()).hexdigest()
        assert (row["width"], row["height"]) == ("48", "48")


def test_the_log_has_one_line_per_step(trained):
    assert log_of(trained.run) == [("pretrain", n) for n in range(3)] + [("finetune", n) for n in range(4)]


def test_no_verb_changes_an_image_of_the_user(trained):
    assert files_and_bytes(trained.data) == trained.bytes_before


def test_a_taken_run_folder_gets_a_number_and_equal_stages_are_reused(cli, trained):
    before = files_and_bytes(trained.run)
    result = cli("train", trained.data, "--recipe", trained.recipe, "--run", trained.run, "--device", "cpu", "--json")
    second = trained.run.with_name("first-2")
    assert result.code == 0 and result.json["run"] == str(second)
    assert result.err.count("reused, the same as in an earlier run") == 2
    assert files_and_bytes(trained.run) == before
    name = "model/model.safetensors"
    assert (second / name).read_bytes() == (trained.run / name).read_bytes()
    shutil.rmtree(second)


def test_json_is_all_that_is_on_stdout(cli, trained):
    result = cli("train", trained.data, "--resume", "--run", trained.run, "--json")
    calibration = json.loads((trained.run / "model" / "calibration.json").read_text())
    facts = ["finished", "held_out_simulated_defects", "known_defects", "left_out", "run", "threshold", "unusual"]
    assert sorted(result.json) == facts and result.json["known_defects"] is None
    assert result.json["run"] == str(trained.run) and result.json["finished"] is True
    assert result.json["threshold"] == calibration["threshold"]
    assert result.json["held_out_simulated_defects"]["n"] == 2


# ---- a plain folder, from nothing to a verdict


def test_a_plain_folder_of_good_images_is_enough(cli, trained, tmp_path):
    parts = write_good(tmp_path / "parts")
    write_image(parts / ".hidden.png", striped(0))
    before = files_and_bytes(parts)
    result = cli("train", parts, "--recipe", trained.recipe, *QUICKEST, "--json")
    assert result.code == 0, result.err
    run = Path(result.json["run"])
    assert run.parent == Path("runs") and "_parts_" in run.name
    assert Path("runs/latest.txt").read_text().strip() == run.name
    assert f'{NUM_TRAIN} good images, layout "plain folder of good images"' in result.err
    detected = cli("detect", parts / "000.png")  # with the latest run
    assert detected.code == 0 and detected.out.startswith(f"{parts / '000.png'}   ")
    assert json.loads(Path("detections/result.json").read_text())["model"] == str(run)
    assert files_and_bytes(parts) == before


def test_without_held_out_images_the_threshold_comes_later(cli, trained, tmp_path):
    parts = write_good(tmp_path / "parts", 4)
    sets = (*QUICKEST, "--set", "calibration.held_out_fraction=0")
    result = cli("train", parts, "--recipe", trained.recipe, *sets, "--run", "r", "--json")
    assert result.code == 0 and result.json["threshold"] is None and result.json["finished"] is True
    assert "next: flawmap calibrate r GOOD_IMAGES" in result.err
    plain = cli("detect", parts, "--model", "r")
    assert plain.code == 0 and "ok" not in plain.out and plain.out.count("   -  ") == 4
    assert "no threshold yet, so nothing is called anomalous: flawmap calibrate r GOOD_IMAGES" in plain.err
    refused = cli("detect", parts, "--model", "r", "--fail-on-anomaly")
    assert refused.code == 2 and "remedy: flawmap calibrate r GOOD_IMAGES" in refused.err
    more = write_good(tmp_path / "more", 9, first_seed=500)
    calibrated = cli("calibrate", "r", more, "--false-alarm-rate", "0.3", "--json")
    assert calibrated.code == 0 and calibrated.json["n_held_out"] == 9
    after = cli("detect", more, "--model", "r", "--fail-on-anomaly", "--json")
    above = [score > calibrated.json["threshold"] for score in calibrated.json["held_out_scores"]]
    assert after.code == 1 and 1 <= sum(above) <= 2  # of ten, a new one included, three may be above
    assert sum(json.loads(line)["is_anomalous"] for line in after.out.splitlines()) == sum(above)
    again = cli("calibrate", "r", more, "--json")  # the rate stays what it was set to
    assert again.json["false_alarm_rate"] == 0.3 and again.json["threshold"] == calibrated.json["threshold"]
    too_high = cli("calibrate", "r", more, "--false-alarm-rate", "2")
    assert too_high.code == 2 and too_high.out == ""


# ---- --resume


def test_a_finished_run_is_left_as_it_is(cli, trained):
    before = files_and_bytes(trained.run)
    result = cli("train", trained.data, "--resume", "--run", trained.run)
    assert result.code == 0 and result.out == f"run        {trained.run}      was finished already\n"
    assert files_and_bytes(trained.run) == before


def test_a_run_is_resumed_with_the_data_it_was_started_with(cli, trained):
    result = cli("train", "--resume", "--run", trained.run)
    assert result.code == 0 and "was finished already" in result.out
    assert data_of(RunFolder(trained.run)) == [str(trained.data)]


def test_an_interrupted_run_goes_on_to_the_same_model(cli, trained, interrupted, tmp_path):
    run = tmp_path / "elsewhere" / "run"  # away from the first run, whose results it would reuse
    words = ("train", trained.data, "--recipe", trained.recipe, "--run", run, "--device", "cpu")
    stopped = cli(*words)
    assert stopped.code == 130 and stopped.out == ""
    assert "interrupted; finished work is kept (the same command with --resume continues)" in stopped.err
    assert interrupted["begun"] == [0, 1, 2] and not (run / "model").exists()
    unfinished = cli("detect", trained.data / "test", "--model", run)
    assert unfinished.code == 2 and f"remedy: flawmap train {trained.data} --run {run} --resume" in unfinished.err
    interrupted["at"] = None
    result = cli(*words, "--resume")
    assert result.code == 0, result.err
    assert interrupted["begun"] == [0, 1, 2, 2, 3]  # only the interrupted step is repeated
    assert "already done" in result.err
    for name in ("model/model.safetensors", "model/calibration.json", "checkpoints/pretrain.safetensors"):
        assert (run / name).read_bytes() == (trained.run / name).read_bytes(), name
    assert log_of(run) == log_of(trained.run)


def test_stage_pretrain_ends_early_and_resume_does_the_rest(cli, trained):
    run = trained.run.with_name("staged")
    words = ("train", trained.data, "--recipe", trained.recipe, "--run", run, "--device", "cpu")
    first = cli(*words, "--stage", "pretrain")
    assert first.code == 0
    assert first.out == f"run        {run}      next: flawmap train {trained.data} --run {run} --resume\n"
    assert not (run / "model").exists()
    result = cli(*words, "--resume", "--json")
    assert result.code == 0 and result.json["finished"] is True
    assert (
        load_file(run / "model" / "model.safetensors").keys()
        == load_file(trained.run / "model/model.safetensors").keys()
    )
    shutil.rmtree(run)


def test_another_recipe_is_no_resume(cli, trained):
    result = cli("train", trained.data, "--resume", "--run", trained.run, "--set", "seed=5")
    assert result.code == 2
    assert_explained(result, ("recipe differs",), str(trained.run / "recipe.yaml"), ("--recipe and --set", "--resume"))


def test_other_images_are_no_resume(cli, trained, run_copy, tmp_path):
    (run_copy / "model" / "config.json").unlink()  # not finished
    data = write_category(tmp_path / "tile")
    write_good(data / "train" / "good", 1, first_seed=77)
    before = files_and_bytes(run_copy)
    result = cli("train", data, "--resume", "--run", run_copy)
    first = ("1 image is not", "first: train/good/000.png")
    assert_explained(result, first, str(run_copy / "data_manifest.csv"), ("put the images back",))
    assert files_and_bytes(run_copy) == before


@pytest.mark.slow
def test_a_training_that_fails_is_neither_latest_nor_in_the_way_of_resume(cli, trained, interrupted, tmp_path):
    parts = write_good(tmp_path / "parts")
    words = ("train", parts, "--recipe", trained.recipe, "--set", "pretrain.enabled=false", "--device", "cpu")
    interrupted["at"] = None
    good = cli(*words, "--run", "runs/good", "--json")
    assert good.code == 0, good.err
    interrupted["at"] = 2
    for name, seed in (("first", 1), ("second", 2)):
        assert cli(*words, "--set", f"seed={seed}", "--run", f"runs/{name}").code == 130
    assert cli(*words, "--set", "model.weights=nowhere.pth").code == 2
    assert Path("runs/latest.txt").read_text() == "good\n"
    detected = cli("detect", parts / "000.png")
    assert detected.code == 0 and f"model      {Path('runs/good')} (the latest run)" in detected.err
    interrupted["at"] = None
    with exclusive(Path("runs/second")):  # as another process would
        goes_on = cli("train", parts, "--resume", "--device", "cpu", "--json")
    assert goes_on.code == 0 and goes_on.json["run"] == str(Path("runs/first")), goes_on.err
    assert Path("runs/latest.txt").read_text() == "first\n"
    goes_on = cli("train", parts, "--resume", "--device", "cpu", "--json")
    assert goes_on.json["run"] == str(Path("runs/second"))
    began = json.loads(Path("runs/second/environment.json").read_text())
    assert began["command"].endswith("--set seed=2 --run runs/second") and "--resume" not in began["command"]
    assert began["started"] < began["finished"]
    again = cli("train", parts, "--resume", "--device", "cpu")
    assert again.out == f"run        {Path('runs/second')}      was finished already\n"


def test_resuming_what_another_process_trains_is_refused(cli, trained, interrupted, tmp_path):
    words = ("train", trained.data, "--recipe", trained.recipe, "--set", "pretrain.enabled=false", "--device", "cpu")
    assert cli(*words, "--run", "runs/only").code == 130
    with exclusive(Path("runs/only")):
        refused = cli("train", trained.data, "--resume")
    assert_explained(refused, ("another process works in this folder",), "runs/only", ("wait",))


@pytest.mark.parametrize(
    ("words", "problem", "place"),
    [((), "no run to resume", "runs/"), (("--run", "nowhere"), "no such folder", "nowhere")],
)
def test_resuming_nothing_is_explained(cli, trained, words, problem, place):
    result = cli("train", trained.data, "--resume", *words)
    assert_explained(result, (problem,), place, ("flawmap train DATA",))


# ---- rough edges


def test_a_run_folder_that_cannot_be_made_is_explained(cli, trained):
    Path("in_the_way").write_text("a file")
    result = cli("train", trained.data, "--recipe", trained.recipe, "--run", "in_the_way/run")
    assert result.code == 2 and "error: the run folder cannot be created: " in result.err
    assert "at: in_the_way/run" in result.err and "remedy: --run DIR" in result.err


def test_names_that_are_not_utf_8_are_refused_before_training(cli, trained, tmp_path):
    parts = write_good(tmp_path / "parts")
    try:
        (parts / "000.png").rename(parts / "bad\udcff.png")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    for verb in ("train", "check"):
        result = cli(verb, parts, "--recipe", trained.recipe)
        assert result.code == 2 and result.out == "" and "error: a file name is not UTF-8" in result.err
        assert "at: bad\\udcff.png" in result.err and "remedy: rename it" in result.err


def test_odd_sizes_train_too(cli, trained, tmp_path):
    parts = write_good(tmp_path / "parts")
    write_image(parts / "dot.png", striped(1, 1, 1))
    write_image(parts / "line.png", striped(2, 3, 5000))
    result = cli("train", parts, "--recipe", trained.recipe, *QUICKEST, "--run", "r")
    assert result.code == 0, result.err
    assert "26 good images" in result.err and "48x48 (24), 1x1 (1), 5000x3 (1)" in result.err

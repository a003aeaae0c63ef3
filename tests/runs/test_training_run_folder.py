"""Run folders: never overwritten, found again, and what they record; progress and the log."""

import csv
import datetime
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from flawmap.engine.progress import duration
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import stable_hash
from flawmap.runs.manifest import ManifestRow, read_manifest, write_manifest
from flawmap.runs.run_folder import (
    FINISHED,
    LATEST,
    STARTED,
    RunFolder,
    create_run,
    latest_run,
    open_run,
    set_latest,
    unfinished_runs,
)
from flawmap.runs.training_log import LogFile

pytestmark = pytest.mark.usefixtures("small_heads")

# ---- making and finding


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path: Path):
    wanted = tmp_path / "runs" / "mine"
    first = create_run(wanted, "tiles", Recipe(seed=1))
    (first.path / "note.txt").write_text("keep me", encoding="utf-8")
    others = [create_run(wanted, "tiles", Recipe(seed=seed)) for seed in (2, 3)]
    assert [run.path.name for run in (first, *others)] == ["mine", "mine-2", "mine-3"]
    assert (first.path / "note.txt").read_text(encoding="utf-8") == "keep me"
    assert [load_recipe(run.recipe).seed for run in (first, *others)] == [1, 2, 3]


def test_a_file_of_that_name_is_not_overwritten_either(tmp_path: Path):
    (tmp_path / "mine").write_text("a file", encoding="utf-8")
    assert create_run(tmp_path / "mine", "tiles", Recipe()).path.name == "mine-2"
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "a file"


def test_without_a_name_it_is_date_data_and_recipe(tmp_path: Path):
    run = create_run(None, "tiles", Recipe(seed=7), parent=tmp_path)
    date, data, digest = run.path.name.split("_")
    assert len(date.split("-")) == 3 and data == "tiles" and digest == stable_hash(Recipe(seed=7))[:4]
    assert create_run(None, "tiles", Recipe(seed=8), parent=tmp_path).path.name != run.path.name


def test_the_recipe_of_a_run_is_itself_a_recipe(tmp_path: Path):
    recipe = load_recipe("quick")
    assert load_recipe(create_run(tmp_path / "r", "tiles", recipe).recipe) == recipe


@pytest.mark.parametrize("name", [".", "inner/.."])
def test_the_current_folder_gets_a_number_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    here = tmp_path / "here"
    (here / "inner").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert create_run(Path(name), "tiles", Recipe()).path == tmp_path / "here-2"


def test_a_run_that_cannot_be_created_says_why(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path / "file" / "run", tmp_path / "file" / "deep" / "run"):
        with pytest.raises(UserError) as caught:
            create_run(path, "tiles", Recipe())
        assert caught.value.problem.startswith("the run folder cannot be created: ")
        assert caught.value.place == str(path) and caught.value.remedy == "--run DIR"
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="the run folder cannot be created"):
        create_run(tmp_path / "dangling" / "run", "tiles", Recipe())
    with pytest.raises(UserError, match="the run folder cannot be created"):
        create_run(Path("/"), "tiles", Recipe())


def finish(run: RunFolder, at: str | None = None) -> RunFolder:
    """Give a run what marks a complete model, and the time at which it was finished."""
    run.model.mkdir()
    (run.model / "model.safetensors").write_bytes(b"")
    (run.model / "config.json").write_text("{}", encoding="utf-8")
    if at is not None:
        run.write_environment({FINISHED: at})
    return run


def started(path: Path, at: str | None) -> RunFolder:
    """A run that training has begun and not finished."""
    run = create_run(path, "tiles", Recipe())
    write_manifest(run.manifest, [])
    if at is not None:
        run.write_environment({STARTED: at})
    return run


def test_latest_is_the_run_that_was_finished_last(tmp_path: Path):
    assert latest_run(tmp_path) is None and latest_run(tmp_path / "nowhere") is None
    b, a = (create_run(tmp_path / name, "tiles", Recipe()) for name in ("b", "a"))
    assert latest_run(tmp_path) is None and not (tmp_path / LATEST).exists()  # a start changes nothing
    set_latest(finish(a))
    assert latest_run(tmp_path) == a.path
    assert (tmp_path / LATEST).read_text(encoding="utf-8") == "a\n"
    started(tmp_path / "c", None)
    assert latest_run(tmp_path) == a.path
    set_latest(finish(b))
    assert latest_run(tmp_path) == b.path


@pytest.mark.parametrize("pointer", ["gone\n", "unfinished\n", "", "\n", "..\n", "\xff", None])
def test_without_a_model_where_the_pointer_leads_the_newest_finished_run_is_latest(tmp_path: Path, pointer: str | None):
    started(tmp_path / "unfinished", "2026-09-01T00:00:00.000+00:00")
    for name, at in (("b", "2026-03-01"), ("a", "2026-04-01"), ("c", "2026-02-01")):
        finish(create_run(tmp_path / name, "tiles", Recipe()), f"{at}T00:00:00.000+00:00")
    (tmp_path / "a file").write_text("", encoding="utf-8")
    if pointer is not None:
        (tmp_path / LATEST).write_bytes(pointer.encode("latin-1"))
    assert latest_run(tmp_path) == tmp_path / "a"


def test_a_run_without_recorded_times_counts_by_its_weights_and_its_recipe(tmp_path: Path):
    """As flawmap 0.1.0 wrote them."""
    for year, name in ((2001, "old"), (2003, "new"), (2002, "middle")):
        done, begun = create_run(tmp_path / name, "x", Recipe()), started(tmp_path / f"{name}-begun", None)
        for file in (finish(done).model / "model.safetensors", begun.recipe):
            when = datetime.datetime(year, 5, 1, tzinfo=datetime.UTC).timestamp()
            os.utime(file, (when, when))
    assert latest_run(tmp_path) == tmp_path / "new"
    assert [run.path.name for run in unfinished_runs(tmp_path)] == ["new-begun", "middle-begun", "old-begun"]
    (tmp_path / "middle-begun" / "environment.json").write_text("{torn", encoding="utf-8")
    assert len(unfinished_runs(tmp_path)) == 3


def test_unfinished_runs_come_by_their_start_and_nothing_else_counts(tmp_path: Path):
    assert unfinished_runs(tmp_path / "nowhere") == ()
    for name, at in (("b", "2026-03-01"), ("a", "2026-04-01"), ("c", "2026-02-01")):
        started(tmp_path / name, f"{at}T00:00:00.000+00:00")
    finish(started(tmp_path / "done", "2026-08-01T00:00:00.000+00:00"))
    create_run(tmp_path / "killed before it began", "tiles", Recipe())
    (tmp_path / "stages").mkdir()
    (tmp_path / "model folder").mkdir()
    (tmp_path / "model folder" / "recipe.yaml").write_text("", encoding="utf-8")
    assert [run.path.name for run in unfinished_runs(tmp_path)] == ["a", "b", "c"]


def test_a_discarded_run_leaves_no_folder_unless_someone_else_put_a_file_there(tmp_path: Path):
    for name, other in (("empty", ()), ("shared", ("note.txt",))):
        run = started(tmp_path / name, "2026-03-01T00:00:00.000+00:00")
        for file in other:
            (run.path / file).write_text("mine", encoding="utf-8")
        assert not run.has_results
        run.discard()
        assert [path.name for path in run.path.glob("*")] == list(other)
        assert run.path.exists() == bool(other)


def test_opening_another_folder_names_the_latest(tmp_path: Path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError) as caught:
        open_run(tmp_path / "other")
    assert "not a run folder" in caught.value.problem and "recipe.yaml" in caught.value.problem
    assert caught.value.place == str(tmp_path / "other") and caught.value.remedy == "flawmap train DATA first"
    run = finish(create_run(tmp_path / "my run", "tiles", Recipe()))
    with pytest.raises(UserError) as caught:
        open_run(tmp_path / "other")
    assert caught.value.remedy == f"flawmap train DATA first, or use '{run.path}'"
    assert open_run(run.path).path == run.path
    (tmp_path / "line.onnx").touch()
    with pytest.raises(UserError, match="this is a file, not a run folder"):
        open_run(tmp_path / "line.onnx")


def test_a_run_is_finished_when_its_model_is_complete(tmp_path: Path):
    run = create_run(tmp_path / "r", "tiles", Recipe())
    assert not run.is_finished
    run.model.mkdir()
    (run.model / "model.safetensors").write_bytes(b"")
    assert not run.is_finished
    (run.model / "config.json").write_text("{}", encoding="utf-8")  # written last
    assert run.is_finished


def test_stages_are_shared_beside_the_runs_by_their_key(tmp_path: Path):
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    key = "0123456789abcdef" * 4
    assert one.shared_stage("pretrain", key) == two.shared_stage("pretrain", key)
    assert one.shared_stage("pretrain", key) == tmp_path / "stages" / "pretrain-0123456789abcdef.safetensors"
    assert one.stage_output("pretrain") != two.stage_output("pretrain")
    assert one.checkpoint("pretrain").parent == one.path / "checkpoints"


# ---- what it records


def test_environment_is_json(tmp_path: Path):
    run = create_run(tmp_path / "r", "tiles", Recipe())
    run.write_environment({"python": "3.12", "seed": 3, "torch": None})
    text = (run.path / "environment.json").read_text(encoding="utf-8")
    assert json.loads(text) == run.read_environment() == {"python": "3.12", "seed": 3, "torch": None}
    assert RunFolder(tmp_path / "another").read_environment() == {}
    run.environment.write_text("[]", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        run.read_environment()
    assert caught.value.place == str(run.environment)


def test_the_data_manifest_has_every_image_with_hash_and_side(tmp_path: Path):
    run = create_run(tmp_path / "r", "tiles", Recipe())
    splits = ("train", "held_out")
    images = [ManifestRow(f"good/ä, {i}.png", f"{i:064x}", splits[i], 30 + i, 20 + i, "p", f"P{i}") for i in range(2)]
    images[1] = replace(images[1], product="screw", camera="left")
    write_manifest(run.manifest, images)
    assert read_manifest(run.manifest) == tuple(images)
    assert read_manifest(tmp_path / "missing.csv") == ()
    with (run.path / "data_manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "path": "good/ä, 0.png",
            "sha256": f"{0:064x}",
            "split": "train",
            "width": "30",
            "height": "20",
            "pixels_sha256": "p",
            "group": "P0",
            "product": "",
            "camera": "",
        },
        {
            "path": "good/ä, 1.png",
            "sha256": f"{1:064x}",
            "split": "held_out",
            "width": "31",
            "height": "21",
            "pixels_sha256": "p",
            "group": "P1",
            "product": "screw",
            "camera": "left",
        },
    ]


def test_a_data_manifest_of_an_earlier_version_names_no_groups(tmp_path: Path):
    path = tmp_path / "data_manifest.csv"
    path.write_text('"path","sha256","split","width","height","pixels_sha256"\n"a.png","0f","train","3","2","1e"\n')
    assert read_manifest(path) == (ManifestRow("a.png", "0f", "train", 3, 2, "1e", ""),)


# ---- log


def records(path: Path) -> list[tuple[str, int]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(record["stage"], record["step"]) for record in map(json.loads, lines)]


def test_the_log_forgets_what_a_resumed_stage_will_write_again(tmp_path: Path):
    log = LogFile(tmp_path / "log.jsonl")
    log.forget_after("pretrain", 0)  # nothing to forget
    assert not (tmp_path / "log.jsonl").exists()
    for stage, steps in (("pretrain", 3), ("finetune", 4)):
        for step in range(steps):
            log.write({"stage": stage, "step": step, "loss": 0.5})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "finetune", "st')  # torn by a crash
    log.forget_after("finetune", 2)
    kept = [("pretrain", 0), ("pretrain", 1), ("pretrain", 2), ("finetune", 0), ("finetune", 1)]
    assert records(tmp_path / "log.jsonl") == kept
    log.write({"stage": "finetune", "step": 2})
    assert records(tmp_path / "log.jsonl") == [*kept, ("finetune", 2)]
    log.forget_after("pretrain", 0)
    assert records(tmp_path / "log.jsonl") == [("finetune", 0), ("finetune", 1), ("finetune", 2)]


def test_the_log_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = LogFile(tmp_path / "log.jsonl")
    for step in range(3):
        log.write({"stage": "pretrain", "step": step})
    before = (tmp_path / "log.jsonl").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        log.forget_after("pretrain", 1)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_the_last_record_of_a_stage(tmp_path: Path):
    log = LogFile(tmp_path / "log.jsonl")
    assert log.last("pretrain") == {}
    for record in (
        {"stage": "pretrain", "step": 0},
        {"stage": "pretrain", "step": 1},
        {"stage": "finetune", "step": 0},
    ):
        log.write(record)
    assert log.last("pretrain") == {"stage": "pretrain", "step": 1}
    assert log.last("other") == {}


def test_a_damaged_line_in_the_middle_of_the_log_is_named(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n{"st\n{"step": 2}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 2") as caught:
        LogFile(path).records()
    assert caught.value.place == str(path) and caught.value.remedy


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (90.0, "1m30s"),
        (3599.0, "59m59s"),
        (3600.0, "1h00m"),
        (45000.0, "12h30m"),
    ],
)
def test_durations_in_words(seconds: float, text: str):
    assert duration(seconds) == text

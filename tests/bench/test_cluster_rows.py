"""Rows of ablation tables in a Ray cluster: the files of one process, stages once, and errors for each row."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from assertions import files_and_bytes
from flawmap.cli import main
from flawmap.errors import UserError
from flawmap.reproducibility import file_sha256
from flawmap.runs.run_folder import RunFolder, latest_run
from flawmap_bench.boards.ablation_tables import AblationRow, AblationTable
from flawmap_bench.boards.ablations import AblationOrder, planned_work, read_result, run_ablations, run_path
from flawmap_bench.boards.cluster_rows import Row, put_in_folder, run_row, stage_1_of, without_tensors_of_stages
from images import write_category
from tiny_detector import write_tiny_recipe
from two_ray_nodes import flawmap_says, skip_without_ray

SIMULATORS = AblationTable(
    "simulators",
    "Simulator",
    (
        AblationRow("FPI", ("finetune.simulation.simulator=fpi",)),
        AblationRow("ours"),
        AblationRow("without weights", ("model.weights=missing.safetensors",)),
    ),
)
TIMES = {"train_seconds", "seconds_per_image"}


@pytest.fixture
def order(tmp_path: Path) -> AblationOrder:
    data, base = write_category(tmp_path / "tile"), write_tiny_recipe(tmp_path / "base.yaml")
    return AblationOrder(str(data), str(base), (), (SIMULATORS,), (0,), tmp_path / "here", "cpu")


def results(order: AblationOrder) -> list[dict | None]:
    found = [read_result(order.folder, work) for work in planned_work(order)]
    return [result and {key: value for key, value in result.items() if key not in TIMES} for result in found]


def test_a_run_arrives_with_its_stages_in_place_of_an_unfinished_one(tmp_path):
    run = RunFolder(tmp_path / "node" / "runs" / "abc")
    key, tensors = "9" * 64, run.stage_output("memory")
    (tensors.parent).mkdir(parents=True)
    tensors.write_bytes(b"tensors")
    about = json.dumps({"key": key, "sha256": file_sha256(tensors)})
    tensors.with_suffix(".json").write_text(about)
    run.trained.mkdir()
    (run.trained / "config.json").write_text("{}")
    (run.path / "ablation.json").write_text("{}")
    with tarfile.open(fileobj=io.BytesIO(without_tensors_of_stages(run.path))) as archive:
        assert "checkpoints/memory.safetensors" not in archive.getnames()

    final = tmp_path / "out" / "runs" / "abc"
    shared = RunFolder(final).shared_stage("memory", key)
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"tensors")
    shared.with_suffix(".json").write_text(about)
    final.mkdir()
    (final / "left.txt").write_text("of an interrupted run")
    put_in_folder(without_tensors_of_stages(run.path), final)
    assert files_and_bytes(final) == files_and_bytes(run.path)
    assert latest_run(final.parent) == final
    assert {path.name for path in final.parent.iterdir()} <= {"abc", ".abc.lock", "stages", "latest.txt"}


def test_a_node_with_other_data_says_so(order: AblationOrder, tmp_path: Path):
    work = replace(planned_work(order)[0], content="other")
    with pytest.raises(UserError, match="other data") as caught:
        run_row(Row(order, work), tmp_path / "node", RunFolder)
    assert caught.value.place == order.location and not (tmp_path / "node").exists()


def test_rows_that_differ_in_stage_2_alone_have_stage_1_in_common(order: AblationOrder):
    def first(*changes: str, seed: int = 0) -> str:
        table = AblationTable("one", "Row", (AblationRow("row", changes),))
        (work,) = planned_work(replace(order, tables=(table,), seeds=(seed,)))
        return stage_1_of(Row(order, work))

    assert first() == first("finetune.simulation.simulator=fpi") == first("finetune.steps=1")
    others = [first("pretrain.steps=1"), first(seed=1), first("model.weights=missing.safetensors")]
    none = [first("pretrain.enabled=false"), first("pretrain.enabled=false", "finetune.steps=1")]
    assert len({first(), *others, *none}) == 6


def test_a_time_limit_is_refused_in_a_cluster(order: AblationOrder, capsys: pytest.CaptureFixture[str]):
    words = ["benchmark", "ablations", order.location, "--base", order.base, "--table", "simulators"]
    assert main([*words, "--output", str(order.folder), "--cluster", "auto", "--minutes", "5"]) == 2
    assert "--minutes has no effect" in capsys.readouterr().err and not order.folder.exists()


@pytest.mark.slow
def test_a_local_cluster_writes_what_one_process_writes(order: AblationOrder, tmp_path: Path):
    skip_without_ray()
    there = replace(order, folder=tmp_path / "there")
    table = tmp_path / "simulators.yaml"
    rows = [{"name": row.name, "set": dict(change.split("=") for change in row.changes)} for row in SIMULATORS.rows]
    table.write_text(json.dumps({"title": SIMULATORS.title, "rows": rows}), encoding="utf-8")
    words = ["benchmark", "ablations", "tile", "--base", "base.yaml", "--table", "simulators.yaml", "--device", "cpu"]
    words += ["--output", "there", "--cluster", "local"]

    run_ablations(order, "")
    assert "3/3 runs" in flawmap_says(*words, cwd=tmp_path).stderr
    assert results(there) == results(order)
    assert [result is None for result in results(there)] == [False, False, True]
    here, away = (
        json.loads((of.folder / "scoreboard.json").read_text(encoding="utf-8"))["tables"][0]["rows"]
        for of in (order, there)
    )
    for row, other in zip(here, away, strict=True):
        assert {key: row[key] for key in row if "seconds" not in key} == {
            key: other[key] for key in other if "seconds" not in key
        }

    def names(of: AblationOrder) -> set[str]:
        return {name for name in files_and_bytes(of.folder) if not name.endswith(".lock")}

    assert names(there) == names(order)
    logs = [(run_path(there.folder, work) / "log.jsonl") for work in planned_work(there)]
    pretrained = [log for log in logs if log.is_file() and '"pretrain"' in log.read_text(encoding="utf-8")]
    assert len(pretrained) == 1  # the others took its stage

    # interrupted before its result: the same command takes the stages on the disk and trains nothing again
    work = planned_work(there)[0]
    (run_path(there.folder, work) / "ablation.json").unlink()
    flawmap_says(*words, cwd=tmp_path)
    assert results(there) == results(order)
    assert not (run_path(there.folder, work) / "log.jsonl").is_file()

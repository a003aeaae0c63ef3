"""Ablations with a tiny detector: shared stages, resuming, and a board that grows."""

import json
import shutil
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.errors import UserError
from flawmap_bench.boards import ablations
from flawmap_bench.boards.ablation_tables import CPU_BASE, AblationRow, AblationTable
from flawmap_bench.boards.ablations import AblationOrder, Work, about_order, planned_work, read_result, run_ablations
from flawmap_bench.boards.data_content import content_of_location
from flawmap_bench.boards.published import Published
from images import write_category
from tiny_detector import tiny_recipe, write_tiny_recipe

RATIOS = AblationTable(
    "ratios",
    "Ratio",
    (AblationRow("ours", (), Published(image=98.3)), AblationRow("r = 0.5", ("pretrain.masking.drop_ratio=0.5",))),
)
SIMULATORS = AblationTable(
    "simulators",
    "Simulator",
    (AblationRow("FPI", ("finetune.simulation.simulator=fpi",)), AblationRow("ours, again")),
)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> AblationOrder:
    root = tmp_path_factory.mktemp("ablations")
    data, base = write_category(root / "tile"), write_tiny_recipe(root / "base.yaml")
    return AblationOrder(str(data), str(base), (), (RATIOS, SIMULATORS), (0,), root / "out", "cpu")


def runs_of(order: AblationOrder) -> set[str]:
    return {path.name for path in (order.folder / "runs").iterdir() if (path / "recipe.yaml").is_file()}


def test_rows_that_come_out_equal_are_one_piece_of_work(order: AblationOrder):
    work = planned_work(order)
    assert [item.names for item in work] == [("ours", "ours, again"), ("r = 0.5",), ("FPI",)]
    two_seeds = planned_work(AblationOrder(order.location, order.base, (), order.tables, (0, 7), order.folder))
    assert [item.recipe.seed for item in two_seeds] == [0, 0, 0, 7, 7, 7]  # a whole board of one seed comes first
    assert len({item.key for item in two_seeds}) == 6


def test_a_run_is_named_by_recipe_data_and_device():
    recipe = tiny_recipe()
    work, again = Work(recipe, "a", "cpu"), Work(recipe, "a", "cpu", ("a row",))
    others = (Work(recipe, "b", "cpu"), Work(recipe, "a", "auto"), Work(tiny_recipe("seed=9"), "a", "cpu"))
    assert len({work.key, *(other.key for other in others)}) == 4 and again.key == work.key


def test_other_labels_or_masks_are_other_data(order: AblationOrder, tmp_path: Path):
    """What was measured on one location is not shown for another, nor after a mask was corrected."""
    location = Path(shutil.copytree(order.location, tmp_path / "copy"))
    settings = tiny_recipe().data
    before = content_of_location(str(location), settings)
    assert before == content_of_location(order.location, settings)  # the same files elsewhere
    mask = next((location / "ground_truth").rglob("*.png"))
    mask.write_bytes(mask.read_bytes() + b" ")
    content_of_location.cache_clear()
    corrected = content_of_location(str(location), settings)
    next((location / "test" / "good").iterdir()).unlink()
    content_of_location.cache_clear()
    assert len({before, corrected, content_of_location(str(location), settings)}) == 3


def test_the_base_is_named_as_it_is_typed(order: AblationOrder):
    cpu = AblationOrder(order.location, str(CPU_BASE), ("seed=1",), order.tables, (0,), order.folder, "cpu")
    assert about_order(cpu, "")["base recipe"] == "cpu seed=1"
    assert about_order(order, "")["base recipe"] == order.base


def test_an_impossible_row_is_an_error_before_anything_runs(order: AblationOrder):
    wrong = AblationTable("x", "x", (AblationRow("a", ("pretrain.masking.ratio=0.5",)),))
    with pytest.raises(UserError, match=r"unknown key pretrain\.masking\.ratio"):
        run_ablations(AblationOrder(order.location, order.base, (), (wrong,), (0,), order.folder / "no"), "")
    assert not (order.folder / "no").exists()


def test_what_is_missing_runs_and_equal_stages_are_shared(
    order: AblationOrder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = ablations.train_run

    def killed_at_the_third(*arguments: object) -> object:
        if len(runs_of(order)) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # pyright: ignore[reportArgumentType]

    (order.folder / "runs" / planned_work(order)[0].key).mkdir(parents=True)  # killed before it wrote anything
    monkeypatch.setattr(ablations, "train_run", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_ablations(order, "flawmap benchmark ablations")
    begun = json.loads((order.folder / "scoreboard.json").read_text(encoding="utf-8"))
    assert begun["tables"][1]["rows"][0]["image_auroc"] == {}  # FPI is not there yet, and the board says so
    before = {name: (order.folder / "runs" / name / "ablation.json").read_bytes() for name in runs_of(order)}

    monkeypatch.setattr(ablations, "train_run", real)
    capsys.readouterr()
    board = run_ablations(order, "flawmap benchmark ablations")
    printed = capsys.readouterr().err
    assert "3 runs, 2 done, 1 to do" in printed
    assert "reused, the same as in an earlier run" in printed  # FPI's stage 1 is the reference's
    assert runs_of(order) == {item.key for item in planned_work(order)}
    assert all((order.folder / "runs" / name / "ablation.json").read_bytes() == old for name, old in before.items())
    text = board.read_text(encoding="utf-8")
    assert text.count("(1 seed)") == 8 and "98.3" in text
    ours, again = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ours")]
    assert ours == again


def test_a_result_is_what_evaluation_says(order: AblationOrder):
    run_ablations(order, "flawmap benchmark ablations")
    result = read_result(order.folder, planned_work(order)[0])
    assert result is not None
    assert (result["n_good"], result["n_anomalous"], result["seed"]) == (6, 12, 0)
    assert 0 <= result["image_auroc"] <= 1 and set(result["by_kind"]) == {"hole", "stain"}


def test_nothing_is_left_to_do_the_next_time(order: AblationOrder, capsys: pytest.CaptureFixture[str]):
    run_ablations(order, "flawmap benchmark ablations")
    words = ["benchmark", "ablations", order.location, "--base", order.base, "--output", str(order.folder)]
    table = order.folder.parent / "mine.yaml"
    table.write_text("title: Ratio\nrows:\n  - name: ours\n", encoding="utf-8")
    assert main([*words, "--table", str(table), "--device", "cpu", "--json"]) == 0
    printed = capsys.readouterr()
    assert "1 runs, 1 done, 0 to do" in printed.err
    board = json.loads(printed.out)
    assert board["tables"][0]["rows"][0]["image_auroc_summary"]["n"] == 1
    assert board["about"]["data"] == order.location


def test_a_time_limit_starts_nothing_that_would_not_finish(order: AblationOrder, monkeypatch: pytest.MonkeyPatch):
    done: list[object] = []
    monkeypatch.setattr(ablations, "train_and_evaluate", lambda order, item: done.append(item))
    clock = iter(range(0, 10_000, 60))  # each look at the clock is a minute later
    monkeypatch.setattr(ablations.time, "monotonic", lambda: float(next(clock)))
    limited = AblationOrder(
        order.location, order.base, (), order.tables, (1, 2), order.folder, "cpu", limit_seconds=200.0
    )
    run_ablations(limited, "")
    assert len(done) == 1  # the first always runs; another minute would have been too much


@pytest.mark.parametrize(("seeds", "problem"), [("0,x", "must be whole numbers"), ("-1", "must not be negative")])
def test_bad_seeds_are_named(order: AblationOrder, capsys: pytest.CaptureFixture[str], seeds: str, problem: str):
    assert main(["benchmark", "ablations", order.location, f"--seeds={seeds}"]) == 2
    error = capsys.readouterr().err
    assert problem in error and "--seeds 0,1,2" in error and "Traceback" not in error


def test_a_row_that_collapses_says_so_and_costs_no_other(order: AblationOrder, monkeypatch: pytest.MonkeyPatch):
    done: list[object] = []

    def collapses_with_fpi(_: object, item: ablations.Work) -> None:
        done.append(item)
        if item.recipe.finetune.simulation.simulator == "fpi":
            raise UserError("pre-training has collapsed", "stage pretrain", "another objective")

    monkeypatch.setattr(ablations, "train_and_evaluate", collapses_with_fpi)
    again = AblationOrder(order.location, order.base, (), (SIMULATORS,), (5,), order.folder, "cpu")
    text = run_ablations(again, "").read_text(encoding="utf-8")
    assert len(done) == 2
    assert "| FPI (seed 5: pre-training has collapsed) | – |" in text

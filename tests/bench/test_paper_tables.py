"""The paper's tables: what is published adds up, what runs is resumable, and the board sets both side by side."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flawmap.cli import main
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap_bench.boards import ablations, paper, paper_methods
from flawmap_bench.boards.paper import PaperOrder, planned_classes, run_paper, tables_to_run
from flawmap_bench.boards.paper_board import NOT_RUN
from flawmap_bench.boards.paper_methods import methods_of_table
from flawmap_bench.boards.peers import PeersOrder
from flawmap_bench.boards.published import MEAN, OURS, TABLE_1, TABLE_2
from flawmap_bench.methods import BASELINES
from flawmap_bench.protocols import MVTEC_AD, class_overrides
from images import striped, write_image
from tiny_detector import write_tiny_recipe

# ---- what is published


def test_published_means_are_those_of_the_classes_but_for_two_that_the_paper_prints_so():
    odd = {("DifferNet", "image"): 0.2, ("SPADE", "pixel"): 0.5}
    checked = 0
    for method, by_class in TABLE_1.items():
        for metric in ("image", "pixel"):
            values = [getattr(by_class[name], metric) for name in MVTEC_AD.classes]
            if None not in values:
                difference = getattr(by_class[MEAN], metric) - np.mean(values)
                assert abs(difference - odd.get((method, metric), 0.0)) < 0.08, (method, metric)
                checked += 1
    assert checked == 13


def test_published_numbers_that_the_issue_is_about():
    assert TABLE_1[OURS][MEAN].numbers() == {"image": 98.3, "pixel": 98.2}
    assert {sex: number.pixel for sex, number in TABLE_2[OURS].items()} == {"M": 70.9, "F": 70.5}
    assert set(TABLE_1) == {
        "CutPaste (3-way)",
        "NSA",
        "DRAEM",
        "PaDiM",
        "DifferNet",
        "InTra",
        "SPADE",
        "RIAD",
        OURS,
    }


def test_tables_three_and_four_are_the_ablations_that_the_paper_prints():
    names = {number: [row.name for table in tables_to_run(number) for row in table.rows] for number in (3, 4)}
    assert names[3][:3] == ["DINO", "iBOT", "MSN"] and len(names[3]) == 4 + 4
    assert len(names[4]) == 3 + 3 and "r = 0.15" in names[4]


def test_every_other_method_of_the_paper_is_one_that_flawmap_can_run():
    assert set(methods_of_table(1)) | set(methods_of_table(2)) == set(BASELINES)
    assert methods_of_table(1)["cutpaste"] == "CutPaste (3-way)" and methods_of_table(3) == {}


# ---- tables 1, 3 and 4, with results made up


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PaperOrder:
    """Two classes instead of 15; a run's result follows from its class and seed."""
    monkeypatch.setattr(paper, "MVTEC_AD", replace(MVTEC_AD, classes=("tile", "grid")))
    for name in ("tile", "grid"):
        (tmp_path / "mvtec" / name).mkdir(parents=True)

    def made_up(of_class: ablations.AblationOrder, item: ablations.Work) -> None:
        base = 0.9 if of_class.location.endswith("tile") else 0.8
        value = base + item.recipe.seed / 100
        path = ablations.run_path(of_class.folder, item)
        path.mkdir(parents=True)
        content = {"image_auroc": value, "pixel_auroc": value - 0.1, "train_seconds": 60.0}
        (path / "ablation.json").write_text(json.dumps(content))

    monkeypatch.setattr(ablations, "train_and_evaluate", made_up)
    monkeypatch.setattr(ablations, "content_of_location", lambda location, _: location)  # the folders are empty
    return PaperOrder(1, str(tmp_path / "mvtec"), None, (), (0, 1), tmp_path / "out", "cpu")


def test_table_one_runs_each_class_with_the_papers_recipe(order: PaperOrder):
    classes = planned_classes(order)
    assert {name: of_class.base for name, of_class in classes.items()} == {"tile": "paper", "grid": "paper"}
    assert [of_class.location for of_class in classes.values()] == [f"{order.root}/{name}" for name in classes]
    board = run_paper(order, "flawmap benchmark paper").read_text(encoding="utf-8")
    # (90 + 80) / 2 with seed 0, (91 + 81) / 2 with seed 1
    assert f"| {OURS} | 85.5 ± 0.5 (2 seeds) | 75.5 ± 0.5 (2 seeds) | 98.3 | 98.2 |" in board
    assert f"| DRAEM ({NOT_RUN}) | – | – | 98.0 | 97.3 |" in board
    per_class = (order.folder / "table1" / "per_class.md").read_text(encoding="utf-8")
    assert "| method | tile | grid | mean |" in per_class
    assert "| Ours, measured here | 90.5 | 80.5 | 85.5 |" in per_class
    assert "| Ours, *published* | 100.0 |" in per_class and "| PaDiM, *published* | – |" in per_class


def test_a_class_is_turned_only_as_a_good_part_may_be():
    """Textures are flipped, parts that lie at any angle turned, others neither; what the user sets comes last."""
    found = {name: load_recipe("paper", class_overrides(name)).finetune for name in MVTEC_AD.classes}
    flipped = {name for name, recipe in found.items() if recipe.augmentation.horizontal_flip}
    assert flipped == {"carpet", "grid", "leather", "tile", "wood"}
    assert flipped == {name for name, recipe in found.items() if recipe.augmentation.vertical_flip}
    turned = {name: recipe.augmentation.max_rotation_deg for name, recipe in found.items()}
    assert {name for name, angle in turned.items() if angle} == {"bottle", "hazelnut", "metal_nut", "screw"}
    assert {recipe.simulation.nsa_class for recipe in found.values()} == set(MVTEC_AD.classes)
    assert class_overrides("parts") == ()
    assert not load_recipe("paper_chest_xray").finetune.augmentation.horizontal_flip


@pytest.mark.slow
def test_finished_classes_are_not_run_again_and_tables_share_them(
    order: PaperOrder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run_paper(order, "")
    made_up, ran = ablations.train_and_evaluate, []

    def counted(of_class: ablations.AblationOrder, item: ablations.Work) -> None:
        ran.append(item.names)
        made_up(of_class, item)

    monkeypatch.setattr(ablations, "train_and_evaluate", counted)
    run_paper(order, "")
    assert ran == []
    run_paper(replace(order, table=4), "")
    reference = {name for names in ran for name in names if "ours" in name}
    assert len(ran) == 2 * 2 * 4 and not reference  # 2 classes, 2 seeds; none, random, r = 0.15 and r = 0.5 are new
    assert "2 runs, 2 done, 0 to do" in capsys.readouterr().err


def test_a_time_limit_leaves_whole_classes_for_the_next_call(order: PaperOrder, monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr(paper.time, "monotonic", lambda: float(next(clock)))
    board = run_paper(replace(order, limit_seconds=150.0), "").read_text(encoding="utf-8")
    assert re.search(rf"\| {OURS} \(\d of 4 runs done\) \| – \| – \| 98.3 \| 98.2 \|", board)
    assert (order.folder / "tile").is_dir() and not (order.folder / "grid").exists()


def test_a_class_that_is_missing_stops_before_anything_runs(order: PaperOrder):
    (Path(order.root) / "grid").rmdir()
    with pytest.raises(UserError, match="1 of 2 classes of MVTec AD are missing: grid"):
        run_paper(order, "")
    assert not order.folder.exists()


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[PeersOrder]:
    """The other methods' orders; PaDiM gets 70 % on tile and 60 % on grid, and one more with each seed; RIAD fails."""
    found: list[PeersOrder] = []

    def made_up(of_class: PeersOrder, command: str) -> Path:
        found.append(of_class)
        base = 0.7 if of_class.location.endswith("tile") else 0.6

        def measured(seed: int) -> dict:
            value = base + seed / 100
            image, pixel = {"auroc": {"value": value}}, {"auroc": {"value": value - 0.2}}
            return {"image": image, "pixel": pixel, "by_stratum": {}, "train_seconds": 5.0}

        done = {name: of_class.seeds if name == "padim" else () for name in of_class.methods}
        rows = [{"method": name, "measured": {str(seed): measured(seed) for seed in done[name]}} for name in done]
        of_class.folder.mkdir(parents=True)
        (of_class.folder / "scoreboard.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
        return of_class.folder / "scoreboard.md"

    monkeypatch.setattr(paper_methods, "run_peers", made_up)
    return found


def test_other_methods_are_run_on_each_class_where_they_are_asked_for(order: PaperOrder, boards: list[PeersOrder]):
    asked = replace(order, methods=("padim", "riad"), minutes_per_method=2.0, overrides=("data.image_size_px=32",))
    board = run_paper(asked, "").read_text(encoding="utf-8")
    assert [of_class.location for of_class in boards] == [f"{order.root}/{name}" for name in ("tile", "grid")]
    assert {of_class.folder for of_class in boards} == {order.folder / name / "methods" for name in ("tile", "grid")}
    assert {(b.methods, b.seeds, b.minutes_per_method) for b in boards} == {(("padim", "riad"), (0, 1), 2.0)}
    of_nsa = "finetune.simulation.nsa_class="
    assert [b.overrides for b in boards] == [(f"{of_nsa}{name}",) for name in ("tile", "grid")]
    assert "| PaDiM | 65.5 ± 0.5 (2 seeds) | 45.5 ± 0.5 (2 seeds) | 97.9 | 97.5 |" in board
    assert "| RIAD (0 of 4 runs done) | – | – | – | 94.2 |" in board and f"| NSA ({NOT_RUN}) | – | – |" in board
    assert "other methods: 224 px, 2 min of training each on each class" in board
    per_class = (order.folder / "table1" / "per_class.md").read_text(encoding="utf-8")
    assert "| PaDiM, measured here | 70.5 | 60.5 | 65.5 |" in per_class


def test_other_methods_read_the_data_as_the_base_recipe_does(
    order: PaperOrder, boards: list[PeersOrder], tmp_path: Path
):
    base = tmp_path / "base.yaml"
    base.write_text("base: paper\ndata:\n  train_subset: 3\n", encoding="utf-8")
    tile, _ = planned_classes(replace(order, base=str(base), overrides=("data.test_subset=2",))).values()
    paper_methods.run_methods(1, tile, ("padim",), 32, 1.0, "")
    assert boards[0].overrides[:2] == ("data.train_subset=3", "data.test_subset=2")


def test_a_method_of_both_tables_is_found_under_the_name_that_its_table_prints(
    order: PaperOrder, boards: list[PeersOrder]
):
    tile, grid = planned_classes(order).values()
    for table, of_class, printed in ((1, tile, "CutPaste (3-way)"), (2, grid, "CutPaste")):
        assert set(paper_methods.run_methods(table, of_class, ("cutpaste",), 32, 1.0, "")) == {printed}


@pytest.mark.parametrize(
    ("table", "name", "remedy"),
    [(1, "fpi", "choose from cutpaste, nsa, "), (2, "draem", "fpi, pii"), (3, "nsa", "tables 1 and 2")],
)
def test_a_method_that_is_not_in_the_table_is_refused(order: PaperOrder, table: int, name: str, remedy: str):
    with pytest.raises(UserError, match=f"table {table} has no method '{name}'") as caught:
        run_paper(replace(order, table=table, methods=(name,)), "")
    assert remedy in caught.value.remedy and not order.folder.exists()


# ---- table 2


def test_table_two_has_five_seeds_and_one_model_for_each_sex_where_the_lists_are_by_sex(tmp_path: Path):
    whole = planned_classes(PaperOrder(2, "nih", None, (), None, tmp_path))
    (only,) = whole.values()
    assert (only.location, only.base, only.seeds) == ("nih", "paper_chest_xray", (0, 1, 2, 3, 4))
    by_sex = planned_classes(PaperOrder(2, "nih:list=adult_pa", None, (), (3,), tmp_path))
    assert {name: of_sex.location for name, of_sex in by_sex.items()} == {
        "male": "nih:list=adult_pa,sex=M",
        "female": "nih:list=adult_pa,sex=F",
    }
    assert len({of_sex.folder for of_sex in by_sex.values()}) == 2


def write_x_rays(root: Path) -> Path:
    """Men and women: 24 normal images to train, and to test four normal and four boxed ones."""
    rows = ["image,split,label,sex,boxes"]
    for number in range(32):
        split, anomalous = ("test", number % 2) if number >= 24 else ("train", 0)
        pixels = striped(number)
        if anomalous:
            pixels[10:30, 10:30] = 0
        write_image(root / f"{number:02d}.png", pixels)
        box = '"[[10,10,20,20]]"' if anomalous else ""
        rows.append(f"{number:02d}.png,{split},{anomalous},{'MF'[number // 2 % 2]},{box}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def test_table_two_is_measured_by_sex(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write_x_rays(tmp_path / "nih")
    base = write_tiny_recipe(tmp_path / "tiny.yaml", "pretrain.enabled=false")
    words = ["benchmark", "paper", "--table", "2", "--data", str(data), "--base", str(base), "--seeds", "0"]
    assert main([*words, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| Ours")]
    assert [line[0].partition(" (")[0] for line in lines] == ["| Ours, male", "| Ours, female"]
    (result,) = (tmp_path / "out" / "all" / "runs").rglob("ablation.json")
    strata = json.loads(result.read_text())["by_stratum"]
    for line, sex, published in zip(lines, "MF", ("70.9", "70.5"), strict=True):
        pixel = strata[f"sex={sex}"]["pixel_auroc"]
        assert line[2] == f"{100 * pixel:.1f} (1 seed)" and line[4] == f"{published} |"
    assert strata["sex=M"]["pixel_auroc"] != strata["sex=F"]["pixel_auroc"]


# ---- the command


@pytest.mark.parametrize("tables", [[], ["--table", "5"], ["--table", "1", "--table", "2"]])
def test_exactly_one_of_the_papers_tables_is_asked_for(tables: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", "paper", "--data", "x", *tables]) == 2
    error = capsys.readouterr().err
    assert "must be one of 1, 2, 3, 4" in error and "remedy: for example --table 1" in error


@pytest.mark.parametrize("suite", ["paper", "ablations"])
def test_without_data_the_remedy_names_it(suite: str, capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", suite]) == 2
    error = capsys.readouterr().err
    assert suite in error and "--data ROOT" in error

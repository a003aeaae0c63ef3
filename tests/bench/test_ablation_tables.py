"""Ablation tables: those that come with flawmap-bench, and the errors for mistakes in your own."""

from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap_bench.boards.ablation_tables import (
    CPU_BASE,
    AblationRow,
    AblationTable,
    read_table,
    read_tables,
    refuse_overrides_without_effect,
    row_recipe,
    tables_with_effect,
    usable_tables,
)
from flawmap_bench.boards.published import Published

TABLE = """
title: Ratio
rows:
  - name: little
    set: {pretrain.masking.drop_ratio: 0.15, finetune.simulation.blend: poisson, detect.sizes_px: [112, 140]}
    published: {image: 98.0, pixel: 97.9}
  - name: reference
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_table(path)
    return caught.value


def test_a_table_says_what_its_rows_change(tmp_path: Path):
    table = read_table(written(tmp_path, TABLE))
    assert (table.key, table.title) == ("mine", "Ratio")
    little, reference = table.rows
    assert (reference.name, reference.changes, reference.published) == ("reference", (), Published())
    assert little.published == Published(98.0, 97.9)
    recipe = load_recipe("paper", little.changes)
    assert recipe.pretrain.masking.drop_ratio == 0.15
    assert recipe.finetune.simulation.blend == "poisson"
    assert recipe.detect.sizes_px == (112, 140)


def test_the_tables_that_come_along_are_valid_and_share_one_reference():
    tables = read_tables(())
    assert {"masking", "ratio", "simulators", "objectives", "clusters", "blending"} <= {table.key for table in tables}
    for table in tables:
        given = (f"{table.needs}=elsewhere",) if table.needs else ()
        reference = load_recipe(CPU_BASE, given)
        recipes = [load_recipe(CPU_BASE, (*given, *row.changes)) for row in table.rows]
        assert recipes.count(reference) == 1, table.title  # each row is compared with the same recipe
        assert len(set(recipes)) == len(recipes), table.title  # and no two rows are the same


def test_the_published_numbers_are_the_papers():
    published = {table.key: {row.name: row.published.numbers() for row in table.rows} for table in read_tables(())}
    assert published["masking"]["none"] == {"image": 95.1, "pixel": 96.2}
    assert published["ratio"]["r = 0.5"] == {"image": 98.0, "pixel": 97.8}
    assert published["simulators"]["FPI"] == {"image": 90.6, "pixel": 92.2}
    assert published["objectives"]["MSN"] == {"image": 97.9, "pixel": 97.8}
    assert published["objectives"]["SwAV, epsilon 0.005"] == {}  # the paper speaks of it, but gives no number


def test_tables_are_found_by_name_and_by_path(tmp_path: Path):
    path = written(tmp_path, TABLE)
    assert [table.key for table in read_tables(["ratio", str(path)])] == ["ratio", "mine"]
    with pytest.raises(UserError) as caught:
        read_tables(["ratios"])
    assert "ratios" in caught.value.problem and caught.value.place == "--table"
    assert "ratio," in caught.value.remedy and "cpu" not in caught.value.remedy


def test_a_table_that_needs_a_setting_waits_for_it():
    tables = read_tables(())
    waiting = [table.key for table in tables if table.needs]
    assert waiting == ["pooling"]
    without, given = load_recipe("quick"), load_recipe("quick", ["data.pretrain_on=elsewhere"])
    assert [table.key for table in tables if table not in usable_tables(tables, without, asked_for=False)] == waiting
    assert usable_tables(tables, given, asked_for=False) == tables
    pooling = read_tables(["pooling"])
    assert usable_tables(pooling, given, asked_for=True) == pooling
    with pytest.raises(UserError) as caught:
        usable_tables(pooling, without, asked_for=True)
    assert "pooling" in caught.value.problem
    assert (caught.value.place, caught.value.remedy) == ("--table", "--set data.pretrain_on=VALUE for all rows")


def test_the_rows_of_pooling_differ_in_the_pool_alone():
    per_class, pooled = (
        load_recipe("quick", ("data.pretrain_on=elsewhere", *row.changes)) for row in read_tables(["pooling"])[0].rows
    )
    assert (per_class.data.pretrain_on, pooled.data.pretrain_on) == (None, "elsewhere")
    assert per_class == load_recipe("quick")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("title: x\nneeds: data.pretrain_in\nrows:\n  - name: a\n", "unknown key data.pretrain_in"),
        ("title: x\n", "an ablation table has a title and a list of rows"),
        ("title: x\nrows: []\n", "an ablation table has a title and a list of rows"),
        ("- a\n- b\n", "expected needs, rows, title"),
        ("title: x\nrows:\n  - name: a\n    sett: {}\n", "unknown key sett"),
        ("title: x\nrows:\n  - set: {}\n", "a row has a name and the settings it changes"),
        ("title: x\nrows:\n  - name: a\n  - name: a\n", "two rows are called 'a'"),
        ("title: x\nrows:\n  - name: a\n    published: {image: 0.98, pixls: 1}\n", "unknown key pixls"),
        (
            "title: x\nrows:\n  - name: a\n    published: {image: 980}\n",
            "published.image is 980, must be an AUROC in %",
        ),
        ("title: [x\n", "the table cannot be read"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, problem: str):
    path = written(tmp_path, text)
    error = mistake(path)
    assert problem in error.problem
    assert str(path) in error.place
    assert error.remedy


@pytest.mark.slow
def test_a_table_of_stage_1_is_not_measured_on_a_base_without_it():
    """Its rows would all be the same training, and its numbers would look like an ablation."""
    shipped = read_tables(())
    measurable, useless = tables_with_effect(shipped, "paper_cpu", ())
    assert set(useless) == {"clusters", "masking", "more_masking", "objectives", "pooling", "ratio"}
    assert [table.key for table in measurable] == [table.key for table in shipped if table.key not in useless]
    assert useless["ratio"].problem == "pretrain.masking.drop_ratio has no effect without pre-training"
    assert useless["ratio"].remedy == "--set pretrain.enabled=true"
    assert tables_with_effect(shipped, "paper_cpu", ["pretrain.enabled=true"]) == (shipped, {})
    assert tables_with_effect(shipped, CPU_BASE, ()) == (shipped, {})


def test_a_row_that_changes_what_the_method_does_not_use_is_refused():
    row = AblationRow("NSA", ("finetune.simulation.simulator=nsa",))
    assert row_recipe("paper_cpu", (), row).finetune.simulation.simulator == "nsa"
    with pytest.raises(UserError) as caught:
        row_recipe("standard", (), row)
    assert caught.value.problem == "finetune.simulation.simulator has no effect on method fused, only on paper"
    assert caught.value.place == "row 'NSA' with the base standard"


def test_a_change_of_all_rows_must_have_an_effect_on_one_of_them():
    with_stage_1 = AblationTable("x", "x", (AblationRow("with", ("pretrain.enabled=true",)),))
    refuse_overrides_without_effect((with_stage_1,), "paper_cpu", ["pretrain.steps=3", "finetune.steps=2"])
    with pytest.raises(UserError) as caught:
        refuse_overrides_without_effect((with_stage_1,), "paper_cpu", ["memory.tokens=100"])
    assert caught.value.place == "--set memory.tokens=100"
    assert caught.value.problem.startswith("memory.tokens has no effect on method paper")

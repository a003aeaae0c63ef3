"""Mean ± standard error beside published numbers."""

import csv
import json
import math
from pathlib import Path

import pytest

from flawmap_bench.boards.published import Published
from flawmap_bench.boards.scoreboard import measured, percent
from flawmap_bench.boards.variants import VariantRow, VariantTable, write_variant_board

TABLES = (
    VariantTable(
        "Ratio",
        (
            VariantRow("r = 0.3", {0: 0.80, 1: 0.90}, {0: 0.7, 1: 0.7}, {0: 10.0, 1: 12.0}, Published(98.3, 98.2)),
            VariantRow("r = 0.5", {0: 0.85}, {}, {0: 11.0}),
            VariantRow("r = 0.7"),
        ),
        "MVTec AD, mean of 15 classes",
    ),
)


def test_mean_and_standard_error_in_closed_form():
    result = measured([1.0, 2.0, 4.0])
    assert result is not None and result.standard_error is not None
    assert result.mean == pytest.approx(7 / 3)
    assert result.standard_error == pytest.approx(math.sqrt((16 / 9 + 1 / 9 + 25 / 9) / 2 / 3))
    assert result.n == 3
    assert measured([]) is None
    alone = measured([0.5])
    assert alone is not None and alone.standard_error is None


def test_cells_for_people():
    assert percent(measured([0.80, 0.90])) == "85.0 ± 5.0 (2 seeds)"
    assert percent(measured([0.8125])) == "81.2 (1 seed)"
    assert percent(None) == "–"


def test_a_table_without_published_numbers_has_no_columns_for_them(tmp_path: Path):
    own = VariantTable("Own", (VariantRow("a", {0: 0.8}, {0: 0.7}), VariantRow("b")), "MVTec AD, mean of 15 classes")
    lines = write_variant_board(tmp_path, (own,), {}).read_text(encoding="utf-8").splitlines()
    assert "| variant | image AUROC, measured | pixel AUROC, measured |" in lines
    assert "| a | 80.0 (1 seed) | 70.0 (1 seed) |" in lines and "| b | not run yet | not run yet |" in lines


def test_markdown_keeps_measured_and_published_apart(tmp_path: Path):
    lines = write_variant_board(tmp_path, TABLES, {"data": "mtd"}).read_text(encoding="utf-8").splitlines()
    assert "- data: mtd" in lines
    header = next(line for line in lines if line.startswith("| variant"))
    assert header.count("measured") == 2 and header.count("*published*") == 2
    assert "| r = 0.3 | 85.0 ± 5.0 (2 seeds) | 70.0 ± 0.0 (2 seeds) | 98.3 | 98.2 |" in lines
    assert "| r = 0.5 | 85.0 (1 seed) | – | – | – |" in lines
    assert "| r = 0.7 | not run yet | not run yet | – | – |" in lines
    assert header.count("*published* of MVTec AD, mean of 15 classes") == 2  # mtd is what was measured


def test_all_files_say_the_same(tmp_path: Path):
    write_variant_board(tmp_path, TABLES, {"data": "mtd"})
    content = json.loads((tmp_path / "scoreboard.json").read_text(encoding="utf-8"))
    first = content["tables"][0]["rows"][0]
    assert first["published"] == {"image": 98.3, "pixel": 98.2}
    assert first["image_auroc"] == {"0": 0.80, "1": 0.90}
    assert first["image_auroc_summary"]["mean"] == pytest.approx(0.85)
    assert content["tables"][0]["rows"][2]["image_auroc_summary"] is None
    with (tmp_path / "scoreboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"], row["image_auroc"]) for row in rows] == [
        ("r = 0.3", "0", "0.8"),
        ("r = 0.3", "1", "0.9"),
        ("r = 0.5", "0", "0.85"),
    ]
    assert rows[0]["published_image_percent"] == "98.3" and rows[2]["published_image_percent"] == ""
    page = (tmp_path / "scoreboard.html").read_text(encoding="utf-8")
    assert "85.0 ± 5.0 (2 seeds)" in page and "<svg" not in page
    extensions = sorted(item.suffix for item in tmp_path.iterdir())
    assert extensions == [".csv", ".html", ".json", ".md"]

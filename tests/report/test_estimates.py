"""Measures and intervals in the report, of evaluations that have them and of older ones that lack them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flawmap.report import estimates, tables
from flawmap.report.html import write_report
from flawmap.report.run_files import read_run


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.04}


def measures(first: float, names: str) -> dict[str, Any]:
    return {name: estimate(first - 0.01 * i) for i, name in enumerate(names.split())}


IMAGE, PIXEL = "auroc ap f1_max fpr_at_95_tpr", "auroc ap f1_max aupro_30 aupro_05"
NEW_KEYS = {
    "image": measures(0.93, IMAGE),
    "pixel": measures(0.84, PIXEL),
    "by_kind": {
        "scratch": {"n": 20, "image": measures(0.95, IMAGE), "pixel": measures(0.87, PIXEL)},
        "stain": {"n": 20, "image": measures(0.91, IMAGE), "pixel": None},
    },
    "by_size": {
        "large": {"n": 3, "image": measures(0.9, IMAGE), "pixel": None},
        "small": {"n": 7, "image": measures(0.8, IMAGE), "pixel": measures(0.7, PIXEL)},
    },
    "by_group": {"camera=left": {"n": 50, "image": measures(0.94, IMAGE), "pixel": None}},
    "size_classes": {"small": "below 1 % of the picture", "large": "the rest"},
    "evaluation_size_px": 256,
    "drift": {
        "n_calibration": 40,
        "n_now": 60,
        "statistic": 0.21,
        "p_value": 0.0345,
        "text": "Good test pictures score higher.",
    },
}


def cells(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def change(run: Path, **changes: Any) -> None:
    file = run / "evaluation" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_headline_holds_every_measure_with_its_interval(made_up) -> None:
    change(made_up.run, **NEW_KEYS)
    table = cells(estimates.headline(read_run(made_up.run)))
    assert table["image AUROC"] == ("0.930", "0.880–0.970", "60 good, 40 anomalous pictures")
    assert table["false alarms when 95 % are found"][:2] == ("0.900", "0.850–0.940")
    assert table["AUPRO up to 5 % false pixels"] == ("0.800", "0.750–0.840", "pixels of 100 pictures")
    assert table["time"] == ("0.43 s", "–", "per picture")
    assert len(table) == 4 + 5 + 1
    notes = " ".join(estimates.headline_notes(read_run(made_up.run).metrics))
    assert "bootstrap over pictures" in notes and "at 256 px" in notes


def test_a_perfect_ranking_is_told(made_up) -> None:
    pixel = {"auroc": {"value": 1.0, "low": 1.0, "high": 1.0}, "ap": {"value": 0.4, "low": None, "high": None}}
    notes = " ".join(estimates.headline_notes({"image": {}, "pixel": pixel}))
    assert "perfect ranking" in notes
    perfect = {"image": {"auroc": {"value": 1.0, "low": None, "high": None}}, "pixel": None}
    assert "perfect" not in " ".join(estimates.headline_notes(perfect))


def test_an_older_evaluation_gives_what_it_has_and_says_what_is_missing(made_up) -> None:
    files = read_run(made_up.run)
    table = cells(estimates.headline(files))
    assert table["image AUROC"] == ("0.931", "–", "60 good, 40 anomalous pictures")
    assert table["pixel AUROC"] == ("0.842", "–", "pixels of 100 pictures")
    assert "Evaluate again." in estimates.headline_notes(files.metrics)[0]
    shown = estimates.without_empty_columns(estimates.headline(files))
    assert shown.head == ("measure", "value", "counted on")
    assert estimates.headline_notes({}) == ()


@pytest.mark.parametrize("changes", [{"pixel_auroc": None}, {**NEW_KEYS, "pixel": None}])
def test_without_ground_truth_the_pixel_row_says_so(made_up, changes: dict[str, Any]) -> None:
    change(made_up.run, **changes)
    shutil.rmtree(made_up.run / "evaluation" / "truth")
    rows = estimates.headline(read_run(made_up.run)).rows
    assert [row[1:] for row in rows if row[0].startswith("pixel")] == [
        ("–", "–", "no ground truth for pixels in this data")
    ]


def test_pixels_that_were_not_measured_have_the_reason_that_holds(made_up) -> None:
    files = read_run(made_up.run)
    assert estimates.why_no_pixels(files) == estimates.NO_TRUTH
    vanished = replace(files, metrics={**files.metrics, "evaluation_size_px": 16})
    assert estimates.why_no_pixels(vanished) == "the defects vanish at the size of the evaluation"
    good = tuple(image for image in files.images if not image.is_anomalous)
    assert estimates.why_no_pixels(replace(files, images=good)) == "no defects in this data"


def test_a_measure_that_one_class_cannot_give_is_a_dash(made_up) -> None:
    nothing = {name: None for name in IMAGE.split()}
    change(made_up.run, **NEW_KEYS | {"image": nothing})
    row = cells(estimates.headline(read_run(made_up.run)))["image F1-max"]
    assert row[:2] == ("–", "–") and row[2].startswith("needs good and anomalous pictures")


def test_kinds_count_what_was_found_old_and_new(made_up) -> None:
    for is_new in (False, True):
        if is_new:
            change(made_up.run, **NEW_KEYS)
        table = cells(estimates.kinds(read_run(made_up.run)))
        for kind, first in (("stain", 0), ("scratch", 1)):
            found = int((made_up.anomalous[first::2] > 0.6).sum())
            assert table[kind][:2] == ("20", f"{found} of 20")
        assert table["scratch"][2] == ("0.950 (0.900–0.990)" if is_new else "0.950")
        assert table["stain"][3] == "–"


def test_sizes_are_explained_and_groups_stand_alone(made_up) -> None:
    files = read_run(made_up.run)
    assert estimates.sizes(files.metrics).rows == ()
    assert cells(estimates.groups(files.metrics)) == {"camera=left": ("50", "0.940", "0.850", "–")}
    change(made_up.run, **NEW_KEYS)
    metrics = read_run(made_up.run).metrics
    assert estimates.sizes(metrics).rows == (
        ("small (below 1 % of the picture)", "7", "0.800 (0.750–0.840)", "0.700 (0.650–0.740)", "0.670 (0.620–0.710)"),
        ("large (the rest)", "3", "0.900 (0.850–0.940)", "–", "–"),
    )
    assert cells(estimates.groups(metrics)) == {"camera=left": ("50", "0.940 (0.890–0.980)", "–", "–")}


def test_the_page_shows_drift_and_sizes_or_says_they_are_missing(made_up) -> None:
    old = write_report(made_up.run).read_text()
    assert "did not compare its good images with the held-out ones" in old
    assert "Sizes need ground truth for pixels" in old
    change(made_up.run, **NEW_KEYS)
    new = write_report(made_up.run).read_text()
    assert "Good test pictures score higher." in new
    assert "small (below 1 % of the picture)" in new
    assert "did not compare" not in new and "older version" not in new

"""Measures and intervals in the report."""

import shutil
from dataclasses import replace

from flawmap.report import estimates, tables
from flawmap.report.html import write_report
from flawmap.report.run_files import read_run
from flawmap.runs.evaluation import Measure


def cells(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_headline_holds_every_measure_with_its_interval(made_up, change) -> None:
    change(evaluation_size_px=256)
    table = cells(estimates.headline(read_run(made_up.run)))
    assert table["image AUROC"] == ("0.931", "0.881–0.971", "60 good, 40 anomalous images")
    assert table["false alarms when 95 % are found"][:2] == ("0.901", "0.851–0.941")
    assert table["AUPRO up to 5 % false pixels"] == ("0.802", "0.752–0.842", "pixels of 100 images")
    assert table["time"] == ("0.43 s", "–", "per image, 2 threads")
    assert len(table) == 4 + 5 + 1
    notes = " ".join(estimates.headline_notes(read_run(made_up.run).evaluation))
    assert "bootstrap over images" in notes and "at 256 px" in notes and "perfect ranking" not in notes


def test_intervals_over_groups_are_called_so(made_up, change) -> None:
    change(n_groups=12, grouped_by="patient")
    notes = " ".join(estimates.headline_notes(read_run(made_up.run).evaluation))
    assert "bootstrap over the 12 groups (patient) of the test images" in notes and "over images" not in notes


def test_a_perfect_ranking_is_explained(made_up, change) -> None:
    change(image={"auroc": Measure(1.0, 1.0, 1.0)})
    assert "perfect ranking" in " ".join(estimates.headline_notes(read_run(made_up.run).evaluation))
    change(image={"auroc": Measure(1.0, None, None)})
    assert "perfect ranking" not in " ".join(estimates.headline_notes(read_run(made_up.run).evaluation))


def test_without_an_evaluation_there_is_nothing_to_show(trained_run) -> None:
    files = read_run(trained_run)
    assert estimates.headline(files).rows == () and estimates.headline_notes(None) == ()
    assert estimates.kinds(files).rows == estimates.sizes(None).rows == estimates.strata(None).rows == ()


def test_without_ground_truth_the_pixel_row_says_so(made_up, change) -> None:
    change(pixel=None)
    shutil.rmtree(made_up.run / "evaluation" / "truth")
    rows = estimates.headline(read_run(made_up.run)).rows
    assert [row[1:] for row in rows if row[0].startswith("pixel")] == [
        ("–", "–", "no ground truth for pixels in this data")
    ]


def test_pixels_that_were_not_measured_have_the_reason_that_holds(made_up, change) -> None:
    files = read_run(made_up.run)
    assert estimates.why_no_pixels(files) == "no ground truth for pixels in this data"
    change(evaluation_size_px=16)
    assert "vanish" in estimates.why_no_pixels(read_run(made_up.run))
    good = tuple(image for image in files.images if not image.is_anomalous)
    assert estimates.why_no_pixels(replace(files, images=good)) == "no defects in this data"


def test_a_measure_that_one_class_cannot_give_is_a_dash(made_up, change) -> None:
    change(image=dict.fromkeys(("auroc", "ap", "f1_max", "fpr_at_95_tpr")))
    row = cells(estimates.headline(read_run(made_up.run)))["image F1-max"]
    assert row[:2] == ("–", "–") and row[2].startswith("needs good and anomalous images")


def test_kinds_count_what_was_found(made_up) -> None:
    table = cells(estimates.kinds(read_run(made_up.run)))
    for kind, first in (("stain", 0), ("scratch", 1)):
        found = int((made_up.anomalous[first::2] > 0.6).sum())
        assert table[kind][:2] == ("20", f"{found} of 20")
    assert table["scratch"][2:4] == ("0.950 (0.900–0.990)", "0.870 (0.820–0.910)")
    assert table["stain"][3] == "–"


def test_sizes_are_explained_and_groups_stand_alone(made_up) -> None:
    evaluation = read_run(made_up.run).evaluation
    small, large = estimates.sizes(evaluation).rows
    assert small[0].startswith("small (less than ") and small[1:3] == ("7", "0.800 (0.750–0.840)")
    assert small[3:] == ("0.700 (0.650–0.740)", "0.670 (0.620–0.710)")
    assert large[0].startswith("large (") and large[1:] == ("3", "0.900 (0.850–0.940)", "–", "–")
    assert cells(estimates.strata(evaluation))["camera=left"][:3] == ("50", "20", "0.940 (0.890–0.980)")


def test_the_page_shows_drift_and_sizes_or_says_they_are_missing(made_up, change) -> None:
    page = write_report(made_up.run).read_text()
    assert "Good test images score higher." in page and "small (less than" in page
    change(drift=None, by_size={})
    page = write_report(made_up.run).read_text()
    assert "Good test images score higher." not in page and "small (less than" not in page
    assert "Sizes need ground truth for pixels" in page

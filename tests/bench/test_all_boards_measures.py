"""Means over seeds and boards, dashes, and image measures within views."""

from typing import Any

import pytest

from flawmap_bench.boards.all_boards.find import FoundBoard
from flawmap_bench.boards.all_boards.means import mean_rows
from flawmap_bench.boards.all_boards.measures import AUPRO_30, IMAGE_AUROC, MEASURES, PIXEL_AP, BoardRow, in_percent
from flawmap_bench.boards.all_boards.published_form import published_tables
from flawmap_bench.protocols import MVTEC_AD


def result(image: float | None, pixel: float | None, **more: Any) -> dict[str, Any]:
    """A run in which all image measures are ``image``, and all pixel measures ``pixel``."""
    levels: dict[str, Any] = {"image": {}, "pixel": {}}
    for measure in MEASURES:
        value = image if measure.level == "image" else pixel
        if value is not None or measure.level == "image":  # without pixels there is no entry at all
            levels[measure.level][measure.name] = {"value": value, "low": None, "high": None}
    return levels | more


def row(board: str, method: str, *results: dict[str, Any], **facts: Any) -> BoardRow:
    return BoardRow(FoundBoard(board, board, **facts), method, dict(enumerate(results)))


def test_a_measure_is_the_mean_over_seeds_with_its_standard_error():
    found = row("mtd", "padim", result(0.9, 0.5), result(1.0, 0.5)).summary(IMAGE_AUROC)
    assert found is not None and (found.mean, found.n) == (pytest.approx(0.95), 2)
    assert found.standard_error == pytest.approx(0.05)
    assert in_percent(found) == "95.0 ± 5.0"
    assert in_percent(row("mtd", "padim", result(0.9, 0.5)).summary(IMAGE_AUROC)) == "90.0"


def test_what_a_board_does_not_have_is_a_dash():
    no_good_images = row("nanofibres", "padim", result(None, 0.7))
    no_masks = row("elpv", "padim", result(0.9, None))
    assert [in_percent(no_good_images.summary(measure)) for measure in MEASURES] == ["–"] * 2 + ["70.0"] * 4
    assert [in_percent(no_masks.summary(measure)) for measure in MEASURES] == ["90.0"] * 2 + ["–"] * 4
    assert in_percent(row("mtd", "padim").summary(IMAGE_AUROC)) == "–"


def test_where_a_test_has_views_image_measures_are_means_within_them():
    def stratum(value: float | None) -> dict[str, float | None]:
        return {"image_auroc": value, "image_average_precision": value}

    strata = {"view=AP": stratum(0.6), "view=PA": stratum(0.8), "view=LL": stratum(None), "sex=F": stratum(0.1)}
    found = row("nih", "padim", result(0.95, 0.7, by_stratum=strata))
    assert found.is_within_views
    assert [in_percent(found.summary(measure)) for measure in MEASURES] == ["70.0"] * 2 + ["70.0"] * 4
    assert in_percent(found.summary(IMAGE_AUROC)) == "70.0"
    without = row("elpv", "padim", result(0.95, None, by_stratum={"cell=mono": stratum(0.5)}))
    assert not without.is_within_views and in_percent(without.summary(IMAGE_AUROC)) == "95.0"


def test_costs_are_means_over_seeds():
    runs = [result(0.9, 0.5, train_processor_seconds=seconds, peak_memory_mib=None) for seconds in (10, 20)]
    found = row("mtd", "padim", *runs)
    assert found.cost("train_processor_seconds") == 15 and found.cost("peak_memory_mib") is None


def test_means_are_over_the_boards_that_all_methods_have():
    rows = [
        row("mtd", "standard", result(0.9, 0.5), result(0.7, 0.5)),
        row("mtd", "padim", result(0.7, 0.3)),
        row("elpv", "standard", result(1.0, None)),
        row("elpv", "padim", result(0.8, None)),
        row("screw", "standard", result(1.0, 1.0)),
        row("screw", "padim"),  # has not run
    ]
    ours, theirs = mean_rows(rows, ("standard", "padim"), ())
    assert (ours.title, theirs.title) == ("flawmap, standard", "PaDiM")
    assert ours.values[IMAGE_AUROC.key] == (pytest.approx(0.9), 2)  # each board once: (0.8 + 1) / 2
    assert theirs.values[IMAGE_AUROC.key] == (pytest.approx(0.75), 2)
    assert ours.values[PIXEL_AP.key] == (pytest.approx(0.5), 1) and theirs.values[AUPRO_30.key] == (0.3, 1)


def test_a_recipe_for_x_rays_takes_the_place_of_the_first_method_there():
    rows = [
        row("mtd", "standard", result(0.9, 0.5)),
        row("nih", "standard", result(0.5, 0.1), is_xray=True),
        row("nih", "chest_xray", result(0.7, 0.3), is_xray=True),
    ]
    both, ours = mean_rows(rows, ("standard",), ("chest_xray",))
    assert both.title == "flawmap, standard; on X-rays flawmap, chest_xray"
    assert both.values[IMAGE_AUROC.key] == (pytest.approx(0.8), 2)
    assert ours.values[IMAGE_AUROC.key] == (pytest.approx(0.7), 2)
    (alone,) = mean_rows(rows[:1], ("standard",), ())
    assert alone.values[IMAGE_AUROC.key] == (0.9, 1)


def test_no_common_board_has_no_mean():
    rows = [row("mtd", "standard"), row("mtd", "padim", result(0.9, 0.5))]
    assert [mean.values[IMAGE_AUROC.key] for mean in mean_rows(rows, ("standard", "padim"), ())] == [None, None]


# ---- the form in which a benchmark is published


def test_categories_are_in_the_published_order_with_published_columns():
    rows = [
        row(name, "padim", result(0.9, value), benchmark=MVTEC_AD)
        for name, value in (("transistor", 0.9), ("mine/screw", 1.0))
    ]
    (table,) = published_tables([*rows, row("widgets", "padim", result(0.1, 0.1))])
    assert table.title == "MVTec AD: PaDiM"
    assert [line.cells[0] for line in table.lines] == ["mine/screw", "transistor", "mean of 2 of 15 categories"]
    by_column = [dict(zip(table.columns, line.cells, strict=True)) for line in table.lines]
    paper = [cells["the paper, image AUROC, *published*"] for cells in by_column]
    assert paper == ["96.4", "95.5", "96.0"]  # the last: of the same two, 95.95
    assert [cells["pixel AUROC"] for cells in by_column] == ["100.0", "90.0", "95.0"]
    assert by_column[0]["Dinomaly, pixel AUROC, *published*"] == "99.7"


def test_the_whole_benchmark_has_the_printed_means():
    rows = [row(name, "padim", result(0.9, None), benchmark=MVTEC_AD) for name in MVTEC_AD.classes]
    (table,) = published_tables(rows)
    mean = dict(zip(table.columns, table.lines[-1].cells, strict=True))
    assert mean["category"] == "mean" and mean["image AUROC"] == "90.0" and mean["pixel AP"] == "–"
    assert mean["the paper, image AUROC, *published*"] == "98.3"
    assert mean["PatchCore, pixel AUROC, *published*"] == "98.0"

"""A quarter on a line: the order of the parts, what the operator does, the numbers of a week, table and figure."""

from collections import Counter
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap.errors import UserError
from flawmap.runs.json_files import write_csv
from flawmap_bench.line_quarter.__main__ import read_weeks
from flawmap_bench.line_quarter.lines import CALIBRATED, NOTHING
from flawmap_bench.line_quarter.operator import Week, looked_at, reviewed, work_of_week
from flawmap_bench.line_quarter.parts import (
    FIRST,
    OTHER,
    Part,
    image_file,
    product_by_format,
    quarter,
    seen_by_other_camera,
)
from flawmap_bench.line_quarter.table_and_figure import figure_png, table


def made_up(good_of_first: int = 600) -> list[Part]:
    numbers = {(FIRST, False): good_of_first, (OTHER, False): 220, (FIRST, True): 120, (OTHER, True): 60}
    return [
        Part(Path(f"{product}-{is_defective}-{number}.png"), is_defective, product)
        for (product, is_defective), count in numbers.items()
        for number in range(count)
    ]


def week_of(number: int, false_alarms: int = 0, missed: int = 0, reviews: int = 0) -> Week:
    return Week(number, 45, 10, false_alarms, missed, 0, reviews, 0, 1.0)


def part(is_defective: bool, day: int) -> Part:
    return Part(Path("a.png"), is_defective, FIRST, week=3, day=day)


# ---- the order of the parts


def test_every_day_has_its_parts_and_none_is_shown_twice():
    training, line = quarter(made_up(), seed=0)
    assert (len(training), len(line)) == (120, 13 * 5 * 11)
    assert len({part.path for part in training + line}) == 120 + 715
    assert not any(part.is_defective for part in training)
    by_day = Counter((part.week, part.day, part.is_defective) for part in line)
    assert by_day == {(w, d, bad): 2 if bad else 9 for w in range(1, 14) for d in range(1, 6) for bad in (False, True)}
    assert [(part.week, part.day) for part in line] == sorted((part.week, part.day) for part in line)


def test_camera_and_product_change_when_they_should():
    training, line = quarter(made_up(), seed=1)
    assert {part.product for part in training} == {FIRST}
    assert all(part.is_other_camera == (part.week >= 5) for part in line)
    assert {part.product for part in line if part.week < 9} == {FIRST}
    later = [part.product == OTHER for part in line if part.week >= 9]
    assert np.mean(later) == pytest.approx(0.7, abs=4 * (0.7 * 0.3 / len(later)) ** 0.5)


def test_the_order_depends_on_the_seed_alone():
    parts = made_up()
    assert quarter(parts, 0) == quarter(parts, 0)
    assert quarter(parts, 0) != quarter(parts, 1)


def test_too_few_parts_are_refused():
    with pytest.raises(UserError, match="too few good parts of the first product"):
        quarter(made_up(good_of_first=300), seed=0)


def test_the_other_camera_is_darker_and_sees_less():
    pixels = np.full((100, 200, 3), 100, np.uint8)
    changed = seen_by_other_camera(pixels)
    assert changed.shape == (94, 188, 3)
    assert (changed == round(255 * (100 / 255) ** 1.3)).all()


def test_an_image_of_the_other_camera_is_written_once(tmp_path: Path):
    path = tmp_path / "good" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.full((40, 60, 3), 80, np.uint8)).save(path)
    assert image_file(Part(path, False, FIRST), tmp_path / "other") == path
    written = image_file(Part(path, False, FIRST, is_other_camera=True), tmp_path / "other")
    assert written == tmp_path / "other" / "good-a.png"
    with Image.open(written) as image:
        assert image.size == (56, 38)
    assert product_by_format(path) == OTHER


# ---- the operator


def test_the_five_highest_alarms_are_reviewed():
    assert reviewed([3.0, 0.5, 9.0, 4.0, 7.0, 2.0, 8.0], threshold=1.0) == [2, 6, 4, 3, 0]
    assert reviewed([3.0, 0.5, 1.0], threshold=1.0) == [0]


@pytest.mark.parametrize("day", range(1, 6))
def test_parts_are_looked_at_until_two_are_good(day: int):
    is_defective = [True, False, True, False, False, True]
    found = looked_at(is_defective, seed=0, week=2, day=day)
    assert sum(not is_defective[number] for number in found) == 2
    assert not is_defective[found[-1]]
    assert found == looked_at(is_defective, 0, 2, day)


def test_a_week_in_numbers():
    parts = [part(False, 1), part(True, 1), part(False, 1), part(True, 2), part(False, 2)]
    week, false_alarms, sample = work_of_week(parts, [5.0, 6.0, 1.0, 2.0, 3.0], 2.0, seed=0, confirms=False)
    # a score at the threshold is no alarm
    assert astuple(week) == (3, 3, 2, 2, 1, 0, 3, 0, 2.0)
    assert (false_alarms, sample) == ([0, 4], [])
    assert week.actions == 3


def test_what_is_reviewed_and_confirmed_counts_once_and_belongs_to_the_sample():
    parts = [part(False, 1), part(False, 1)]  # both are confirmed
    week, false_alarms, sample = work_of_week(parts, [5.0, 1.0], 2.0, seed=0, confirms=True)
    assert (week.reviews, week.confirmations, week.false_alarms) == (1, 1, 1)
    assert (false_alarms, sorted(sample)) == ([], [0, 1])


def test_alarms_beyond_five_a_day_are_not_reviewed():
    parts = [part(False, 1)] * 9
    week, false_alarms, _ = work_of_week(parts, [float(n) for n in range(9)], 0.5, seed=0, confirms=False)
    assert (week.reviews, week.not_reviewed) == (5, 3)
    assert false_alarms == [4, 5, 6, 7, 8]


# ---- results


def test_weeks_are_read_as_they_were_written(tmp_path: Path):
    weeks = [week_of(number, false_alarms=number) for number in (1, 2)]
    write_csv(tmp_path / "a.csv", [field.name for field in fields(Week)], [astuple(week) for week in weeks])
    assert read_weeks(tmp_path / "a.csv") == weeks


def test_the_table_has_means_over_seeds_and_their_range():
    one, other = ([week_of(number, false_alarms=f, missed=1, reviews=f) for number in range(1, 14)] for f in (0, 9))
    lines = table({"mtd": {NOTHING: [one, other], CALIBRATED: [one, one]}}).splitlines()
    assert lines[0] == "mtd, 2 seeds:"
    assert "nothing | 10.0 (0 to 20) | 10.0 (10 to 10) | 4.5 (0 to 9) | 0.0 (0 to 0) |" in lines[4]
    phases = [line.split(" | ")[0].strip("| ") for line in lines[4::2] if line]
    assert phases == [
        "weeks 1 to 4, as trained",
        "week 5, other camera",
        "weeks 6 to 8",
        "week 9, other product as well",
        "weeks 10 to 13",
    ]
    assert len([line for line in lines if line.startswith("|")]) == 2 + 5 * 2


def test_the_figure_is_drawn():
    weeks = [week_of(number) for number in range(1, 14)]
    assert figure_png({"mtd": {NOTHING: [weeks], CALIBRATED: [weeks]}}).startswith(b"\x89PNG")

"""Trials of shards, of many images and of workers: which difference is allowed, their tables, and crops of images."""

import numpy as np
import pytest

from flawmap.data.images.files import read_image
from flawmap_bench.trials.cluster_rates import table as rates_table
from flawmap_bench.trials.many_images import write_crops
from flawmap_bench.trials.shards import allowed_difference, table
from images import noise, write_image


def test_half_a_point_or_two_standard_errors_are_allowed():
    assert allowed_difference([0.2]) == 0.005
    assert allowed_difference([0.001, 0.002, 0.003]) == 0.005
    assert allowed_difference([0.0, 0.03, 0.06]) == pytest.approx(2 * 0.03 / 3**0.5)


def test_the_table_ends_with_the_difference_and_what_is_allowed():
    one = [{"image AUROC": 0.97, "missed": 0.2, "candidates": 1000.0, "processor s": 9.0}]
    several = [{"image AUROC": 0.972, "missed": 0.1, "candidates": 80.0, "processor s": 8.0}]
    lines = table("mtd", 8, one, several)
    assert lines == [
        "mtd | 1 | 97.0 (1 seed) | – | – | 20.0 (1 seed) | 1,000 | 9 | ",
        "mtd | 8 | 97.2 (1 seed) | – | – | 10.0 (1 seed) | 80 | 8 | +0.20 of 0.50",
    ]


def test_crops_are_parts_of_the_good_images_and_differ(tmp_path):
    for number in range(2):
        write_image(tmp_path / "data" / f"{number}.png", noise(number, 30, 30))
    folder = write_crops(str(tmp_path / "data"), 9, 28, tmp_path / "many")
    crops = [read_image(path) for path in sorted(folder.rglob("*.jpg"))]
    assert len(crops) == 9 and {crop.shape for crop in crops} == {(28, 28, 3)}
    assert len({crop.tobytes() for crop in crops}) == 9
    assert write_crops("nothing", 9, 28, tmp_path / "many") == folder and np.ptp(crops[0]) > 0


def test_efficiency_is_the_rate_for_each_core_beside_that_of_one_process():
    row = {"images": 100.0, "wall s": 10.0, "command, peak MB": 900.0}
    turns = {0: [row, {**row, "wall s": 20.0}, row], 2: [{**row, "wall s": 6.25}], 4: [{**row, "wall s": 8.0}]}
    assert rates_table(turns, cores=2) == [
        "| workers | images/s | range | efficiency | wall s | command, peak MB |",
        "| ---|---|---|---|---|--- |",
        "| none | 10.0 | 5.0 to 10.0 | 100 % | 10 | 900 |",
        "| 2 | 16.0 | 16.0 to 16.0 | 80 % | 6 | 900 |",
        "| 4 | 12.5 | 12.5 to 12.5 | 62 % | 8 | 900 |",
    ]

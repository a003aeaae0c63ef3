"""The bench of the metrics: all contenders get the same maps and agree on the values."""

import subprocess
import sys

import numpy as np
import pytest

from flawmap.metrics.pixel_pool import PIXEL_METRICS
from flawmap_bench.speed.metric_speed import CONTENDERS, NO_MEMORY, ArtificialMaps, main, measure, measure_here, table

on_unix = pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with a module that only Unix has")


def test_maps_are_the_same_each_time_and_hold_normal_and_anomalous_images():
    maps = ArtificialMaps(6, 64)
    first, again = list(maps), list(maps)
    assert len(first) == 6 and maps.seconds > 0
    for (scores, truth), (other_scores, other_truth) in zip(first, again, strict=True):
        assert np.array_equal(scores, other_scores) and np.array_equal(truth, other_truth)
        assert scores.shape == (64, 64) and 0 < scores.min() < scores.max() < 1
    assert [bool(truth.any()) for _, truth in first] == [False, True, True, False, True, True]


@pytest.mark.parametrize(("name", "package"), [("scikit-learn", "sklearn"), ("torchmetrics", "torchmetrics")])
def test_others_agree_with_us_up_to_the_width_of_our_bins(name: str, package: str):
    pytest.importorskip(package)
    maps = ArtificialMaps(6, 48)
    ours, theirs = CONTENDERS["with intervals"][0](maps), CONTENDERS[name][0](maps)
    assert set(theirs) == {"auroc", "average_precision", "f1_max"}
    for metric, value in theirs.items():
        assert abs(ours[metric] - value) <= 5e-4, metric
    assert CONTENDERS["flawmap"][0](maps) == ours


def test_anomalib_agrees_with_us_where_it_is_installed():
    pytest.importorskip("anomalib")
    maps = ArtificialMaps(6, 48)
    ours = CONTENDERS["flawmap"][0](maps)
    for metric, value in CONTENDERS["anomalib"][0](maps).items():
        assert ours[metric] == pytest.approx(value, abs=5e-3), metric  # it samples AUPRO's curves anew


@on_unix
def test_a_measurement_counts_time_memory_and_values():
    result = measure_here("flawmap", 3, 64)
    assert set(result) == {"seconds", "mebibytes", *PIXEL_METRICS}
    assert 0 <= result["seconds"] < 10 and 0 <= result["mebibytes"] < 200
    assert result["auroc"] == CONTENDERS["flawmap"][0](ArtificialMaps(3, 64))["auroc"]


def test_the_table_says_who_is_missing_and_how_many_times_our_cost_others_take():
    ours = {"seconds": 0.5, "mebibytes": 4.0, **dict.fromkeys(PIXEL_METRICS, 0.75)}
    theirs = {"seconds": 5.0, "mebibytes": 100.0, "auroc": 0.75}
    text = table({"flawmap": ours, "scikit-learn": theirs, "anomalib": "not installed"}, 10, 64, 8.0)
    assert "10 maps of 64 x 64 px" in text and "8 GiB" in text
    assert "scikit-learn takes 10.0 times our time and 25.0 times our memory" in text
    assert "anomalib       not installed" in text


def test_a_contender_that_is_not_installed_is_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flawmap_bench.speed.metric_speed.find_spec", lambda name: None)
    assert measure("anomalib", 1, 16, 0.0) == "not installed"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's data")
def test_who_takes_too_much_memory_is_stopped():
    pytest.importorskip("sklearn")
    assert measure("scikit-learn", 40, 1024, 0.4) == NO_MEMORY
    assert isinstance(measure("flawmap", 4, 1024, 0.4), dict)


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flawmap_bench.speed.metric_speed.measure", lambda name, *sizes: f"{name} of {sizes}")
    main(["--maps", "2", "--size", "16", "--only", "anomalib"])
    printed = capsys.readouterr().out
    assert "flawmap of (2, 16, 8.0)" in printed and "anomalib of (2, 16, 8.0)" in printed


@on_unix
def test_a_process_of_its_own_answers_in_json():
    command = [sys.executable, "-m", "flawmap_bench.speed.metric_speed", "--measure", "flawmap", "--maps", "2"]
    done = subprocess.run([*command, "--size", "32"], capture_output=True, text=True, check=True)
    assert '"aupro_30": ' in done.stdout

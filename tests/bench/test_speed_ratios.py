"""The speed bench: arithmetic of turns and ratios, its tables, and one whole run with tiny settings."""

import sys
from pathlib import Path

import numpy as np
import pytest

from flawmap.data.images.files import read_image
from flawmap.errors import UserError
from flawmap_bench.speed import ratios as bench
from flawmap_bench.speed.batch_speed import Scored, batch_table, start_up_table
from flawmap_bench.speed.detection_ratios import BARE, ENCODER, SEARCH, WHOLE, Measured, table
from flawmap_bench.speed.machine import peak_memory_bytes, processor
from flawmap_bench.speed.made_images import BRIGHTNESS, CROPPED, variant, write_parts, write_variants
from flawmap_bench.speed.measured_process import Usage, run_measured
from flawmap_bench.speed.training_passes import FIRST_PART, Moment, Part, Training, parts_of, parts_table
from flawmap_bench.speed.training_passes import table as training_table
from flawmap_bench.speed.turns import Spread, in_turns, ratios
from tiny_detector import write_tiny_recipe

TINY = (
    "method=fused",
    "data.image_size_px=64",
    "pretrain.enabled=false",
    "detect.image_score=mean_logit",
    "memory.blocks=[1, 2]",
    "memory.tokens=40",
    "residual.steps=4",
    "residual.simulated_images=8",
)


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# ---- turns and ratios


def test_all_ways_get_the_same_item_in_a_round_and_warm_up_rounds_do_not_count():
    calls: list[tuple[str, str]] = []

    def way(label: str, seconds: float):
        return lambda item: calls.append((label, item)) or seconds * (1 + len(calls))

    seconds = in_turns({"a": way("a", 1.0), "b": way("b", 10.0)}, ["x", "y"], rounds=2, warm_up=1)
    assert calls == [("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"), ("a", "x"), ("b", "x")]
    assert seconds == {"a": [4.0, 6.0], "b": [50.0, 70.0]}


def test_a_ratio_is_that_of_a_round_so_that_a_slow_round_does_not_count():
    assert ratios([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == Spread(2.0, 2.0, 3.0)
    assert Spread.of([3.0, 1.0, 2.0]).columns(1) == "2.0 | 1.0–3.0"


# ---- the machine


def test_a_processor_is_named_with_what_tells_its_generation(tmp_path: Path):
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: AMD EPYC\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: sse avx2 avx512_vnni fma\n\n")
    assert processor(file) == "AMD EPYC, family 25, model 17 (avx2, avx512_vnni)"
    assert sys.platform in processor(tmp_path / "none")


def test_peak_memory_is_read_where_linux_writes_it(tmp_path: Path):
    file = tmp_path / "status"
    file.write_text("VmPeak:\t 99 kB\nVmHWM:\t  2048 kB\n")
    assert peak_memory_bytes(file) == 2048 * 1024
    assert peak_memory_bytes(tmp_path / "none") > 1e6


# ---- made images


def test_variants_are_crops_of_other_brightness_and_all_differ(tmp_path: Path):
    flat = np.full((100, 200, 3), 100, np.uint8)
    seen = [variant(flat, 0, number) for number in range(20)]
    for image in seen:
        assert 100 * (1 - 2 * CROPPED) - 1 <= image.shape[0] <= 100
        assert 200 * (1 - 2 * CROPPED) - 1 <= image.shape[1] <= 200
        assert len(np.unique(image)) == 1 and abs(int(image[0, 0, 0]) - 100) <= 100 * BRIGHTNESS + 0.5
    assert np.array_equal(variant(flat, 0, 3), seen[3])
    sources = write_parts(tmp_path / "parts", 2)
    written = write_variants(tmp_path / "many", sources, 6)
    assert len({read_image(path).tobytes() for path in (*sources, *written)}) == 8


# ---- a command


def test_a_command_is_measured_and_its_failure_explained():
    work = "sum(range(10**6)); import sys; sys.exit(int(sys.argv[1]))"
    usage = run_measured([sys.executable, "-c", work, "0"])
    assert usage.processor_seconds > 0 and usage.wall_seconds > 0
    with pytest.raises(UserError) as caught:
        run_measured([sys.executable, "-c", "print('it rained'); raise SystemExit(3)"])
    assert caught.value.problem == "exit code 3: it rained"


# ---- training


def test_parts_begin_with_lines_of_progress_and_may_go_on_later():
    moments = [
        Moment("data       parts", 1.0, 10),
        Moment("encoder    20 images at 64 px", 2.0, 20),
        Moment("encoder    keeps the tokens", 5.0, 30),
        Moment("memory     keeps 40 of 300 tokens", 6.0, 30),
        Moment("memory     compares 20 good images", 8.0, 40),
        Moment("end", 9.0, 50),
    ]
    assert parts_of(moments) == (
        Part(FIRST_PART, 2.0, 20),
        Part("encoder over the good images, once", 3.0, 30),
        Part("coreset, spacing", 3.0, 40),
        Part("references looked up in the others", 1.0, 50),
    )


def test_passes_are_seconds_over_those_of_the_bare_encoder_for_each_image():
    training = Training(Path("run"), 10, Usage(99.0, 30.0), (Part("a", 20.0, 1_000_000), Part("b", 9.0, 2_500_000)))
    text = training_table(training, [1.0, 1.0], [1.5, 1.5])
    assert "**2.40 passes**" in text and "2.00–3.00" in text and "1250 ms per image (1000–1500)" in text
    assert rows_of(text) == [["a", "20.0", "1.60", "1"], ["b", "9.0", "0.72", "2"], ["whole", "30.0", "2.40", "2"]]
    assert [row[2] for row in rows_of(parts_table(training))] == ["–", "–", "–"]


# ---- detection


def test_the_rest_is_what_encoder_and_search_leave_and_ratios_go_round_by_round():
    seconds = {BARE: [0.1, 0.2], WHOLE: [0.08, 0.18], ENCODER: [0.05, 0.1], SEARCH: [0.02, 0.04], "peer": [0.3, 0.2]}
    notes = dict.fromkeys(seconds, "note")
    rows = rows_of(table(Measured(seconds, notes, {"another": "it is not installed"})))
    assert [row[0].split(":")[0] for row in rows] == [BARE, WHOLE, ENCODER, SEARCH, "… the rest", "peer", "another"]
    assert rows[1][1:5] == ["130", "80–180", "0.85", "0.80–0.90"]
    assert rows[4][1:5] == ["25", "10–40", "0.15", "0.10–0.20"]
    assert rows[5][3:5] == ["2.00", "1.00–3.00"]
    assert rows[6][5] == "left out: it is not installed"


def test_two_cores_are_compared_with_one_in_the_same_round():
    usages = {1: [Usage(10.0, 10.0), Usage(30.0, 20.0)], 2: [Usage(5.0, 11.0), Usage(20.0, 24.0)]}
    (row,) = rows_of(batch_table([Scored(100, True, usages[1], usages[2])]))
    assert row == ["100", "yes", "5.00", "8.00", "1.75", "1.50–2.00", "1.15"]
    (row,) = rows_of(start_up_table({"a file": [Usage(2.0, 1.0), Usage(1.0, 1.5)]}))
    assert row == ["a file", "1.50", "1.00–2.00", "1.25", "1.00–1.50"]


# ---- all of it


@pytest.mark.slow
def test_a_whole_bench_with_tiny_settings(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MADE_UP", 24)
    monkeypatch.setattr(bench, "BARE_PASSES", 2)
    monkeypatch.setattr(bench, "START_ROUNDS", 1)
    recipe = write_tiny_recipe(tmp_path / "tiny.yaml", *TINY)
    words = ["--recipe", str(recipe), "--run", str(tmp_path / "run"), "--images", "3", "--rounds", "1"]
    assert bench.main(words) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("###")] == [
        "### Training, processor time of one thread",
        "### Detection, processor time of one thread, one image at a time, 1 rounds in turns",
        "### flawmap detect with one image, each time a new process",
        "### flawmap detect over a folder, wall time",
    ]
    folds = "good images and simulated defects scored by the fits of the folds"
    for part in ("encoder over the good images, once", "steps of the head", folds, WHOLE, "3 | yes"):
        assert f"| {part} |" in out


@pytest.mark.slow
def test_the_memory_of_many_images(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MADE_UP", 4)
    recipe = write_tiny_recipe(tmp_path / "tiny.yaml", *TINY)
    assert bench.main(["--recipe", str(recipe), "--large", "24"]) == 0
    title, *rest = capsys.readouterr().out.splitlines()
    assert title == "### Training on 24 variants of 4 made-up images"
    assert float(rows_of("\n".join(rest))[-1][3].replace(",", "")) > 100  # MB


def test_data_that_is_not_there_is_explained(capsys):
    assert bench.main(["no/such/folder"]) == 2
    assert "no/such/folder" in capsys.readouterr().err

"""The board's tables and its chart."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flawmap_bench.boards.peers_scoreboard import COLUMNS, MethodRow, write_peers_scoreboard
from flawmap_bench.boards.published import PUBLISHED, published_for
from flawmap_bench.boards.time_chart import TimePoint, time_chart
from flawmap_bench.methods import BASELINES, PEER_NAMES, title_of


def result(image: float, pixel: float | None, seconds: float, **more: Any) -> dict[str, Any]:
    def estimate(value: float | None) -> dict[str, Any]:
        return {"value": value, "low": None if value is None else value - 0.1, "high": value and value + 0.01}

    return {
        "image": {"auroc": estimate(image)},
        "pixel": {} if pixel is None else {"auroc": estimate(pixel), "aupro_30": estimate(pixel / 2)},
        "train_seconds": seconds,
        "seconds_per_image": 0.25,
        "peak_memory_mib": 1024.4,
        "parameters": 22_000_000,
        "note": "a <note>",
        "by_stratum": {},
        "image_scores": {"x": 1.0},
    } | more


def line_of(path: Path, title: str, table: int = 0) -> list[str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {title} ")]
    return [cell.strip() for cell in lines[table].strip("|").split("|")]


def test_measured_and_published_numbers_stand_apart(tmp_path: Path):
    rows = [
        MethodRow("patchcore", "PatchCore", {0: result(0.9, 0.8, 61.4)}),
        MethodRow("differnet", "DifferNet", {0: result(0.7, None, 300.0)}),
        MethodRow("standard", "flawmap, standard", {}, ("seed 0: no weights",)),
    ]
    path = write_peers_scoreboard(tmp_path, "mtd", rows, {"data": "somewhere"})
    assert line_of(path, "PatchCore") == [
        *("PatchCore", "**90.0 [80.0, 91.0]**", "**80.0 [70.0, 81.0]**", "**40.0 [30.0, 41.0]**"),
        *("61", "0.25", "1024", "22.0", "97.9", "–"),
    ]
    assert line_of(path, "DifferNet")[1:4] == ["70.0 [60.0, 71.0]", "–", "–"]
    assert line_of(path, "flawmap, standard")[1:8] == ["–"] * 7
    text = path.read_text(encoding="utf-8")
    assert "- flawmap, standard: failed, seed 0: no weights" in text
    assert "- Published, PatchCore: PatchCore-10 of its publication" in text
    content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert content["rows"][0]["published"]["all"]["image"] == 97.9
    assert "image_scores" not in content["rows"][0]["measured"]["0"]
    header = path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.split(",")[-3:] == ["published_image_percent", "published_pixel_percent", "published_source"]


def test_strata_stand_side_by_side(tmp_path: Path):
    strata = {
        "sex=F": {"n": 9, "n_pixel_images": 4, "image_auroc": 0.6, "pixel_auroc": 0.75},
        "sex=M": {"n": 30, "n_pixel_images": 17, "image_auroc": 0.5, "pixel_auroc": 0.7},
        "view=AP": {"n": 39, "n_pixel_images": 0, "image_auroc": 0.55, "pixel_auroc": None},
    }
    better = {stratum: {**values, "pixel_auroc": 0.8} for stratum, values in strata.items() if stratum != "view=AP"}
    rows = [
        MethodRow("pii", "PII", {0: result(0.9, 0.8, 10.0, by_stratum=strata)}),
        MethodRow("paper", "flawmap, paper", {0: result(0.9, 0.8, 10.0, by_stratum=strata | better)}),
        MethodRow("riad", "RIAD", {}, ("seed 0: no number",)),
    ]
    path = write_peers_scoreboard(tmp_path, "nih", rows, {})
    text = path.read_text(encoding="utf-8")
    assert (
        "| method | sex=F: image AUROC of 9 images, measured | sex=F: pixel AUROC of 4 images, measured "
        "| sex=F: pixel AUROC, *published* | sex=M: image AUROC of 30 images, measured "
        "| sex=M: pixel AUROC of 17 images, measured | sex=M: pixel AUROC, *published* |"
    ) in text
    assert line_of(path, "PII", 1)[1:] == ["**60.0**", "75.0", "65.1", "**50.0**", "70.0", "65.2"]
    assert line_of(path, "flawmap, paper", 1)[1:] == ["**60.0**", "**80.0**", "70.5", "**50.0**", "**80.0**", "70.9"]
    assert line_of(path, "RIAD", 1)[1:] == ["–"] * 6
    assert "| method | view=AP: image AUROC of 39 images, measured |" in text
    assert line_of(path, "PII", 0)[-1] == "–"  # the paper gives no number for both sexes
    assert "seed 0: no number" in path.with_suffix(".html").read_text(encoding="utf-8")


def test_the_page_escapes_what_methods_say(tmp_path: Path):
    rows = [MethodRow("padim", "PaDiM", {0: result(0.9, 0.8, 10.0)})]
    path = write_peers_scoreboard(tmp_path, "a<b", rows, {"data": "<script>"})
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &lt;note&gt;" in page
    assert page.count("<svg") == 1 and page.count("<th") == 1 + len(COLUMNS)  # thead, and a cell for each column


SVG = "{http://www.w3.org/2000/svg}"


def point_at(svg: ElementTree.Element, title: str) -> tuple[float, float, str]:
    """Where the marker of a method is, and how it is drawn."""
    (drawn,) = (element for element in svg.iter(f"{SVG}g") if element.get("id") == title)
    marker = next(drawn.iter(f"{SVG}use"))
    return float(marker.get("x", "")), float(marker.get("y", "")), marker.get("style", "")


def test_time_is_logarithmic_and_auroc_linear():
    points = [TimePoint("a", 10.0, 1.0, False), TimePoint("b", 100.0, 0.75, False), TimePoint("c", 1000.0, 0.5, True)]
    text = time_chart(points, "A & B, $x")
    svg = ElementTree.fromstring(text)
    (ax, ay, _), (bx, by, b_style), (cx, cy, c_style) = (point_at(svg, title) for title in "abc")
    assert bx - ax == pytest.approx(cx - bx, abs=0.2)
    assert by - ay == pytest.approx(cy - by, abs=0.2) and ay < by < cy
    assert c_style != b_style  # ours stands out
    assert "A &amp; B, $x" in text and time_chart(points, "A & B, $x") == text


def test_an_empty_chart_is_a_frame():
    svg = ElementTree.fromstring(time_chart([], "nothing yet"))
    assert "nothing yet" in [text.text for text in svg.iter(f"{SVG}text")]


def test_labels_of_near_points_do_not_lie_on_each_other():
    svg = ElementTree.fromstring(time_chart([TimePoint(f"m{i}", 100.0, 0.8, False) for i in range(4)], "t"))
    labels = [text for text in svg.iter(f"{SVG}text") if re.fullmatch(r"m\d", text.text or "")]
    heights = sorted(float(re.findall(r"[-\d.]+", label.get("transform", ""))[-1]) for label in labels)
    assert len(heights) == 4 and all(b - a >= 9 for a, b in pairwise(heights))


def test_published_numbers_are_of_known_methods_and_percent():
    for by_method in PUBLISHED.values():
        for method, number in by_method.items():
            assert method in BASELINES or method in PEER_NAMES or method == "flawmap"
            assert number.source
            assert all(value is None or 50 <= value <= 100 for value in (number.image, number.pixel))
    assert published_for("NIH", "paper_chest_xray", True, "sex=F") == PUBLISHED["nih sex=F"]["flawmap"]
    assert published_for("NIH", "chest_xray", True, "sex=F") is None  # the paper has no such method
    assert published_for("elpv", "padim", False) is None


def test_every_method_has_a_title():
    assert title_of("inp_former") == "INP-Former"
    assert title_of("standard") == "flawmap, standard" and title_of("runs/my.yaml") == "flawmap, my"
    assert title_of("anomalib:Stfpm") == "anomalib:Stfpm"

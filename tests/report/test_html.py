"""The report as text: what it holds, what it says is missing, and that it loads nothing."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from flawmap.data.sample import FileRemark, SkippedFile
from flawmap.errors import UserError
from flawmap.report import html as report
from flawmap.runs.calibration import MapScale
from flawmap.runs.unusual import MOST_PICTURED, PICTURES, Scoring, Unusual, UnusualImage, picture_file, write_unusual

HOSTILE_KEY = "test/scratch/<script>alert(1)&x.png"
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Collects tags, visible text and scripts, and checks that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.by_id: dict[str, str] = {}
        self.scripts: list[str] = []
        self._open: list[str] = []
        self._ids: list[str | None] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
            self._ids.append(attributes.get("id"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._ids.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif self._open and self._open[-1] != "style":
            self.text.append(data.strip())
        for name in self._ids:
            if name:
                self.by_id[name] = self.by_id.get(name, "") + data

    @property
    def words(self) -> str:
        return " ".join(self.text)


def page_of(run: Path) -> Page:
    return Page(report.write_report(run).read_text(encoding="utf-8"))


def test_one_file_that_loads_nothing(made_up) -> None:
    path = report.write_report(made_up.run)
    assert path == made_up.run / "report.html"
    assert path.stat().st_size < 5e6
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert not {"srcset", "action", "data", "poster"} & set(attributes), tag
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes[name][:60])
    assert not re.search(r"""url\(|@import|https?://|(?<![:\w])//[\w.]+/""", re.sub(r'"data:[^"]*"', '""', text))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:")
    assert sum(tag == "img" for tag, _ in page.tags) > 20 * 3 + 4 * 5
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert set(links) <= set(ids)
    assert [name for name in os.listdir(made_up.run) if "report" in name] == ["report.html"]


def test_embedded_scores_and_counts_are_those_of_the_evaluation(made_up) -> None:
    page = page_of(made_up.run)
    data = json.loads(page.by_id["scores-data"])
    assert data["good"] == sorted(made_up.good.tolist())
    assert data["anomalous"] == sorted(made_up.anomalous.tolist())
    assert data["threshold"] == 0.6
    assert page.by_id["live-missed"] == f"{int((made_up.anomalous <= 0.6).sum())} of 40"
    assert page.by_id["live-false-alarms"] == f"{int((made_up.good > 0.6).sum())} of 60"
    line = next(attributes for _, attributes in page.tags if attributes.get("id") == "threshold-line")
    expected = data["left"] + (0.6 - data["low"]) / (data["high"] - data["low"]) * (data["right"] - data["left"])
    assert float(line["x1"]) == pytest.approx(expected, abs=0.01)


def test_hostile_names_are_text(made_up) -> None:
    text = report.write_report(made_up.run).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert" not in text
    assert HOSTILE_KEY in page.text  # shown to the reader as it is
    assert len(page.scripts) == 2  # the scores, and our own
    assert "# <b>not bold</b>" in page.words


def test_a_hostile_folder_name_is_text_too(made_up) -> None:
    run = made_up.run.rename(made_up.run.parent / "a<img src=x onerror=alert(1)>")
    text = report.write_report(run).read_text(encoding="utf-8")
    assert "<img src=x" not in text


def test_every_section_of_an_evaluated_run_has_content(made_up) -> None:
    page = page_of(made_up.run)
    for words in (
        "It finds",
        "votes, ties by mean logit",
        "320 px alone",
        "scratch",
        "camera=left",
        "CC BY-NC-SA 4.0",
    ):
        assert words in page.words
    for words in (
        "prototypes used",
        "target entropy",
        "good, not trained on: 40",
        "flawmap evaluate runs/demo tiles",
        "360 images",
    ):
        assert words in page.words
    badges = [a["class"].split()[1] for tag, a in page.tags if a.get("class", "").startswith("badge")]
    assert badges.count("false-alarm") == 1
    assert badges[0] == "missed"
    assert len(badges) == 20
    assert "not been evaluated" not in page.words


def test_a_run_that_is_not_evaluated_says_so(trained_run: Path) -> None:
    page = page_of(trained_run)
    assert "Not evaluated yet" in page.words
    assert f"flawmap evaluate {trained_run.resolve()} DATA" in page.words
    assert "No test images have been scored yet." in page.words
    assert "live-missed" not in page.by_id
    assert "good, not trained on: 40" in page.words
    assert "Metrics This run has not been evaluated yet. On simulated defects (not a test result)" in " ".join(
        page.words.split()
    )


def test_an_empty_run_makes_a_page_of_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    page = page_of(tmp_path)
    for words in (
        "no samples",
        "no log of training",
        "No threshold has been calibrated",
        "has no recipe",
    ):
        assert words in page.words


def test_without_defects_nothing_is_claimed_about_them(made_up) -> None:
    table = made_up.run / "evaluation" / "per_image.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:61]))
    page = page_of(made_up.run)
    assert page.by_id["live-missed"] == "unknown: no anomalous images"
    assert json.loads(page.by_id["scores-data"])["anomalous"] == []


def test_without_a_threshold_nothing_is_decided(made_up, change) -> None:
    change(calibration=None)
    (made_up.run / "model" / "calibration.json").unlink()
    page = page_of(made_up.run)
    assert "it ranks images and decides about none" in page.words
    assert page.words.count("This needs a threshold, and none was calibrated.") == 2
    assert "live-missed" not in page.by_id
    assert "0.931" in page.words
    assert "of 20" not in page.by_id["kinds"]  # no kind claims to be found


def test_a_threshold_that_is_newer_than_the_evaluation_stands_beside_its_own_scores(made_up, change) -> None:
    change(calibration=None)
    page = page_of(made_up.run)
    assert page.words.count("has had one only since this evaluation. Evaluate again.") == 2
    assert "One was calibrated since" in page.words and "none was calibrated" not in page.words
    assert "good, not trained on: 40" in page.words


def test_samples_keep_the_colours_of_the_model_as_it_is_calibrated_now(made_up, recalibrate) -> None:
    recalibrate(map_threshold=5.0, map_scale=MapScale(0.0, 10.0))
    bars = [attributes["aria-label"] for _, attributes in page_of(made_up.run).tags if attributes.get("class") == "bar"]
    assert len(bars) == 2 and "threshold 5 red" not in bars[0]
    assert bars[1] == "Colour scale: 0 dark blue, threshold 5 red, 10 pale yellow"


def test_files_that_were_left_out_are_listed(made_up, change) -> None:
    unread = {"path": "tiles/ground_truth/1.gif", "reason": "GIF is not read", "kind": ".gif"}
    change(skipped=(SkippedFile("test/good/<b>.png", "truncated at byte 40"),), left_out=(unread,))
    page = page_of(made_up.run)
    assert "test/good/<b>.png: truncated at byte 40" in page.text
    assert "ground_truth/1.gif: GIF is not read" in page.text


def test_remarks_on_the_test_files_stand_by_the_numbers(made_up, change) -> None:
    assert "Remarks on the test files" not in page_of(made_up.run).words
    change(remarks=(FileRemark("truth/<a>.png", "empty"), FileRemark("truth/b.png", "empty")))
    page = page_of(made_up.run)
    assert "truth/<a>.png: empty (likewise b.png)" in page.by_id["metrics"]


def test_images_that_are_gone_are_said_to_be_gone(made_up) -> None:
    shutil.rmtree(made_up.run.parent / "originals")
    page = page_of(made_up.run)
    assert page.words.count("what was saved is shown") == 20
    assert sum(a.get("alt", "").startswith("anomaly map of") for _, a in page.tags) == 20


def test_images_without_ground_truth_say_so(made_up) -> None:
    for file in sorted((made_up.run / "evaluation" / "truth").iterdir())[1:]:
        file.unlink()
    page = page_of(made_up.run)
    assert "no ground truth for this image" in page.words
    assert "a good image: nothing to outline" in page.words


def test_data_without_any_ground_truth_has_no_column_for_it(made_up) -> None:
    with_truth = page_of(made_up.run)
    shutil.rmtree(made_up.run / "evaluation" / "truth")
    page = page_of(made_up.run)
    assert "outlined in green" in with_truth.words and "outlined in green" not in page.words
    assert "no ground truth for this image" not in page.words and "nothing to outline" not in page.words
    assert sum(a.get("alt", "").startswith("anomaly map of") for _, a in page.tags) == 20


def test_an_older_report_survives_a_failure(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made_up.run / "report.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(made_up.run)
    assert path.read_text() == "old"
    assert [name for name in os.listdir(made_up.run) if "report" in name] == ["report.html"]


def test_another_folder_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        report.write_report(tmp_path)


def test_good_images_that_look_unusual_are_shown(trained_run: Path) -> None:
    folder = trained_run / "unusual"
    folder.mkdir()
    images = tuple(UnusualImage(key, 9.0 - number) for number, key in enumerate([HOSTILE_KEY, *map(str, range(29))]))
    write_unusual(folder, Unusual(images, Scoring(400, 3.5, MapScale(-1.0, 2.0))))
    for number in range(MOST_PICTURED - 1):  # the last picture was deleted
        for name in PICTURES:
            Image.new("L" if name == "map" else "RGB", (40, 30), 128).save(picture_file(folder, number, name))
    page = Page(report.write_report(trained_run).read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.text).split())
    assert f"30 of 400 good images look unusual: {HOSTILE_KEY}, 0, 1 and 27 more: see their pictures" in text
    assert f"{MOST_PICTURED} of 30 are shown." in text
    pictures = [tag for name, tag in page.tags if name == "img" and "good image" in tag["alt"]]
    assert [tag["alt"] for tag in pictures[:2]] == [f"good image {HOSTILE_KEY}", "good image 0"]
    assert len(pictures) == MOST_PICTURED - 1 and pictures[0]["width"] == "40"
    assert f"{HOSTILE_KEY}, score 9" in text


def test_no_unusual_image_is_said_and_no_search_is_not(trained_run: Path) -> None:
    assert "look unusual" not in report.write_report(trained_run).read_text(encoding="utf-8")
    (trained_run / "unusual").mkdir()
    write_unusual(trained_run / "unusual", Unusual((), Scoring(400, 3.5, MapScale(-1.0, 2.0))))
    assert "None of 400 good images looks unusual." in " ".join(
        Page(report.write_report(trained_run).read_text(encoding="utf-8")).text
    )

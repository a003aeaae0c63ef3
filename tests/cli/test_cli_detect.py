"""flawmap detect: verdicts on stdout, overlays and result.json beside them, and nothing lost to one bad image."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flawmap.deploy.batch as batch
from assertions import assert_explained, files_and_bytes
from flawmap import AnomalyDetector
from flawmap.cli.detect import as_line
from flawmap.data.find_images import find_images
from flawmap.data.walk import Listing
from flawmap.drawing.verdict_picture import NARROWEST_PX
from images import pixels_of, striped, write_good, write_image


@pytest.fixture
def parts(tmp_path) -> Path:
    """Three new images."""
    return write_good(tmp_path / "parts", 3, first_seed=800)


# ---- what is said and written


def lines_of(said) -> list[dict]:
    """One JSON object per line."""
    return [json.loads(line) for line in said.out.splitlines()]


def written() -> dict:
    return json.loads(Path("detections/result.json").read_text())


def test_scores_are_the_detectors_and_everything_is_in_result_json(cli, trained, parts):
    before = files_and_bytes(parts)
    said = cli("detect", parts, "--model", trained.run, "--json")
    assert said.code == 0
    assert lines_of(said) == written()["images"]
    assert Path("detections/results.jsonl").read_text() == said.out
    results = AnomalyDetector.from_pretrained(trained.run, "cpu").predict(sorted(parts.iterdir()))
    for one, path, result in zip(lines_of(said), sorted(parts.iterdir()), results, strict=True):
        assert one["image"] == str(path)
        assert {name: one[name] for name in result.to_json()} == result.to_json()
        height, width, _ = pixels_of(one["overlay"]).shape
        assert height > 48 and width == NARROWEST_PX
    assert written()["model"] == str(trained.run) and written()["not_scored"] == []
    assert files_and_bytes(parts) == before


def test_each_image_has_a_line_and_the_summary_is_a_note(cli, calm_run, parts):
    said = cli("detect", parts, "--model", calm_run)
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines] == [[str(parts / f"{n:03d}.png"), "ok"] for n in range(3)]
    assert said.err.startswith("3 scored, 0 anomalous, ") and said.err.endswith(" s per image -> detections/\n")


def test_an_anomaly_names_its_strongest_region(cli, alarmed_run, parts):
    said = cli("detect", parts / "000.png", "--model", alarmed_run)
    assert said.code == 0 and said.err.startswith("1 scored, 1 anomalous, ")
    assert "   ANOMALY  " in said.out and said.out.endswith("   1 region, 2304 px at (24, 24)\n")  # all of 48 x 48


def test_pictures_of_calm_images_show_the_images(cli, calm_run, parts):
    cli("detect", parts, "--model", calm_run)
    left = (NARROWEST_PX - 48) // 2
    for number in range(3):
        shown = pixels_of(f"detections/ok_{number:04d}_{number:03d}.png")
        assert np.array_equal(shown[:48, left : left + 48], pixels_of(parts / f"{number:03d}.png"))


def test_pictures_sort_by_verdict(cli, alarmed_run, parts):
    said = cli("detect", parts, "--model", alarmed_run, "--json")
    assert [Path(one["overlay"]).name for one in lines_of(said)] == [f"anomaly_{n:04d}_{n:03d}.png" for n in range(3)]


@pytest.mark.parametrize("kind", ["npy", "tiff"])
def test_raw_maps_are_those_of_python_at_the_size_of_the_image(cli, trained, parts, kind):
    said = cli("detect", parts, "--model", trained.run, "--json", "--maps", kind)
    results = AnomalyDetector.from_pretrained(trained.run, "cpu").predict(sorted(parts.iterdir()))
    for one, result in zip(lines_of(said), results, strict=True):
        with Image.open(one["map"]) if kind == "tiff" else nullcontext() as opened:
            found = np.load(one["map"]) if opened is None else np.asarray(opened)
        assert found.dtype == np.float32 and np.array_equal(found, result.anomaly_map)
    assert "map" not in lines_of(cli("detect", parts, "--model", trained.run, "--json"))[0]


def test_fail_on_anomaly_turns_verdicts_into_exit_codes(cli, alarmed_run, parts):
    assert cli("detect", parts, "--model", alarmed_run).code == 0
    assert cli("detect", parts, "--model", alarmed_run, "--fail-on-anomaly").code == 1


def test_fail_on_anomaly_passes_calm_images(cli, calm_run, parts):
    assert cli("detect", parts, "--model", calm_run, "--fail-on-anomaly").code == 0


def test_earlier_detections_are_not_overwritten(cli, trained, parts):
    for name in ("detections", "detections-2", "detections-3"):
        said = cli("detect", parts, "--model", trained.run)
        assert said.err.endswith(f"-> {name}/\n") and (Path(name) / "result.json").is_file()
        if name == "detections":
            first = files_and_bytes(Path(name))
    assert files_and_bytes(Path("detections")) == first
    Path("notes.txt").write_text("mine")
    cli("detect", parts, "--model", trained.run, "--output", "notes.txt")
    assert Path("notes.txt").read_text() == "mine" and Path("notes-2.txt/result.json").is_file()


def test_an_empty_folder_may_be_named_for_the_output(cli, trained, parts):
    Path("out").mkdir()
    assert cli("detect", parts, "--model", trained.run, "--output", "out").err.endswith("-> out/\n")
    assert Path("out/result.json").is_file()


# ---- one bad image


def test_a_bad_image_is_listed_at_the_end_and_costs_no_result(cli, trained, parts):
    (parts / "001.png").write_bytes((parts / "001.png").read_bytes()[:100])
    (parts / "002a.png").write_text("no picture")
    said = cli("detect", parts, "--model", trained.run)
    assert said.code == 2
    assert [Path(line.split()[0]).name for line in said.out.splitlines()] == ["000.png", "002.png"]
    *failed, summary = said.err.splitlines()
    assert summary.startswith("2 scored, 2 not scored, ")
    assert [
        line.startswith(f"not scored: {parts / name}: ")
        for line, name in zip(failed, ("001.png", "002a.png"), strict=True)
    ]
    content = written()
    assert [Path(one["image"]).name for one in content["images"]] == ["000.png", "002.png"]
    assert [Path(one["image"]).name for one in content["not_scored"]] == ["001.png", "002a.png"]


def test_bad_images_alone_give_an_empty_result(cli, trained, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    said = cli("detect", bad, "--model", trained.run, "--json")
    assert said.code == 2 and said.out == "" and "not scored: " in said.err and "empty" in said.err
    assert written()["images"] == [] and len(written()["not_scored"]) == 1


@pytest.fixture
def stop_at_the_third(monkeypatch):
    """Ctrl-C while the third image is read for the first time; gives back which images were read."""
    read, paths = batch.read_image, []

    def read_two(path):
        paths.append(path)
        if path.name == "002.png" and paths.count(path) == 1:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(batch, "read_image", read_two)
    return paths


def test_ctrl_c_keeps_what_was_scored_and_resume_does_the_rest(cli, trained, parts, stop_at_the_third):
    said = cli("detect", parts, "--model", trained.run)
    assert said.code == 130 and len(said.out.splitlines()) == 2
    assert said.err.endswith("interrupted; finished work is kept (the same command with --resume continues)\n")
    assert len(written()["images"]) == 2
    overlays = files_and_bytes(Path("detections"))
    with Path("detections/results.jsonl").open("a") as lines:
        lines.write('{"image": "torn')  # as after a power cut
    said = cli("detect", parts, "--model", trained.run, "--resume", "--json")
    assert said.code == 0 and [Path(one["image"]).name for one in lines_of(said)] == ["002.png"]
    assert said.err.startswith("resumed    2 of 3 images have a result already\n3 scored, ")
    assert [Path(one["image"]).name for one in written()["images"]] == ["000.png", "001.png", "002.png"]
    assert [path.name for path in stop_at_the_third[3:]] == ["002.png"]  # three, and the third again
    after = files_and_bytes(Path("detections"))
    assert {name: after[name] for name in overlays if name.endswith(".png")} == {
        name: content for name, content in overlays.items() if name.endswith(".png")
    }


def test_results_of_another_model_are_not_mixed_in(cli, trained, parts):
    cli("detect", parts, "--model", trained.run)
    lines = Path("detections/results.jsonl")
    lines.write_text(lines.read_text().replace('-fp32"', '-int8"'))
    said = cli("detect", parts, "--model", trained.run, "--resume")
    assert said.code == 2 and "error: the results there are from another model" in said.err


def test_verdicts_by_another_threshold_are_not_mixed_in(cli, trained, parts):
    cli("detect", parts, "--model", trained.run)
    lines = Path("detections/results.jsonl")
    records = [json.loads(line) | {"threshold": 0.125} for line in lines.read_text().splitlines()]
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    said = cli("detect", parts, "--model", trained.run, "--resume")
    assert said.code == 2 and "the threshold 0.125; now it is " in said.err


# ---- cameras


@pytest.fixture
def two_cameras(calm_run) -> Path:
    """A run whose default threshold no image is above, and whose camera "left" finds every image anomalous."""
    values = json.loads((calm_run / "model" / "calibration.json").read_text())
    (calm_run / "model" / "cameras").mkdir()
    of_left = values | {"threshold": -values["threshold"]}
    (calm_run / "model" / "cameras" / "left.json").write_text(json.dumps(of_left))
    return calm_run


@pytest.mark.parametrize(("camera", "threshold"), [(None, 1e6), ("left", -1e6)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_camera_is_judged_by_its_own_threshold_and_the_results_say_so(
    cli, two_cameras, parts, camera, threshold, workers
):
    of_camera = ("--camera", camera) if camera else ()
    said = cli("detect", parts, "--model", two_cameras, *of_camera, "--json", "--workers", workers)
    assert said.code == 0, said.err
    records = [json.loads(line) for line in said.out.splitlines()]
    written = [json.loads(line) for line in Path("detections/results.jsonl").read_text().splitlines()]
    result = json.loads(Path("detections/result.json").read_text())
    assert records == written == result["images"] and len(records) == 3 and result["camera"] == camera
    for record in records:
        assert (record["camera"], record["threshold"]) == (camera, threshold)
        assert record["is_anomalous"] == (camera == "left")


def test_results_of_another_camera_are_no_resume(cli, two_cameras, parts):
    default = (two_cameras / "model" / "calibration.json").read_bytes()
    (two_cameras / "model" / "cameras" / "right.json").write_bytes(default)  # the same threshold, another camera
    words = ("detect", parts, "--model", two_cameras, "--resume")
    assert cli(*words).code == 0
    for camera in ("left", "right"):
        said = cli(*words, "--camera", camera)
        problem = f"the verdicts there are for camera none; now it is {camera}"
        assert_explained(said, (problem,), "detections/results.jsonl", ("choose another --output",))
    assert cli(*words, "--camera", "right", "--output", "right").code == 0
    again = cli(*words, "--camera", "right", "--output", "right")
    assert again.code == 0 and "3 of 3 images have a result already" in again.err
    back = cli(*words, "--output", "right")
    assert back.code == 2 and "for camera right; now it is none" in back.err


def test_a_list_says_which_camera_took_each_image(cli, two_cameras, parts):
    names = [path.name for path in sorted(parts.iterdir())]
    Path("new.csv").write_text(f"image,camera\n{parts / names[0]},left\n{parts / names[1]},\n", encoding="utf-8")
    words = ("detect", "new.csv", parts / names[2], "--model", two_cameras)
    assert cli(*words).code == 0
    found = written()
    assert [one["camera"] for one in found["images"]] == ["left", None, None]
    assert [one["threshold"] for one in found["images"]] == [-1e6, 1e6, 1e6]
    assert [one["is_anomalous"] for one in found["images"]] == [True, False, False]
    assert (found["camera"], found["judged_by"]["threshold"]) == (None, 1e6)
    (left,) = found["listed"]
    assert (left["product"], left["camera"], left["judged_by"]["threshold"]) == (None, "left", -1e6)
    again = cli(*words, "--resume")
    assert again.code == 0 and "3 of 3 images have a result already" in again.err
    elsewhere = cli(*words, "--resume", "--camera", "left")  # what the list leaves open, the option says
    assert elsewhere.code == 2 and "for camera none; now it is left" in elsewhere.err
    assert cli(*words, "--camera", "left", "--output", "left").code == 0
    records = json.loads(Path("left/result.json").read_text())
    assert [one["camera"] for one in records["images"]] == ["left"] * 3 and records["listed"] == []


def test_a_camera_of_a_list_that_the_model_does_not_know_is_refused(cli, two_cameras, parts):
    Path("new.csv").write_text(f"image,camera\n{parts / '000.png'},lft\n", encoding="utf-8")
    said = cli("detect", "new.csv", "--model", two_cameras)
    assert_explained(
        said, ("there is no threshold for camera 'lft'", "left"), two_cameras.name, ("did you mean camera left?",)
    )
    assert not Path("detections").exists()


def test_one_threshold_file_judges_no_list_of_several_cameras(cli, two_cameras, parts):
    Path("new.csv").write_text(f"image,camera\n{parts / '000.png'},left\n", encoding="utf-8")
    of_left = two_cameras / "model" / "cameras" / "left.json"
    said = cli("detect", "new.csv", "--model", two_cameras, "--threshold", of_left)
    problem = "a list names products or cameras, and the file has one threshold"
    assert_explained(said, (problem,), "--threshold", ("leave out --threshold",))
    assert not Path("detections").exists()


def test_results_of_an_earlier_flawmap_are_those_of_the_default(cli, trained, parts):
    assert cli("detect", parts, "--model", trained.run).code == 0
    lines = Path("detections/results.jsonl")
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert all(record.pop("camera") is None for record in records)
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    again = cli("detect", parts, "--model", trained.run, "--resume")
    assert again.code == 0 and "3 of 3 images have a result already" in again.err


@pytest.mark.parametrize("verb", ["detect", "serve"])
def test_an_unknown_camera_is_refused_with_those_that_are_known(cli, two_cameras, parts, verb):
    words = ("detect", parts, "--model", two_cameras) if verb == "detect" else ("serve", two_cameras)
    said = cli(*words, "--camera", "lft")
    problem = "there is no threshold for camera 'lft'; known cameras: left"
    assert_explained(said, (problem,), str(two_cameras), ("did you mean camera left?",))
    assert not Path("detections").exists()


def test_a_damaged_line_of_earlier_results_is_named(cli, trained, parts):
    cli("detect", parts, "--model", trained.run)
    with Path("detections/results.jsonl").open("a") as lines:
        lines.write("{}\n")
    said = cli("detect", parts, "--model", trained.run, "--resume")
    assert said.code == 2 and "at: detections/results.jsonl line 4" in said.err and "remedy: choose another" in said.err


@pytest.mark.parametrize(
    ("name", "content"), [("results.jsonl", '{"mine": 1}'), ("result.json", '{"precious": 1}'), ("results.csv", "a;b")]
)
def test_resume_leaves_other_peoples_files_as_they_are(cli, trained, parts, name: str, content: str):
    Path("theirs").mkdir()
    (Path("theirs") / name).write_text(content)
    said = cli("detect", parts, "--model", trained.run, "--resume", "--output", "theirs")
    assert said.code == 2 and "remedy: choose another --output" in said.err
    assert (Path("theirs") / name).read_text() == content


def test_a_torn_line_of_ours_is_taken_away(cli, trained, parts):
    cli("detect", parts, "--model", trained.run)
    lines = Path("detections/results.jsonl")
    whole = lines.read_bytes()
    for torn in (b'{"ima', b'{"image": "x", "sc'):
        lines.write_bytes(whole + torn)
        assert cli("detect", parts, "--model", trained.run, "--resume").code == 0
        assert lines.read_bytes() == whole


def test_pictures_beside_somebody_elses_result_json_are_judged(cli, trained, parts):
    (Path(parts) / "result.json").write_text("{}")
    said = cli("detect", parts, "--model", trained.run, "--json")
    assert said.code == 0 and len(said.out.splitlines()) == 3
    assert "\n3 scored, 1 left out (1 .json), " in said.err


def test_resume_without_earlier_results_begins(cli, trained, parts):
    assert cli("detect", parts, "--model", trained.run, "--resume", "--output", "new").code == 0
    assert Path("new/result.json").is_file()


def test_a_table_has_a_row_for_each_image_and_for_those_without_a_result(cli, alarmed_run, parts):
    (parts / "=1+1.png").write_text("no picture")
    said = cli("detect", parts, "--model", alarmed_run, "--json")
    assert said.code == 2
    raw = Path("detections/results.csv").read_bytes()
    assert raw.startswith("\ufeffimage,verdict,score,threshold,regions,picture,problem\r\n".encode())
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
    for row, one in zip(rows[:3], lines_of(said), strict=True):
        assert row["image"] == one["image"] and row["picture"] == one["overlay"]
        assert (row["verdict"], row["regions"], row["problem"]) == ("anomaly", "1", "")
        assert (float(row["score"]), float(row["threshold"])) == (one["score"], one["threshold"])
    (row,) = rows[3:]
    assert row["image"].endswith("=1+1.png") and row["verdict"] == "not scored" and row["score"] == ""
    assert row["problem"] == written()["not_scored"][0]["problem"]


def test_an_anomaly_without_a_region_says_so():
    record = {"image": "a.png", "threshold": 1.0, "is_anomalous": True, "score": 1.5, "regions": []}
    assert as_line(record, 5) == "a.png   ANOMALY    1.500   unusual as a whole, no region stands out"


def test_workers_give_the_same_results_in_the_same_order(cli, trained, parts):
    (parts / "001a.png").write_text("no picture")
    alone = cli("detect", parts, "--model", trained.run, "--json", "--output", "alone")
    several = cli("detect", parts, "--model", trained.run, "--json", "--output", "several", "--workers", "2")
    assert several.code == alone.code == 2
    assert several.out.replace("several/", "alone/") == alone.out
    assert "not scored: " in several.err and "001a.png" in several.err


def test_without_a_word_every_core_is_used(cli, trained, parts, monkeypatch):
    numbers, run = [], batch.Batch.run
    monkeypatch.setattr("flawmap.engine.cores.usable_cores", lambda: 2)
    monkeypatch.setattr(
        batch.Batch,
        "run",
        lambda self, path, workers, *more: numbers.append(workers) or run(self, path, workers, *more),
    )
    for words in ((), ("--workers", "1"), ("--workers", "9")):
        assert cli("detect", parts, "--model", trained.run, *words).code == 0
    assert numbers == [2, 1, 3]  # there are three images


def test_no_overlays_writes_no_picture(cli, trained, parts):
    said = cli("detect", parts, "--model", trained.run, "--json", "--no-overlays")
    assert said.code == 0 and [one["overlay"] for one in lines_of(said)] == [None] * 3
    assert sorted(path.name for path in Path("detections").iterdir()) == ["result.json", "results.csv", "results.jsonl"]
    rows = list(csv.DictReader(Path("detections/results.csv").read_text("utf-8-sig").splitlines()))
    assert [row["picture"] for row in rows] == [""] * 3


def test_a_number_of_workers_that_is_none_is_explained(cli, parts):
    said = cli("detect", parts, "--workers", "0")
    assert said.code == 2 and "error: --workers is 0, must be a whole number above 0\n  at: " in said.err


def test_progress_tells_rate_and_time_left(cli, trained, tmp_path):
    said = cli("detect", write_good(tmp_path / "many", 21), "--model", trained.run)
    assert "detect        21/21 images  " in said.err and " per second  0s left" in said.err


# ---- which images


def test_files_folders_and_patterns_are_found_once_each_in_the_order_given(cli, parts):
    write_image(parts / "deep" / "er" / "x.JPG", striped(1))
    write_image(parts / ".hidden.png", striped(1))
    (parts / "notes.txt").write_text("no picture")
    given = [str(parts / "002.png"), str(parts), str(parts / "00*.png"), str(parts / "**" / "*.JPG")]
    names = [path.name for path in find_images(given).images]
    assert names == ["002.png", "000.png", "001.png", "x.JPG"]


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(parts):
    path = write_image(parts / "[1].png", striped(1))
    assert find_images([str(path)]) == Listing((path,))


def test_results_of_an_earlier_detection_are_passed_over_with_a_note(cli, trained, parts, monkeypatch):
    monkeypatch.chdir(parts)
    for _ in range(2):
        said = cli("detect", ".", "--model", trained.run, "--json")
        assert len(lines_of(said)) == 3
    assert said.err.startswith("left out   detections/: results of an earlier detection\n")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("empty", "no images there"),
        ("nothing/*.png", "no images there"),
        ("missing.png", "there is no such file or folder"),
    ],
)
def test_no_images_is_said_before_a_model_is_loaded(cli, given, problem):
    Path("empty").mkdir()
    said = cli("detect", given, "--model", "nowhere")
    assert said.code == 2 and said.err.startswith(f"error: {problem}\n  at: {given}\nremedy: give files")
    assert not Path("detections").exists()


def test_a_mistyped_name_says_what_is_there(cli):
    for folder in ("new", "runs/first"):
        Path(folder).mkdir(parents=True)
    said = cli("detect", "nwe", "--model", "nowhere")
    assert "there is no such file or folder" in said.err and "; new exists)" in said.err
    said = cli("detect", "runs/frist", "--model", "nowhere")
    assert f"; {Path('runs/first')} exists)" in said.err
    (Path("new") / "1.png").write_bytes(b"")
    said = cli("detect", "new", "--model", "runs/frist")
    assert "no such folder: " in said.err and f"; {Path('runs/first')} exists)" in said.err


# ---- which model


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        ((), "no model given and no run here", "flawmap train DATA, or --model RUN"),
        (("--model", "nowhere"), "no such folder: nowhere", "give a run folder"),
        (("--model", "."), "no trained model here", "give a run folder"),
        (("--model", "notes.txt"), "this is neither a run folder nor an exported file", "give a run folder"),
    ],
)
def test_a_missing_model_is_explained(cli, parts, words, problem, remedy):
    Path("notes.txt").write_text("")
    said = cli("detect", parts, *words)
    assert said.code == 2 and f"error: {problem}" in said.err and f"remedy: {remedy}" in said.err
    assert not Path("detections").exists()


# ---- rough edges


def test_an_output_folder_that_cannot_be_made_is_explained(cli, trained, parts):
    Path("in_the_way").write_text("a file")
    said = cli("detect", parts, "--model", trained.run, "--output", "in_the_way/out")
    assert said.code == 2 and "bug" not in said.err
    assert "error: Not a directory\n  at: in_the_way" in said.err and "remedy: check the path" in said.err


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (5000, 3)])
def test_images_of_extreme_shapes_are_scored(cli, alarmed_run, tmp_path, shape):
    path = write_image(tmp_path / "odd.png", striped(0, *shape))
    said = cli("detect", path, "--model", alarmed_run, "--json")
    (one,) = lines_of(said)
    assert one["regions"][0]["box_xyxy_px"] == [0, 0, shape[1], shape[0]]
    height, width, _ = pixels_of(one["overlay"]).shape
    assert height > shape[0] and width == max(shape[1], NARROWEST_PX)


def test_a_name_that_is_not_utf_8_is_scored_and_printed_escaped(cli, trained, parts):
    try:
        (parts / "000.png").rename(parts / "bad\udcff.png")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    said = cli("detect", parts / "bad\udcff.png", "--model", trained.run, "--json")
    assert said.code == 0
    (one,) = lines_of(said)
    assert one["image"] == str(parts / "bad\udcff.png") and Path(one["overlay"]).is_file()


def test_very_long_names_and_equal_names_do_not_collide(cli, trained, tmp_path):
    long = "ä" * 100 + ".png"
    paths = [write_image(tmp_path / folder / long, striped(0)) for folder in ("a", "b")]
    said = cli("detect", *paths, "--model", trained.run, "--json")
    assert said.code == 0 and len({one["overlay"] for one in lines_of(said)}) == 2


def test_a_rate_and_a_minimum_area_are_in_the_results(cli, trained, parts):
    words = ("--model", trained.run, "--false-alarm-rate", "0.4", "--min-area", "0.5", "--mm-per-pixel", "0.05")
    result = cli("detect", parts, *words, "--output", "tried")
    assert result.code == 0, result.err
    judged_by = json.loads(Path("tried/result.json").read_text())["judged_by"]
    assert (judged_by["false_alarm_rate"], judged_by["threshold_file"]) == (0.4, None)
    assert judged_by["min_area_px"] == pytest.approx(200.0)
    assert "threshold  " in result.err and "for 40.00% false alarms" in result.err
    other = cli("detect", parts, "--model", trained.run, "--false-alarm-rate", "0.4", "--resume", "--output", "tried")
    assert other.code == 2 and "minimum area of 200 px; now it is 0 px" in other.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--min-area", "-3"), "--min-area is -3, must be a number above 0"),
        (("--min-area", "x"), "--min-area is x, must be a number above 0"),
        (("--mm-per-pixel", "0.1"), "--mm-per-pixel says what --min-area means, which is not given"),
        (("--false-alarm-rate", "2"), "the false-alarm rate is 2, must be between 0 and 1"),
        (("--threshold", "missing.json"), "no such file: missing.json"),
    ],
)
def test_a_way_to_judge_that_is_none_is_refused(cli, trained, parts, words, problem):
    result = cli("detect", parts, "--model", trained.run, *words)
    assert result.code == 2 and problem in result.err and result.out == ""

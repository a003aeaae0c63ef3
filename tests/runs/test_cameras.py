"""The thresholds of a model: one for each camera, under names that every system can have."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.errors import UserError
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.cameras import (
    Calibrations,
    calibration_file,
    command_for_camera,
    read_calibrations,
    refuse_bad_name,
    refuse_unknown_camera,
)
from flawmap.runs.model_folder import read_model, replace_calibration
from made_up_model import made_up_calibration, write_made_up_model

ONE, TWO, THREE = (made_up_calibration(threshold) for threshold in (1.0, 2.0, 3.0))


# ---- names


@pytest.mark.parametrize(
    "name", ["left", "Line-2", "a", "0", "cam.1", "x_y", "a" * 64, "console", "com10", "lpt", "auxiliary"]
)
def test_names_that_every_system_can_have_are_taken(name: str):
    refuse_bad_name(name, {})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *(
            (name, f"camera-{name.partition('.')[0]}")
            for name in ("con", "NUL", "aux", "PRN", "com1", "LPT9", "nul.left")
        ),
        *(("default", "camera-default"), ("Default", "camera-Default")),
        *(("..", "camera-1"), ("", "camera-1"), (" ", "camera-1"), ("…", "camera-1")),
        *((".hidden", "hidden"), ("-x", "x"), ("ends.", "ends"), ("ends ", "ends"), ("ends-.", "ends")),
        *(("a/b", "a-b"), ("../up", "up"), ("a\\b", "a-b"), ("c:left", "c-left"), ("a*b?", "a-b"), ("a\nb", "a-b")),
        *(("Prüfstand 3", "Prufstand-3"), ("カメラ", "camera-1"), ("a\x00b", "a-b"), ("a" * 65, "a" * 56)),
    ],
)
def test_other_names_are_refused_with_one_that_is_taken(name: str, remedy: str):
    with pytest.raises(UserError, match="cannot be named") as caught:
        refuse_bad_name(name, {})
    assert caught.value.remedy == f"--camera {remedy}"
    refuse_bad_name(remedy, {})


@given(st.text(max_size=80))
def test_the_remedy_is_always_safe_to_follow(name: str):
    try:
        refuse_bad_name(name, {})
    except UserError as error:
        refuse_bad_name(error.remedy.removeprefix("--camera "), {})


def test_a_name_that_differs_in_case_alone_is_refused():
    refuse_bad_name("Left", {"Left": ONE})
    with pytest.raises(UserError, match="there is a camera 'Left'") as caught:
        refuse_bad_name("left", {"Left": ONE})
    assert caught.value.remedy.startswith("--camera Left, or")


def test_an_unknown_camera_is_refused_with_those_that_are_known():
    refuse_unknown_camera("left", {"left": ONE}, "run", "do it")
    with pytest.raises(UserError) as caught:
        refuse_unknown_camera("top", {"left": ONE, "right": TWO}, "run", "do it")
    assert caught.value.problem == "there is no threshold for camera 'top'; known cameras: left, right"
    assert (caught.value.place, caught.value.remedy) == ("run", "do it")
    with pytest.raises(UserError) as caught:
        refuse_unknown_camera("lft", {"left": ONE, "right": TWO}, "run", "do it")
    assert caught.value.remedy == "did you mean camera left?"
    with pytest.raises(UserError) as caught:
        refuse_unknown_camera("cam2", {"cam1": ONE}, "run", "do it")
    assert caught.value.remedy == "do it"  # a number is no mistyped letter
    with pytest.raises(UserError, match="known cameras: none but the default, which needs no --camera"):
        refuse_unknown_camera("left", {}, "run", "do it")
    assert command_for_camera("my run", "left") == "flawmap calibrate 'my run' GOOD_IMAGES --camera left"
    assert command_for_camera("run", "Kamera 2") == "flawmap calibrate run GOOD_IMAGES --camera Kamera-2"


# ---- all thresholds of a model


def test_each_camera_has_its_own_and_a_change_of_one_leaves_the_others():
    before = Calibrations(ONE, {"left": TWO})
    after = before.replaced("a", THREE)
    assert [after.of(name) for name in (None, "left", "a", "unknown")] == [ONE, TWO, THREE, None]
    assert list(after.cameras) == ["a", "left"] and list(before.cameras) == ["left"]
    assert after.replaced(None, None) == Calibrations(None, {"a": THREE, "left": TWO})
    assert after.replaced("a", None) == before and before.replaced("unknown", None) == before


def test_they_are_files_of_the_model_folder(tmp_path: Path):
    calibrations = Calibrations(ONE, {"left": TWO, "right.2": THREE})
    folder = write_made_up_model(tmp_path / "model", calibrations)
    assert read_calibrations(folder) == calibrations
    assert read_model(folder)[1].calibrations == calibrations
    assert (folder / "calibration.json").read_bytes() == calibration_bytes(ONE)
    assert (folder / "cameras/right.2.json").read_bytes() == calibration_bytes(THREE)
    assert calibration_file(None) == "calibration.json" and calibration_file("a") == "cameras/a.json"
    card = (folder / "README.md").read_text()
    assert "- threshold: 1 for 10.00% false alarms" in card
    assert "- threshold of camera left: 2 for 10.00% false alarms, from 10 good images" in card


def test_a_model_of_flawmap_0_1_has_the_default_alone(tmp_path: Path):
    folder = write_made_up_model(tmp_path / "model", Calibrations(ONE))
    (folder / "calibration-earlier.json").write_bytes(calibration_bytes(TWO))  # as it kept former thresholds
    (folder / "calibration-earlier-2.json").write_bytes(b"torn")
    assert not (folder / "cameras").exists()
    assert read_model(folder)[1].calibrations == Calibrations(ONE)


def test_files_that_are_not_ours_are_no_cameras(tmp_path: Path):
    folder = write_made_up_model(tmp_path / "model", Calibrations(ONE, {"left": TWO}))
    for name in (".left.json.1a2b3c4d.tmp", ".hidden.json", "notes.txt", "two words.json"):
        (folder / "cameras" / name).write_text("{")
    assert read_calibrations(folder) == Calibrations(ONE, {"left": TWO})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", json.dumps({"threshold": 1}).encode()])
def test_a_damaged_camera_is_named_with_the_command_that_mends_it(tmp_path: Path, content: bytes):
    folder = write_made_up_model(tmp_path / "model", Calibrations(ONE, {"left": TWO, "right": THREE}))
    (folder / "cameras/left.json").write_bytes(content)
    with pytest.raises(UserError, match=r"left\.json is damaged") as caught:
        read_model(folder)
    assert caught.value.place == str(folder / "cameras/left.json")
    assert caught.value.remedy == "flawmap calibrate RUN GOOD_IMAGES --camera left"
    assert read_calibrations(folder, skip_damaged=True) == Calibrations(ONE, {"right": THREE})
    replace_calibration(folder, "left", calibration_bytes(ONE))
    assert read_model(folder)[1].calibrations == Calibrations(ONE, {"left": ONE, "right": THREE})


def test_a_camera_can_be_replaced_while_the_default_is_damaged_and_the_other_way_round(tmp_path: Path):
    folder = write_made_up_model(tmp_path / "model", Calibrations(ONE, {"left": TWO}))
    for file in ("calibration.json", "cameras/left.json"):
        (folder / file).write_bytes(b"torn")
    replace_calibration(folder, "left", calibration_bytes(TWO))
    with pytest.raises(UserError, match=r"calibration\.json is damaged"):
        read_model(folder)
    replace_calibration(folder, None, calibration_bytes(THREE))
    assert read_model(folder)[1].calibrations == Calibrations(THREE, {"left": TWO})


def test_a_threshold_can_be_taken_away_again(tmp_path: Path):
    folder = write_made_up_model(tmp_path / "model", Calibrations(None, {"left": TWO}))
    for camera, expected in (
        (None, Calibrations(ONE, {"left": TWO})),
        ("new", Calibrations(None, {"left": TWO, "new": ONE})),
    ):
        replace_calibration(folder, camera, calibration_bytes(ONE))
        assert read_model(folder)[1].calibrations == expected
        replace_calibration(folder, camera, None)
        assert read_model(folder)[1].calibrations == Calibrations(None, {"left": TWO})

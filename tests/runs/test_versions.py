"""Versions: what a change leaves behind, which of them are in force, and what an interruption or damage costs."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.errors import UserError
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.cameras import Calibrations, calibration_file, read_calibrations
from flawmap.runs.model_folder import replace_calibration
from flawmap.runs.versions import (
    CALIBRATE,
    UNDO,
    Change,
    Version,
    describe,
    folder_of,
    former_content,
    read_history,
    versions_folder,
    write_version,
)
from made_up_model import made_up_calibration, write_made_up_model, write_made_up_run

IMAGES = (("a, ä.png", "11" * 32), ("b.png", "22" * 32))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_made_up_run(tmp_path / "runs" / "x", Calibrations(made_up_calibration(0.0)))


def change_of(threshold: float | None, camera: str | None = None, undoes: int | None = None) -> Change:
    return Change(
        kind=CALIBRATE if undoes is None else UNDO,
        command=f"flawmap calibrate x good-{threshold}",
        camera=camera,
        threshold=threshold,
        former_threshold=None,
        false_alarm_rate=0.1,
        locations=("/good",),
        n_images=2,
        undoes=undoes,
    )


def record(model: Path, threshold: float, camera: str | None = None, takes_effect: bool = True) -> Version:
    """Change a threshold; an interrupted command leaves the version without its effect."""
    content = calibration_bytes(made_up_calibration(threshold))
    version = write_version(model, change_of(threshold, camera), {calibration_file(camera): content}, IMAGES)
    if takes_effect:
        replace_calibration(model, camera, content)
    return version


def take_back(model: Path, version: Version, takes_effect: bool = True) -> Version:
    camera = version.change.camera
    content = former_content(model, version, calibration_file(camera))
    change = change_of(None, camera, undoes=version.number)
    undone = write_version(model, change, {calibration_file(camera): content}, ())
    if takes_effect:
        replace_calibration(model, camera, content)
    return undone


def in_force(model: Path, camera: str | None = None) -> list[int]:
    return [version.number for version in read_history(model).in_force(camera)]


# ---- what a version holds


def test_a_version_has_everything_that_is_needed_to_go_back(model: Path):
    before = (model / "calibration.json").read_bytes()
    version = record(model, 2.0)
    folder = folder_of(model, version)
    assert folder == model.parent / "versions" / f"0001-{version.at[:10]}-calibrate"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"version.json", "images.csv", "former/calibration.json", "new/calibration.json"}
    assert (
        (folder / "former/calibration.json").read_bytes()
        == before
        == former_content(model, version, "calibration.json")
    )
    assert (folder / "new/calibration.json").read_bytes() == (model / "calibration.json").read_bytes()
    written = json.loads((folder / "version.json").read_text())
    assert written["number"] == written["format"] == 1 and written["at"].endswith("+00:00")
    assert written["change"]["command"] == "flawmap calibrate x good-2.0"
    assert (written["change"]["locations"], written["change"]["n_images"]) == (["/good"], 2)
    (changed,) = written["files"]
    assert changed["path"] == "calibration.json" and changed["before"] == hashlib.sha256(before).hexdigest()
    assert (folder / "images.csv").read_text(encoding="utf-8").splitlines() == [
        '"path","sha256"',
        *(f'"{name}","{sha256}"' for name, sha256 in IMAGES),
    ]
    assert read_history(model).versions == (version,)


def test_where_there_was_no_file_there_is_no_former_one(model: Path):
    version = record(model, 2.0, "left")
    assert former_content(model, version, "cameras/left.json") is None
    assert not (folder_of(model, version) / "former").exists()
    assert read_history(model).versions[0].files[0].before is None


def test_a_model_folder_that_was_copied_alone_keeps_its_versions_in_itself(model: Path, tmp_path: Path):
    assert versions_folder(model) == model.parent / "versions"
    for name in ("camera2", "model"):  # also if it has the name that it has in a run
        alone = write_made_up_model(tmp_path / "usb" / name, Calibrations())
        assert versions_folder(alone) == alone / "versions"
        record(alone, 2.0)
        assert in_force(alone) == [1]


def test_the_folder_is_found_from_within(model: Path, monkeypatch: pytest.MonkeyPatch):
    for here, path in ((model.parent, "model"), (model, ".")):
        monkeypatch.chdir(here)
        assert versions_folder(Path(path)) == model.parent / "versions"


def test_nothing_is_recorded_before_the_first_change(model: Path):
    assert read_history(model).versions == () and not versions_folder(model).exists()
    assert list(describe(read_history(model))) == []


def test_the_list_has_a_line_for_each(model: Path):
    first = record(model, 2.0)
    record(model, 3.5, "left")
    record(model, 9.0, takes_effect=False)
    take_back(model, first)
    (versions_folder(model) / "0007-2026-11-29-calibrate").mkdir()
    lines = list(describe(read_history(model)))
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "?"]
    assert lines[0].endswith("calibrate: none -> 2 (2 images)")
    assert lines[1].endswith("calibrate  camera left: none -> 3.5 (2 images)")
    assert lines[2].endswith("(2 images; interrupted, never in force)")
    assert lines[3].endswith("undo: none -> none (takes back version 1)")
    assert "0007-2026-11-29-calibrate: its version.json cannot be read" in lines[4]


# ---- which are in force


def test_versions_are_numbered_for_all_cameras_and_in_force_for_each(model: Path):
    for camera in (None, "left", None, "right", "left"):
        record(model, 2.0 + len(in_force(model, camera)), camera)
    assert [in_force(model, camera) for camera in (None, "left", "right", "unknown")] == [[1, 3], [2, 5], [4], []]


def test_what_was_taken_back_is_not_in_force_and_what_was_before_is(model: Path):
    first, second = record(model, 1.0), record(model, 2.0)
    take_back(model, second)
    assert in_force(model) == [1] and read_calibrations(model).default == made_up_calibration(1.0)
    take_back(model, first)
    assert in_force(model) == [] and read_calibrations(model).default == made_up_calibration(0.0)
    record(model, 3.0)
    assert in_force(model) == [5]


def test_a_change_that_took_no_effect_is_not_in_force_and_takes_no_number_from_another(model: Path):
    first = record(model, 1.0)
    record(model, 2.0, takes_effect=False)
    assert in_force(model) == [1] and read_history(model).without_effect == {2}
    third = record(model, 3.0)
    assert third.number == 3 and in_force(model) == [1, 3] and read_history(model).without_effect == {2}
    take_back(model, third, takes_effect=False)
    assert in_force(model) == [1, 3] and read_history(model).without_effect == {2, 4}
    take_back(model, third)
    assert in_force(model) == [1] and read_calibrations(model).default == made_up_calibration(1.0)
    take_back(model, first)
    assert in_force(model) == [] and read_history(model).without_effect == {2, 4}


def test_the_same_threshold_again_is_in_force(model: Path):
    for _ in range(2):
        record(model, 1.0)
    assert in_force(model) == [1, 2] and not read_history(model).without_effect


def test_an_edit_by_hand_costs_no_version(model: Path):
    record(model, 1.0)
    second = record(model, 2.0)
    (model / "calibration.json").write_bytes(calibration_bytes(made_up_calibration(77.0)))
    assert in_force(model) == [1, 2]
    undo = take_back(model, second)
    assert read_calibrations(model).default == made_up_calibration(1.0) and in_force(model) == [1]
    by_hand = former_content(model, undo, "calibration.json")
    assert by_hand == calibration_bytes(made_up_calibration(77.0))


STEPS = st.lists(st.tuples(st.sampled_from("cu"), st.sampled_from([None, "left"]), st.booleans()), max_size=12)


@settings(max_examples=15)
@given(STEPS)
def test_any_order_of_changes_interrupted_or_not_can_be_taken_back_to_the_beginning(tmp_path_factory, steps):
    model = write_made_up_run(tmp_path_factory.mktemp("v") / "x", Calibrations(made_up_calibration(0.0)))
    expected: dict[str | None, list[float | None]] = {None: [0.0], "left": [None]}
    for number, (step, camera, takes_effect) in enumerate(steps, start=1):
        if step == "c":
            record(model, float(number), camera, takes_effect)
            expected[camera] += [float(number)] if takes_effect else []
        elif len(expected[camera]) > 1:
            take_back(model, read_history(model).in_force(camera)[-1], takes_effect)
            expected[camera] = expected[camera][:-1] if takes_effect else expected[camera]
        for name, thresholds in expected.items():
            calibration = read_calibrations(model).of(name)
            assert (calibration.threshold if calibration else None) == thresholds[-1]
            assert [v.change.threshold for v in read_history(model).in_force(name)] == thresholds[1:]


# ---- damage


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"format": 1}', b"\xff"])
def test_a_damaged_version_is_named_and_costs_no_other(model: Path, content: bytes | None):
    first, second = record(model, 1.0), record(model, 2.0)
    path = folder_of(model, second) / "version.json"
    path.unlink() if content is None else path.write_bytes(content)
    history = read_history(model)
    assert history.versions == (first,) and history.damaged == (folder_of(model, second).name,)
    assert record(model, 3.0).number == 3  # its number is not given again


def test_a_newer_format_is_refused(model: Path):
    path = folder_of(model, record(model, 1.0)) / "version.json"
    path.write_text(json.dumps({"format": 2}))
    with pytest.raises(UserError, match="the format is 2") as caught:
        read_history(model)
    assert caught.value.remedy.startswith("update flawmap")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_a_damaged_copy_of_the_former_file_is_not_put_in_force(model: Path, damage):
    version = record(model, 1.0)
    damage(folder_of(model, version) / "former" / "calibration.json")
    with pytest.raises(UserError, match="version 1 cannot be taken back") as caught:
        former_content(model, version, "calibration.json")
    assert caught.value.place.endswith("former/calibration.json")


def test_what_a_killed_command_left_is_cleared_away_and_counts_as_nothing(model: Path):
    record(model, 1.0)
    leftover = versions_folder(model) / ".unfinished-0a1b2c3d"
    shutil.copytree(folder_of(model, read_history(model).versions[0]), leftover)
    (versions_folder(model) / "notes").mkdir()
    assert in_force(model) == [1] and read_history(model).damaged == ()
    assert record(model, 2.0).number == 2
    assert not leftover.exists() and (versions_folder(model) / "notes").is_dir()

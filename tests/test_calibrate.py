"""Changing and taking back a threshold: killed at every write, one process at a time, and always one in force."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from dying_disk import Disk, Killed
from flawmap.calibrate import put_in_force, undo_calibration
from flawmap.errors import UserError
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.cameras import Calibrations
from flawmap.runs.model_folder import read_model
from flawmap.runs.result_folders import exclusive
from flawmap.runs.versions import CALIBRATE, Change, read_history
from made_up_model import made_up_calibration, write_made_up_model, write_made_up_run

SLOW = [(None, False), ("left", True), ("left", False)]
CASES = [(None, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]


def calibrate(folder: Path, threshold: float, camera: str | None = None) -> None:
    """What ``flawmap calibrate`` does once it has scored the images."""
    calibration = made_up_calibration(threshold)
    former = read_model(folder)[1].calibrations.of(camera)
    change = Change(CALIBRATE, "flawmap calibrate", camera, threshold, former.threshold if former else None, 0.1)
    put_in_force(folder, change, calibration_bytes(calibration), (("a.png", "11" * 32),))


def threshold_of(folder: Path, camera: str | None) -> float | None:
    """The threshold in force, as any command opens the model; it must open."""
    calibration = read_model(folder)[1].calibrations.of(camera)
    return calibration.threshold if calibration else None


def thresholds_in_force(folder: Path, camera: str | None) -> list[float | None]:
    return [version.change.threshold for version in read_history(folder).in_force(camera)]


@pytest.mark.parametrize(("camera", "has_former"), CASES)
def test_a_calibration_that_is_killed_leaves_the_former_threshold_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, camera: str | None, has_former: bool
):
    seen, kill_at, is_done = set(), 0, False
    while not is_done:
        start = Calibrations().replaced(camera, made_up_calibration(1.0)) if has_former else Calibrations()
        folder = write_made_up_run(tmp_path / str(kill_at), start)
        with monkeypatch.context() as patch:
            disk = Disk(patch, kill_at)
            with suppress(Killed):
                calibrate(folder, 2.0, camera)
            is_done = not disk.is_dead
        now = threshold_of(folder, camera)
        seen.add(now)
        assert now in (1.0 if has_former else None, 2.0)
        assert thresholds_in_force(folder, camera) == ([2.0] if now == 2.0 else [])
        calibrate(folder, 3.0, camera)  # the next command works and clears up
        assert threshold_of(folder, camera) == 3.0
        assert undo_calibration(folder, camera).former == made_up_calibration(3.0)
        assert threshold_of(folder, camera) == now
        assert not list(folder.parent.glob("versions/.*"))
        kill_at += 1
    assert seen == {1.0 if has_former else None, 2.0} and kill_at > 8


@pytest.mark.parametrize(("camera", "has_former"), CASES)
def test_an_undo_that_is_killed_leaves_the_former_threshold_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, camera: str | None, has_former: bool
):
    before, seen, kill_at, is_done = 1.0 if has_former else None, set(), 0, False
    while not is_done:
        start = Calibrations().replaced(camera, made_up_calibration(1.0)) if has_former else Calibrations()
        folder = write_made_up_run(tmp_path / str(kill_at), start)
        calibrate(folder, 2.0, camera)
        with exclusive(folder.parent.resolve()):
            pass  # the lock's file exists, so that its creation is not counted
        with monkeypatch.context() as patch:
            disk = Disk(patch, kill_at)
            with suppress(Killed):
                undo_calibration(folder.parent, camera)
            is_done = not disk.is_dead
        now = threshold_of(folder, camera)
        seen.add(now)
        assert now in (before, 2.0)
        assert thresholds_in_force(folder, camera) == ([2.0] if now == 2.0 else [])
        if now == 2.0:  # again, to the end
            undo_calibration(folder.parent, camera)
        assert threshold_of(folder, camera) == before
        with pytest.raises(UserError, match="could be taken back"):
            undo_calibration(folder, camera)
        calibrate(folder, 3.0, camera)
        assert threshold_of(folder, camera) == 3.0 and thresholds_in_force(folder, camera) == [3.0]
        kill_at += 1
    assert seen == {before, 2.0} and kill_at > 8


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_any_write_leaves_one_threshold_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    fsync, counts = os.fsync, []
    for fail_at in range(7):
        folder = write_made_up_run(tmp_path / str(fail_at), Calibrations(made_up_calibration(1.0)))
        calls = iter(range(100))

        def full(descriptor: int, calls=calls, fail_at=fail_at) -> None:
            if next(calls) == fail_at:
                raise error
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                calibrate(folder, 2.0)
            except BaseException as raised:
                assert raised is error
                counts.append(fail_at)
        assert threshold_of(folder, None) in (1.0, 2.0)
        leftovers = [path for path in folder.parent.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
        assert leftovers == []
    assert counts == list(range(7))  # former, new, images.csv, version.json, then calibration, card, config


# ---- undo


def test_undo_says_what_was_and_what_is_and_goes_back_step_by_step(tmp_path: Path):
    folder = write_made_up_run(tmp_path / "x", Calibrations(made_up_calibration(1.0)))
    for threshold in (2.0, 3.0):
        calibrate(folder, threshold)
    calibrate(folder, 8.0, "left")
    first = undo_calibration(tmp_path / "x", command="flawmap calibrate x --undo")
    assert (first.former, first.calibration) == (made_up_calibration(3.0), made_up_calibration(2.0))
    assert first.undone.number == 2 and first.version.number == 4
    assert first.version.change.command == "flawmap calibrate x --undo" and first.version.change.undoes == 2
    second = undo_calibration(folder)
    assert (second.former, second.calibration) == (made_up_calibration(2.0), made_up_calibration(1.0))
    with pytest.raises(UserError, match="no change of the default threshold is recorded") as caught:
        undo_calibration(tmp_path / "x")
    assert caught.value.remedy == f"flawmap calibrate {tmp_path / 'x'} --versions"
    assert threshold_of(folder, "left") == 8.0
    with pytest.raises(UserError, match="no change of the threshold of camera right"):
        undo_calibration(folder, "right")
    third = undo_calibration(folder, "left")
    assert (third.former, third.calibration) == (made_up_calibration(8.0), None)
    assert read_model(folder)[1].calibrations == Calibrations(made_up_calibration(1.0))
    assert not (folder / "cameras" / "left.json").exists()


def test_the_first_threshold_ever_can_be_taken_back(tmp_path: Path):
    folder = write_made_up_model(tmp_path / "alone", Calibrations())
    calibrate(folder, 2.0)
    assert read_model(folder)[1].config.calibrated
    assert undo_calibration(folder).calibration is None
    assert threshold_of(folder, None) is None and not read_model(folder)[1].config.calibrated


def test_undo_restores_the_bytes(tmp_path: Path):
    folder = write_made_up_run(tmp_path / "x", Calibrations(made_up_calibration(1.0)))
    file = folder / "calibration.json"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))  # as an editor may leave it
    before = file.read_bytes()
    calibrate(folder, 2.0)
    undo_calibration(folder)
    assert file.read_bytes() == before


def test_what_was_damaged_is_not_put_back(tmp_path: Path):
    folder = write_made_up_run(tmp_path / "x", Calibrations(made_up_calibration(1.0)))
    (folder / "calibration.json").write_bytes(b"{torn")
    change = Change(CALIBRATE, "flawmap calibrate", None, 2.0, None, 0.1)
    put_in_force(folder, change, calibration_bytes(made_up_calibration(2.0)), ())
    with pytest.raises(UserError, match="this threshold is damaged"):
        undo_calibration(folder)
    assert threshold_of(folder, None) == 2.0 and thresholds_in_force(folder, None) == [2.0]


def test_undo_waits_for_no_other_process(tmp_path: Path):
    folder = write_made_up_run(tmp_path / "x", Calibrations(made_up_calibration(1.0)))
    calibrate(folder, 2.0)
    with exclusive(folder.parent.resolve()), pytest.raises(UserError, match="another process works in this folder"):
        undo_calibration(tmp_path / "x")
    assert threshold_of(folder, None) == 2.0
    undo_calibration(tmp_path / "x")


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_where_there_is_no_model_nothing_is_made(tmp_path: Path, path: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no such folder|no trained model"):
        undo_calibration(tmp_path / path)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]

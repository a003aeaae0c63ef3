"""Moves overwrite nothing, also to another file system."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from bright_line import DEFECT, FACTS, GOOD, BrightModel, gray

from flawmap.watch.journal import Journal
from flawmap.watch.message import Image, message_about
from flawmap.watch.moving import finish_move, save_frame


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "j.sqlite")
    yield made
    made.close()


def judged(journal: Journal, path: Path, folder: Path) -> Image:
    status = path.stat()
    image = Image("file", str(path), status.st_size, status.st_mtime_ns, "")
    (detection,) = BrightModel().predict_many([np.full((4, 4, 3), 7, np.uint8)])
    journal.add(image, message_about(image, detection, "judged", FACTS), folder)
    return image


def test_a_taken_name_gets_the_number_of_the_row_and_then_one_more(journal, tmp_path):
    out = tmp_path / "out"
    gray(out / "a.png", DEFECT)
    gray(out / "a-1.png", DEFECT)
    before = (out / "a.png").read_bytes()
    judged(journal, gray(tmp_path / "a.png", GOOD), out)
    (unmoved,) = journal.unmoved()
    assert finish_move(journal, unmoved) == out / "a-1-1.png"
    assert (out / "a.png").read_bytes() == (out / "a-1.png").read_bytes() == before
    assert journal.unmoved() == []


def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(journal, tmp_path, monkeypatch):
    out, link = tmp_path / "out", os.link

    def late(source, target):
        if not Path(target).exists() and target.name == "a.png":
            target.write_text("another program's")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    judged(journal, gray(tmp_path / "a.png", GOOD), out)
    assert finish_move(journal, journal.unmoved()[0]) == out / "a-1.png"
    assert (out / "a.png").read_text() == "another program's"


def test_to_another_file_system_a_file_is_copied_with_its_time_and_a_full_disk_leaves_it(
    journal, tmp_path, monkeypatch
):
    def other_file_system(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))

    monkeypatch.setattr(os, "link", other_file_system)
    path, out = gray(tmp_path / "a.png", GOOD), tmp_path / "out"
    content = path.read_bytes()
    os.utime(path, ns=(1, 1_700_000_000_000_000_000))
    judged(journal, path, out)
    with monkeypatch.context() as patch:

        def full(source, target):
            target.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(target))

        patch.setattr("shutil.copy2", full)
        with pytest.raises(OSError, match="No space left"):
            finish_move(journal, journal.unmoved()[0])
    assert path.read_bytes() == content and list(out.iterdir()) == []
    assert finish_move(journal, journal.unmoved()[0]) == out / "a.png"
    assert (out / "a.png").read_bytes() == content and not path.exists()
    assert (out / "a.png").stat().st_mtime_ns == 1_700_000_000_000_000_000
    assert [one.name for one in out.iterdir()] == ["a.png"]


def test_a_file_that_was_written_anew_after_its_verdict_is_not_moved_by_it(journal, tmp_path):
    path = gray(tmp_path / "a.png", GOOD)
    judged(journal, path, tmp_path / "out")
    os.utime(path, ns=(1, 1))
    assert finish_move(journal, journal.unmoved()[0]) is None
    assert path.exists() and journal.unmoved() == []


def test_a_file_that_is_gone_may_come_back(journal, tmp_path):
    path = gray(tmp_path / "a.png", GOOD)
    judged(journal, path, tmp_path / "out")
    path.rename(tmp_path / "away")
    assert finish_move(journal, journal.unmoved()[0]) is None
    (tmp_path / "away").rename(path)
    assert finish_move(journal, journal.unmoved()[0]) == tmp_path / "out" / "a.png"


def test_frames_of_one_moment_get_two_names(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    frame = Image("frame", "rtsp://host/a b", pixels.nbytes, 1_764_503_508_123_456_000, "")
    names = [save_frame(tmp_path / "out", frame, pixels).name for _ in range(2)]
    assert names == [f"rtsp-host-a-b_2025-11-30T11-51-48.123456{end}.png" for end in ("", "-2")]
    from flawmap.data.images.files import read_image

    assert np.array_equal(read_image(tmp_path / "out" / names[1]), pixels)

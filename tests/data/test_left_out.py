"""What was passed over, in words."""

import re
from pathlib import Path

import pytest

from flawmap.data.left_out import MOST_NAMED, as_records, counted, from_records, lines, refuse_left_out
from flawmap.data.sample import LeftOut
from flawmap.errors import UserError

ROOT = Path("parts")


def items(number: int, kind: str = ".gif", reason: str = "GIF is not read") -> tuple[LeftOut, ...]:
    return tuple(LeftOut(ROOT / f"{i}{kind}", reason, kind) for i in range(number))


@pytest.mark.parametrize(
    ("left_out", "text"),
    [
        ((), ""),
        (items(1), "1 left out (1 .gif)"),
        (
            items(2) + items(1, "DICOM of a kind that is not read"),
            "3 left out (2 .gif, 1 DICOM of a kind that is not read)",
        ),
        (items(2, "DICOM of a kind that is not read"), "2 left out (2 DICOMs of a kind that is not read)"),
        (items(1, "backup copy") + items(2, "recycle bin"), "3 left out (2 recycle bins, 1 backup copy)"),
        (items(2, "backup copy"), "2 left out (2 backup copies)"),
        (items(3, "file without extension"), "3 left out (3 files without extension)"),
        (items(2, "YOLO labels"), "2 left out (2 YOLO labels)"),
    ],
)
def test_kinds_are_counted_the_most_frequent_first(left_out, text):
    assert counted(left_out) == text


def test_a_few_of_a_kind_are_named_and_the_rest_are_counted(tmp_path):
    (tmp_path / "bin").mkdir()
    found = lines((*items(8), LeftOut(tmp_path / "bin", "deleted files", "recycle bin")), ROOT)
    assert found[:MOST_NAMED] == [f"{i}.gif: GIF is not read" for i in range(MOST_NAMED)]
    assert found[MOST_NAMED:] == ["and 3 more .gif: GIF is not read", f"{tmp_path.as_posix()}/bin/: deleted files"]
    assert lines(items(1)) == ["parts/0.gif: GIF is not read"]


def test_records_hold_everything():
    left_out = items(8) + items(1, "mask", "beside its image")
    records = as_records(left_out)
    assert records[-1] == {"path": str(ROOT / "0mask"), "reason": "beside its image", "kind": "mask"}
    assert from_records(records) == left_out


def test_strict_refuses_anything():
    refuse_left_out((), "parts")
    with pytest.raises(UserError, match=re.escape("2 left out (2 .gif): parts/0.gif: GIF is not read")) as caught:
        refuse_left_out(items(2), "parts")
    assert caught.value.place == "parts" and "--strict" in caught.value.remedy

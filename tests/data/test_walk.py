"""What a walk finds in a folder, and what it says about everything else."""

import os
from pathlib import Path

import pytest

from assertions import mistake
from flawmap.data.walk import Listing, visible_folders, walk, without_companions
from flawmap.runs.result_log import LINE_START, LINES
from images import noise, write_image

APPLE_DOUBLE = b"\x00\x05\x16\x07"


def touch(folder: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def names(listing: Listing[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in listing.images]


def left_out(listing: Listing[Path], root: Path) -> dict[str, str]:
    return {item.path.relative_to(root).as_posix(): item.kind for item in listing.left_out}


# ---- images


def test_images_are_found_by_extension_in_any_case_and_sorted(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", "c.JPEG", "é.Bmp", "d.tif", "e.TIFF", "notes.txt", "f.gif")
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.jpg", "b.PNG", "c.JPEG", "d.tif", "e.TIFF", "é.Bmp"]
    assert left_out(found, tmp_path) == {"f.gif": ".gif", "notes.txt": ".txt"}


@pytest.mark.parametrize("name", ["no_ending", "IM000001", "scan.ima", "camera.data", "photo.jpg_large", "x.001"])
def test_a_file_of_another_extension_is_an_image_by_its_content(name, tmp_path):
    png = write_image(tmp_path / "elsewhere" / "1.png", noise(0)).read_bytes()
    touch(tmp_path / "new", name, content=png)
    touch(tmp_path / "new", f"other_{name}", content=b"plain text")
    found = walk(tmp_path / "new")
    assert names(found, tmp_path / "new") == [name]
    assert list(left_out(found, tmp_path / "new")) == [f"other_{name}"]


def test_dicom_is_found_by_content(tmp_path):
    touch(tmp_path, "I0000003", "a.dicom", content=bytes(128) + b"DICM" + bytes(8))
    uid = b"1.2.840.10008.1.3.10"
    touch(tmp_path, "DICOMDIR", "list.dcm", content=bytes(128) + b"DICM\x02\0\x02\0UI\x14\0" + uid)
    touch(tmp_path, "empty.dcm")  # to be reported as unreadable
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["I0000003", "a.dicom", "empty.dcm"]
    kind = "DICOM of a kind that is not read"
    assert left_out(found, tmp_path) == {"DICOMDIR": kind, "list.dcm": kind}


def test_sub_folders_are_read_if_asked_for(tmp_path):
    touch(tmp_path, "a.png", "day 2/b.png", "day 2/camera/c.png", "day 1/d.png", "folder.png/e.png")
    assert names(walk(tmp_path, recursive=False), tmp_path) == ["a.png"]
    every = ["a.png", "day 1/d.png", "day 2/b.png", "day 2/camera/c.png", "folder.png/e.png"]
    assert names(walk(tmp_path), tmp_path) == every


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "data/real/b.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "linked", target_is_directory=True)
    os.symlink(tmp_path / "data", tmp_path / "data" / "real" / "up", target_is_directory=True)
    os.symlink(tmp_path / "data" / "real", tmp_path / "data" / "latest", target_is_directory=True)
    os.symlink(tmp_path / "elsewhere" / "a.png", tmp_path / "data" / "one.png")
    os.symlink("itself", tmp_path / "data" / "itself")
    found = walk(tmp_path / "data")
    assert names(found, tmp_path / "data") == ["linked/a.png", "one.png", "real/b.png"]
    assert left_out(found, tmp_path / "data") == {"latest": "link", "real/up": "link", "itself": "broken link"}


def test_broken_links_to_images_are_images_to_be_reported(tmp_path):
    os.symlink(tmp_path / "unplugged" / "a.png", tmp_path / "a.png")
    os.symlink(tmp_path / "b.png", tmp_path / "b.png")
    assert names(walk(tmp_path), tmp_path) == ["a.png", "b.png"]


def test_nine_hundred_nested_folders_are_read(tmp_path):
    deepest = tmp_path.joinpath(*"d" * 900)
    deepest.mkdir(parents=True)
    write_image(deepest / "1.png", noise(0))
    assert walk(tmp_path).images == (deepest / "1.png",)


def test_more_folders_than_a_path_can_name_are_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "1.png")
    for _ in range(22):  # 22 names of 200 characters are more than Linux takes in one path
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["1.png"]
    assert [item.kind for item in found.left_out] == ["folder"]
    assert "too long" in found.left_out[0].reason


# ---- what is passed over


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "thumbnail folder"),
        (".@__thumb/default_a.png", "thumbnail folder"),
        ("#recycle/a.png", "recycle bin"),
        ("$RECYCLE.BIN/$R1A2B3C.png", "recycle bin"),
        (".Trash-1000/files/a.png", "recycle bin"),
        ("System Volume Information/x", "system folder"),
        ("lost+found/a.png", "system folder"),
        ("__MACOSX/._a.png", "system folder"),
        (".ipynb_checkpoints/a-checkpoint.png", "system folder"),
        (".cache/a.png", "hidden folder"),
    ],
)
def test_folders_of_a_system_are_passed_over_and_said(name, kind, tmp_path):
    touch(tmp_path, "a.png", name, f"day 1/{name}")
    folder = name.partition("/")[0]
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.png"]
    assert left_out(found, tmp_path) == {folder: kind, f"day 1/{folder}": kind}
    assert visible_folders(tmp_path) == [tmp_path / "day 1"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Thumbs.db", "system file"),
        ("desktop.ini", "system file"),
        ("._a.png", "hidden file"),
        (".a.jpg", "hidden file"),
        ("a.png.part", "unfinished file"),
        ("a.png.crdownload", "unfinished file"),
        ("a.png~", "backup copy"),
        ("a.png.bak", "backup copy"),
        ("notes.docx", ".docx"),
        ("README", "file without extension"),
    ],
)
def test_files_that_are_no_pictures_of_parts_are_said(name, kind, tmp_path):
    png = write_image(tmp_path / "a.png", noise(0)).read_bytes()
    touch(tmp_path, name, content=b"text" if kind in (".docx", "file without extension") else png)
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.png"] and left_out(found, tmp_path) == {name: kind}


def test_hidden_files_that_are_no_images_are_not_mentioned(tmp_path):
    touch(tmp_path, "a.png", ".DS_Store", ".gitignore", ".cache/index")
    assert walk(tmp_path) == Listing((tmp_path / "a.png",))


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b")
    assert left_out(walk(tmp_path), tmp_path) == {"a.png": "special file", "b": "special file"}


def test_what_flawmap_has_written_is_passed_over(tmp_path):
    touch(tmp_path, "a.png", "detections/0000_a.png", "runs/x/samples/1.png", "runs/x/recipe.yaml")
    touch(tmp_path, "runs/x/data_manifest.csv", "later/maps/1.png", "later/per_image.csv", "later/metrics.json")
    touch(tmp_path, f"detections/{LINES}", content=LINE_START + b'"a.png"}\n')
    touch(tmp_path, "mine/b.png")
    touch(tmp_path, f"mine/{LINES}", content=b'{"id": 1}\n')
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.png", "mine/b.png"]
    ours = ["detections", "later", f"mine/{LINES}", "runs/x"]
    assert list(left_out(found, tmp_path)) == ours
    assert [item.reason for item in found.left_out if item.path.is_dir()] == [
        "results of an earlier detection",
        "written by flawmap: an evaluation of flawmap evaluate",
        "written by flawmap: a run of flawmap train",
    ]


def test_annotations_of_other_tools_and_archives_are_named(tmp_path):
    touch(tmp_path, "a.png")
    touch(tmp_path, "a.json", content=b'{"shapes": [], "imagePath": "a.png"}')
    touch(tmp_path, "images.zip", content=b"PK\3\4")
    assert left_out(walk(tmp_path), tmp_path) == {"a.json": "labelme annotations", "images.zip": "zip archive"}


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tmp_path)
    assert names(found, tmp_path) == ["a.png"] and left_out(found, tmp_path) == {"locked": "folder"}
    assert found.left_out[0].reason == "the folder cannot be read: Permission denied"
    with mistake(
        "the folder cannot be read: Permission denied", tmp_path / "locked", "check its name and your permissions"
    ):
        walk(tmp_path / "locked")


# ---- what lies beside its image


@pytest.mark.parametrize(
    ("companion", "kind"),
    [
        ("a_mask.png", "mask"),
        ("a_MASK.bmp", "mask"),
        ("a-gt.png", "mask"),
        ("a.seg.tif", "mask"),
        ("a_ground_truth.png", "mask"),
        ("a_label.bmp", "mask"),
        ("a_segmentation.png", "mask"),
        ("a_mask_2.png", "mask"),
        ("mask_a.png", "mask"),
        ("a_overlay.jpg", "mask"),
        ("a_thumb.jpg", "thumbnail"),
    ],
)
def test_masks_beside_their_images_are_passed_over(companion, kind, tmp_path):
    touch(tmp_path, "A.png" if companion.startswith("mask") else "a.png", companion)
    found = without_companions(walk(tmp_path))
    assert len(found.images) == 1 and left_out(found, tmp_path) == {companion: kind}


def test_a_name_like_that_of_a_mask_is_an_image_without_its_image(tmp_path):
    touch(tmp_path, "a_mask.png", "label_7.png", "gt.png", "mask.png", "b.png", "sub/b_mask.png", "_mask.png")
    assert without_companions(walk(tmp_path)) == walk(tmp_path)

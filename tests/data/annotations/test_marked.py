"""Good images that an annotation file marks a defect on."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from annotation_files import coco, labelme, rectangle, voc, write_images, write_text
from assertions import explained
from flawmap.data.annotations.marked import LEARNED_AS_GOOD, refuse_marked
from flawmap.data.annotations.to_manifest import write_manifest_of
from flawmap.data.open_data import open_training_data
from flawmap.data.sample import FileRemark
from flawmap.recipe.settings import DataSettings
from images import write_image

NAMES = [f"{number}.png" for number in range(4)]
BOX, LABEL = {"bbox": [2, 3, 4, 5]}, "0 0.5 0.5 0.25 0.5\n"
MARKED = rectangle((1, 1), (4, 4))


def refuse(folder: Path) -> None:
    refuse_marked(folder, sorted(folder.rglob("*.png")))


@pytest.mark.parametrize(
    ("images", "file", "content", "name"),
    [
        (".", "annotations.json", coco(NAMES, BOX), "COCO annotations"),
        ("images", "annotations.json", coco(NAMES, BOX), "COCO annotations"),
        ("images", "annotations/all.json", coco(NAMES, BOX), "COCO annotations"),
        ("train", "train/_annotations.coco.json", coco(NAMES, BOX), "COCO annotations"),
        ("images/train", "labels/train/0.txt", LABEL, "YOLO labels"),
        ("train/images", "train/labels/0.txt", LABEL, "YOLO labels"),
        (".", "0.txt", LABEL, "YOLO labels"),
        ("JPEGImages", "Annotations/0.xml", voc("0.png", ("hole", (1, 1, 3, 3))), "Pascal VOC annotations"),
        (".", "0.json", labelme("0.png", MARKED), "labelme annotations"),
        ("parts", "parts/json/0.json", labelme("..\\\\0.png", MARKED), "labelme annotations"),
    ],
)
def test_a_marked_image_is_refused_wherever_its_annotations_lie(images, file, content, name, tmp_path):
    root = tmp_path / "my set"
    folder = root / images
    write_images(folder, NAMES)
    path = write_text(root / file, content)
    error = explained(lambda: refuse(folder))
    assert error.problem == f"{name} mark a defect on 1 of 4 good images, first: {folder / '0.png'}"
    assert error.place == str(path)
    assert ": flawmap manifest '" in error.remedy and f"{path.name} is about other images, move it away" in error.remedy


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("annotations.json", coco(NAMES)),
        ("annotations.json", coco(NAMES, BOX | {"category_id": 3})),
        ("annotations.json", coco(["other/0.png", "other.png"], BOX, BOX | {"image_id": 2})),
        ("0.json", labelme("0.png")),
        ("../elsewhere/annotations.json", coco(NAMES, BOX)),
        ("../notes.json", {"images": 3}),
    ],
)
def test_files_that_mark_no_defect_on_these_images(file, content, tmp_path):
    write_images(tmp_path / "set" / "good", NAMES)
    write_images(tmp_path / "set" / "good" / "other", NAMES[:1])
    write_text(tmp_path / "set" / "good" / file, content)
    refuse_marked(tmp_path / "set" / "good", [tmp_path / "set" / "good" / name for name in NAMES])


def test_a_file_that_cannot_be_read_may_mark_anything(tmp_path):
    write_images(tmp_path, NAMES)
    path = write_text(tmp_path / "annotations.json", coco(NAMES, BOX | {"image_id": 9}))
    error = explained(lambda: refuse(tmp_path))
    assert error.problem == "there is no image with the id 9" and error.place.startswith(str(path))
    assert error.remedy.endswith("or move the file away if it is not about these images")


@pytest.mark.parametrize(
    ("here", "location"), [("set/good", "."), ("set/good/day", ".."), ("set", "good"), ("", "set/x/../good")]
)
def test_a_location_relative_to_the_current_folder(here, location, tmp_path, monkeypatch):
    write_images(tmp_path / "set" / "good", NAMES)
    for name in ("good/day", "x"):
        (tmp_path / "set" / name).mkdir()
    write_text(tmp_path / "set" / "annotations.json", coco(NAMES, BOX))
    monkeypatch.chdir(tmp_path / here)
    assert "mark a defect on 1 of 4 good images" in explained(lambda: refuse(Path(location))).problem


def test_files_of_other_data_above_are_not_opened(tmp_path):
    write_images(tmp_path / "set" / "good", NAMES)
    write_text(tmp_path / "set" / "annotations" / "a.json", coco(["x.png"], BOX))
    write_text(tmp_path / "set" / "other" / "damaged.json", coco(NAMES, BOX | {"image_id": 9}))
    refuse(tmp_path / "set" / "good")


def test_annotations_that_are_not_read_are_remarked(tmp_path):
    write_images(tmp_path, NAMES)
    write_text(tmp_path / "a.xml", "<annotations><image name='0.png'/></annotations>")
    write_text(tmp_path / "b" / "train.manifest", '{"source-ref": "s3://x/0.png"}')
    write_text(tmp_path / "old.zip", "PK\x03\x04")
    remarks = refuse_marked(tmp_path, [tmp_path / name for name in NAMES])
    assert [remark.key for remark in remarks] == ["a.xml", "b/train.manifest"]
    assert remarks[0].text == f"CVAT annotations are not read: {LEARNED_AS_GOOD}"


@pytest.mark.parametrize("location", ["", "images/train"])
def test_training_on_a_folder_of_another_tool_names_the_way(location, tmp_path):
    root = tmp_path / "my set"
    write_images(root / "images" / "train", NAMES)
    write_text(root / "labels" / "train" / "0.txt", LABEL)
    error = explained(lambda: open_training_data(root / location, DataSettings()))
    words = shlex.split(error.remedy[error.remedy.rindex("flawmap ") :])
    assert words == ["flawmap", "manifest", str(root), "--output", "manifest.csv"]
    assert write_manifest_of(Path(words[2]), tmp_path / words[4]).anomalous == 1
    write_text(root / "labels" / "train" / "0.txt", "")
    assert len(open_training_data(root / "images" / "train", DataSettings()).images) == 4


def test_a_mask_beside_a_good_image_that_marks_something_is_remarked(tmp_path):
    write_images(tmp_path, NAMES)
    marking = np.zeros((12, 16), np.uint8)
    marking[2:5, 3:9] = 255
    write_image(tmp_path / "0_mask.png", np.zeros((12, 16), np.uint8))
    assert open_training_data(tmp_path, DataSettings()).remarks == ()
    write_image(tmp_path / "2_mask.png", marking)
    (tmp_path / "3_mask.png").write_bytes(b"no image")
    data = open_training_data(tmp_path, DataSettings())
    text = (
        "1 mask beside a good image marks something: if it is a defect, the image beside it is learned as good; move "
        "such images to another folder, or write a manifest.csv in which they have label 1, split test and their mask"
    )
    assert data.remarks == (FileRemark("2_mask.png", text),)
    write_image(tmp_path / "1_gt.png", marking)
    (remark,) = open_training_data(tmp_path, DataSettings()).remarks
    assert remark.key == "1_gt.png" and remark.text.startswith("2 masks beside good images mark something")

"""Annotations become a manifest that can be used at once."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation_files import HEIGHT, WIDTH, coco, labelme, rectangle, voc, write_images, write_text
from assertions import explained, files_and_bytes, mistake
from flawmap.data.annotations.to_manifest import ManifestReport, write_manifest_of
from flawmap.data.images.truth import read_truth
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.sample import Boxes, LabelledImage
from flawmap.recipe.settings import DataSettings
from images import noise, pixels_of, write_image

NAMES = [f"{number:02d}.png" for number in range(30)]
BOX = {"bbox": [2, 3, 4, 5]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """30 images in the folder images."""
    write_images(tmp_path / "set" / "images", NAMES)
    return tmp_path / "set"


def converted(
    root: Path, good: bool = True, masks: Path | None = None, group_by: str | None = None
) -> tuple[ManifestReport, list[dict[str, str]]]:
    """The report, and the rows of the manifest beside the folder."""
    output = root.parent / "manifest.csv"
    report = write_manifest_of(root, output, good, masks, group_by)
    with output.open(encoding="utf-8", newline="") as file:
        return report, list(csv.DictReader(file))


def labelled_images(root: Path) -> dict[str, LabelledImage]:
    samples = CsvManifest().test(root.parent / "manifest.csv", DataSettings(), {}).images
    return {sample.path.name: sample for sample in samples}


def test_defects_go_to_the_test_with_their_boxes(root):
    annotations = [BOX, {"bbox": [1, 1, 2, 2], "category_id": 2}, BOX | {"image_id": 2}]
    write_text(root / "annotations.json", coco(NAMES[:3], *annotations))
    before = files_and_bytes(root)
    report, rows = converted(root, good=False)
    assert rows == [
        {
            "image": "set/images/00.png",
            "split": "test",
            "label": "1",
            "kind": "hole+scratch",
            "boxes": '[["scratch", 2, 3, 4, 5], ["hole", 1, 1, 2, 2]]',
        },
        {"image": "set/images/01.png", "split": "test", "label": "1", "kind": "scratch"}
        | {"boxes": '[["scratch", 2, 3, 4, 5]]'},
    ]
    assert report == ManifestReport("COCO annotations", 1, 2, {"hole": 1, "scratch": 2}, 0, 0, 28, ())
    assert labelled_images(root)["01.png"].truth == Boxes(((2.0, 3.0, 4.0, 5.0),))
    assert files_and_bytes(root) == before


def test_images_without_annotations_are_good_only_if_the_user_says_so(root):
    write_text(root / "annotations.json", coco(NAMES[:3], BOX))
    report, rows = converted(root)
    assert (report.anomalous, report.good_train, report.good_test, report.left_out) == (1, 23, 6, 0)
    good = {row["image"]: row["split"] for row in rows if row["label"] == "0"}
    assert len(good) == 29 and set(good.values()) == {"train", "test"}
    assert all(row["kind"] == row["boxes"] == "" for row in rows if row["label"] == "0")
    manifest = root.parent / "manifest.csv"
    assert len(CsvManifest().training(manifest, DataSettings(), {}).images) == 23
    assert len(CsvManifest().test(manifest, DataSettings(), {}).images) == 7


def test_which_good_images_are_for_the_test_does_not_depend_on_the_defects(root):
    tests = []
    for name in ("00.png", "29.png"):
        write_text(root / "annotations.json", coco([name], BOX))
        _, rows = converted(root)
        tests.append({row["image"] for row in rows if (row["label"], row["split"]) == ("0", "test")})
        (root.parent / "manifest.csv").unlink()
    assert len(tests[0]) == 6 and len(tests[0] - tests[1]) <= 1


PATIENTS = [f"P{number // 3:02d}_{number % 3}.png" for number in range(45)]  # 15 patients with three images each


def sides(rows: list[dict[str, str]]) -> dict[str, set[str]]:
    """The splits in which the images of each group are."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["group"], set()).add(row["split"])
    return found


def test_a_patient_is_for_training_or_for_the_test(tmp_path):
    """45 images of 15 patients, P00 with a defect: P00 and two more are for the test."""
    root = tmp_path / "set"
    write_images(root, PATIENTS)
    write_text(root / "annotations.json", coco(PATIENTS[:1], BOX))
    report, rows = converted(root, group_by="{group}_*")
    assert {row["group"] for row in rows} == {f"P{number:02d}" for number in range(15)}
    assert all(row["image"].startswith(f"set/{row['group']}_") for row in rows)
    assert all(len(splits) == 1 for splits in sides(rows).values()) and sides(rows)["P00"] == {"test"}
    assert (report.anomalous, report.good_train, report.good_test) == (1, 36, 8)
    assert report.groups == "15 groups ({group}_*), largest 3 images"
    manifest = tmp_path / "manifest.csv"
    trained = {image.group for image in CsvManifest().training(manifest, DataSettings(), {}).images}
    tested = {image.group for image in CsvManifest().test(manifest, DataSettings(), {}).images}
    assert (len(trained), len(tested), trained & tested) == (12, 3, set())


def test_a_patient_whom_a_list_splits_is_for_the_test(tmp_path):
    root = tmp_path / "set"
    write_images(root, PATIENTS)
    write_text(root / "instances_train.json", coco(PATIENTS[:31], BOX))
    write_text(root / "instances_val.json", coco(PATIENTS[31:]))
    report, rows = converted(root, group_by="{group}_*")
    assert sides(rows) == {f"P{number:02d}": {"train" if 0 < number < 10 else "test"} for number in range(15)}
    assert (report.good_train, report.good_test) == (27, 17)


def test_without_groups_a_manifest_has_no_column_for_them(root):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    report, rows = converted(root, group_by="image")
    assert report.groups is None and "group" not in rows[0]


def test_groups_that_cannot_be_split(root):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    with mistake("data.group_by=folder makes fewer than 5 groups of 30 images", root, "--set data.group_by=image"):
        converted(root, group_by="folder")
    with mistake("no image matches data.group_by={group}_*, for example not images/00.png", root, "P12_3.png"):
        converted(root, group_by="{group}_*")
    assert not (root.parent / "manifest.csv").exists()


@pytest.mark.parametrize(("number", "for_test"), [(20, 0), (21, 1), (23, 3), (25, 5), (28, 6)])
def test_enough_good_images_are_left_to_train(number, for_test, tmp_path):
    root = tmp_path / "set"
    write_images(root, NAMES[: number + 1])
    write_text(root / "00.json", labelme("00.png", rectangle((1, 1), (3, 3))))
    report, _ = converted(root)
    assert (report.good_train, report.good_test) == (number - for_test, for_test)


def test_the_splits_of_folders_count_for_good_images(tmp_path):
    root = tmp_path / "set"
    for split, names in (("train", NAMES[:20]), ("val", NAMES[20:25]), ("test", NAMES[25:])):
        write_images(root / "images" / split, names)
    write_text(root / "labels" / "train" / "00.txt", "0 0.5 0.5 0.25 0.5\n")
    _, rows = converted(root)
    splits = {row["image"].removeprefix("set/images/"): row["split"] for row in rows}
    assert splits["train/00.png"] == "test"
    assert all(splits[f"train/{name}"] == "train" for name in NAMES[1:20])
    assert all(splits[f"val/{name}"] == "test" for name in NAMES[20:25])
    assert all(splits[f"test/{name}"] == "test" for name in NAMES[25:])


def test_the_splits_of_lists_count_for_good_images(root):
    write_text(root / "instances_train.json", coco(NAMES[:20], BOX))
    write_text(root / "instances_val.json", coco(NAMES[20:]))
    report, rows = converted(root)
    assert report.num_files == 2
    good = [row["split"] for row in rows if row["label"] == "0"]
    assert good == ["train"] * 19 + ["test"] * 10


def test_shares_become_pixels(root):
    write_text(root / "labels" / "00.txt", "0 0.5 0.5 0.25 0.5\n")
    write_text(root / "labels" / "01.txt", "1 0.0 0.0 0.5 0.0 0.5 1.0 0.0 1.0\n")
    _, rows = converted(root, good=False)
    assert [json.loads(row["boxes"]) for row in rows] == [[["class 0", 6, 3, 4, 6]], [["class 1", 0, 0, 8, 12]]]


def test_outlines_become_boxes_and_it_is_said(root):
    write_text(
        root / "annotations.json", coco(NAMES[:2], {"segmentation": [[2, 2, 6, 2, 6, 6]]}, BOX | {"image_id": 2})
    )
    report, rows = converted(root, good=False)
    assert [json.loads(row["boxes"]) for row in rows] == [[["scratch", 2, 2, 4, 4]], [["scratch", 2, 3, 4, 5]]]
    assert report.remarks == ("outlines became boxes in 1 image: --masks FOLDER keeps them",)


def test_masks_keep_outlines_run_lengths_and_boxes(root):
    runs = {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 5, HEIGHT * WIDTH - 5]}, "image_id": 2}
    triangle = {"segmentation": [[2, 2, 6, 2, 6, 6]]}
    write_text(
        root / "annotations.json", coco(NAMES[:3], triangle, {"bbox": [10, 0, 2, 2]}, runs, BOX | {"image_id": 3})
    )
    report, rows = converted(root, good=False, masks=root.parent / "masks")
    assert report.remarks == ()
    assert [row["mask"] for row in rows] == [f"masks/images/{name}" for name in NAMES[:3]] and "boxes" not in rows[0]
    expected = np.zeros((3, HEIGHT, WIDTH), bool)
    for row in range(2, 6):
        expected[0, row, row:6] = True
    expected[0, 0:2, 10:12] = True
    expected[1, 0:5, 0] = True
    expected[2, 3:8, 2:6] = True
    for sample, pixels in zip(labelled_images(root).values(), expected, strict=True):
        np.testing.assert_array_equal(read_truth(sample, HEIGHT, WIDTH), pixels)
    assert {path.name for path in root.parent.iterdir()} == {"set", "masks", "manifest.csv"}


def test_masks_of_images_that_differ_in_their_ending_only(tmp_path):
    root = tmp_path / "set"
    write_images(root, ["a.png"])
    write_image(root / "a.jpg", noise(1, HEIGHT, WIDTH))
    write_text(root / "annotations.json", coco(["a.png", "a.jpg"], BOX, BOX | {"image_id": 2}))
    _, rows = converted(root, masks=tmp_path / "masks")
    assert sorted(row["mask"] for row in rows) == ["masks/a.png", "masks/a.png.png"]


def test_a_mask_of_classes_without_its_void_outline(root):
    write_text(root / "Annotations" / "00.xml", voc("00.png"))
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[1:7, 1:7], classes[2:6, 2:6] = 255, 3
    write_image(root / "SegmentationClass" / "00.png", classes)
    report, rows = converted(root, masks=root.parent / "masks")
    assert (report.anomalous, report.kinds) == (1, {"anomalous": 1})
    assert rows[0]["kind"] == "anomalous" and len(rows) == 30
    np.testing.assert_array_equal(pixels_of(root.parent / rows[0]["mask"]) > 0, classes == 3)


@pytest.mark.parametrize("has_masks", [False, True])
def test_a_defect_of_unknown_place_has_no_truth(has_masks, root):
    point = {"label": "scratch", "points": [[3, 3]], "shape_type": "point"}
    write_text(root / "images" / "00.json", labelme("00.png", rectangle((1, 1), (4, 4)), point))
    report, (row,) = converted(root, good=False, masks=root.parent / "masks" if has_masks else None)
    assert (row["label"], row["mask" if has_masks else "boxes"]) == ("1", "")
    (remark,) = report.remarks
    assert remark.startswith("1 image with a point, a line or an empty box, first ") and "00.png" in remark
    assert labelled_images(root)["00.png"].truth is None


@pytest.mark.parametrize(
    ("box", "pixels", "is_remarked"),
    [
        ([-1, -0.5, 5, 4], [0, 0, 4, 4], False),
        ([10, 8, 7, 5], [10, 8, 6, 4], False),
        ([10, 8, 12, 10], [10, 8, 6, 4], True),
        ([2.3, 2.3, 0.2, 0.2], [2, 2, 1, 1], False),
        ([15.8, 11.9, 0.1, 0.1], [15, 11, 1, 1], False),
        ([2.5, 2.4, 3, 3], [3, 2, 3, 3], False),
    ],
)
def test_boxes_are_whole_pixels_inside_the_image(box, pixels, is_remarked, root):
    write_text(root / "annotations.json", coco(NAMES[:1], {"bbox": box}))
    report, (row,) = converted(root, good=False)
    assert json.loads(row["boxes"]) == [["scratch", *pixels]]
    assert [
        remark.startswith("marks leave the image in 1 image and were cut off, by 6 px in ") for remark in report.remarks
    ] == ([True] if is_remarked else [])
    truth = read_truth(labelled_images(root)["00.png"], HEIGHT, WIDTH)
    assert truth is not None and truth.sum() == pixels[2] * pixels[3]


@pytest.mark.parametrize("box", [[20, 2, 3, 3], [-5, 2, 5, 3], [2, 12, 3, 3], [1e300, 0, 1, 1], [0, 0, 1e12, 1e12]])
def test_a_mark_outside_its_image(box, root):
    file = write_text(root / "annotations.json", coco(NAMES[:1], {"bbox": box}))
    error = explained(lambda: converted(root))
    assert error.problem.startswith("a mark with x, y, width and height [") and error.problem.endswith("has 16 x 12 px")
    assert error.place == f"{file}: annotations[0]"
    assert not (root.parent / "manifest.csv").exists()


def test_an_image_of_another_size_than_the_annotated_one(root):
    file = write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    image = write_image(root / "images" / "00.png", noise(0, 24, 32))
    problem = "the annotations are for 16 x 12 px, and the image has 32 x 24"
    with mistake(problem, f"{image}, annotated in {file}", "annotate this image, or put back the one"):
        converted(root)


def write_turned(path: Path, orientation: int, height: int = HEIGHT, width: int = WIDTH) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_image(path, noise(0, height, width), exif=exif)


def test_images_that_are_turned_by_exif(root):
    write_turned(root / "images" / "00.png", 6, WIDTH, HEIGHT)  # upright, it has the usual size
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    report, _ = converted(root)
    assert report.remarks == ()
    (root.parent / "manifest.csv").unlink()
    write_turned(root / "images" / "00.png", 3)
    report, _ = converted(root)
    (remark,) = report.remarks
    assert remark.startswith("1 image turned by EXIF, first ") and "taken for those of the upright image" in remark
    (root.parent / "manifest.csv").unlink()
    write_turned(root / "images" / "00.png", 6)
    error = explained(lambda: converted(root))
    assert error.problem.endswith("they were made without the EXIF orientation of the file")
    assert error.remedy.startswith("save the image upright")


def test_classes_that_are_called_good_mark_good_parts(root):
    good = {"bbox": [0, 0, 16, 12], "category_id": 3}
    write_text(root / "annotations.json", coco(NAMES[:3], good, good | {"image_id": 2}, BOX | {"image_id": 2}))
    report, rows = converted(root, good=False)
    assert [(row["label"], row["kind"]) for row in rows] == [("0", ""), ("1", "scratch")]
    assert report.remarks == ("the classes Good mark good parts, not defects",)
    assert (report.left_out, report.good_train) == (28, 1)
    assert json.loads(rows[1]["boxes"]) == [["scratch", 2, 3, 4, 5]]


def test_one_file_or_a_folder_of_annotations_alone_may_be_given(root):
    file = write_text(root / "annotations" / "all.json", coco(NAMES[:1], BOX))
    for number, location in enumerate((root, file, file.parent)):
        output = root.parent / f"{number}.csv"
        write_manifest_of(location, output, True)
        assert len(output.read_text(encoding="utf-8").splitlines()) == 31
    assert len({(root.parent / f"{number}.csv").read_text(encoding="utf-8") for number in range(3)}) == 1


def test_a_manifest_in_another_folder(root, tmp_path, monkeypatch):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    monkeypatch.chdir(tmp_path)
    write_manifest_of(Path("set"), Path("new") / "lists" / "a.csv")
    row = (tmp_path / "new" / "lists" / "a.csv").read_text(encoding="utf-8").splitlines()[1]
    assert row.startswith("../../set/images/00.png,test,1,scratch,")


@pytest.mark.parametrize(("here", "location"), [("set", "."), ("set/images", ".."), ("", "set"), ("set", "../set/")])
def test_a_location_relative_to_the_current_folder(here, location, root, tmp_path, monkeypatch):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    monkeypatch.chdir(tmp_path / here)
    write_manifest_of(Path(location), Path("new.csv"), True)
    manifest = tmp_path / here / "new.csv"
    assert len(CsvManifest().training(manifest, DataSettings(), {}).images) == 23


def test_nothing_is_overwritten(root):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    output, masks = root.parent / "manifest.csv", root.parent / "masks"
    output.write_text("mine")
    with mistake("it exists already; nothing is overwritten", output, "--output with another name"):
        write_manifest_of(root, output)
    masks.mkdir()
    with mistake("it exists already; nothing is overwritten", masks, "--masks with another name"):
        write_manifest_of(root, root.parent / "new.csv", masks=masks)
    assert output.read_text() == "mine" and not (root.parent / "new.csv").exists()


def test_a_failure_leaves_neither_masks_nor_a_manifest(root, monkeypatch):
    write_text(root / "annotations.json", coco(NAMES[:2], BOX, BOX | {"image_id": 2}))
    before = files_and_bytes(root.parent)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flawmap.data.annotations.to_manifest.atomic_write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_manifest_of(root, root.parent / "manifest.csv", masks=root.parent / "masks")
    assert files_and_bytes(root.parent) == before


def test_annotations_of_two_formats(root):
    write_text(root / "annotations.json", coco(NAMES[:1], BOX))
    write_text(root / "labels" / "00.txt", "0 0.5 0.5 0.25 0.5\n")
    error = explained(lambda: converted(root))
    assert error.problem.startswith("annotations of several formats: COCO annotations (")
    flawmap, verb, location, option, output = shlex.split(error.remedy.partition("for example ")[2])
    assert (flawmap, verb, location, option) == ("flawmap", "manifest", str(root / "annotations.json"), "--output")
    assert write_manifest_of(Path(location), Path(output)).format == "COCO annotations"
    Path(output).unlink()
    write_text(root / "b.json", coco(NAMES[1:2], BOX))
    write_text(root / "labels" / "01.txt", "0 0.5 0.5 0.25 0.5\n")
    location = shlex.split(explained(lambda: converted(root)).remedy.partition("for example ")[2])[2]
    assert location == str(root / "labels") and write_manifest_of(Path(location), Path(output)).anomalous == 2


def test_an_image_that_is_annotated_twice(root):
    first = write_text(root / "a.json", coco(NAMES[:1], BOX))
    second = write_text(root / "b.json", coco(NAMES[:1], BOX))
    image = root / "images" / "00.png"
    with mistake(f"{image} is annotated in {first} and in {second}", second, "remove one of them"):
        converted(root)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("annotations.xml", "<annotations><image name='a'/></annotations>", "annotations.xml: CVAT annotations"),
        ("via.csv", "filename,region_shape_attributes\n", "via.csv: VIA annotations"),
        ("set.zip", "PK\x03\x04", "set.zip: zip archive"),
        ("notes.txt", "none", "no annotation files"),
    ],
)
def test_no_annotations_of_a_format_that_is_read(name, content, problem, root):
    write_text(root / name, content)
    assert explained(lambda: converted(root)).problem == problem


def test_no_image_of_which_anything_is_known(root):
    write_text(root / "annotations.json", coco(NAMES))
    with mistake("no image of 30 has annotations", root, "--unannotated good"):
        converted(root, good=False)
    report, _ = converted(root)
    assert (report.anomalous, report.good_train, report.good_test) == (0, 24, 6)


def test_a_location_that_is_not_there(tmp_path):
    with mistake(f"no such file or folder: {tmp_path / 'x'}", "", "give a folder with images and annotation files"):
        write_manifest_of(tmp_path / "x", tmp_path / "manifest.csv")


@pytest.mark.parametrize("name", ["back\\slash.png", " a.png", "a.png "])
def test_names_that_a_manifest_cannot_hold(name, tmp_path):
    write_images(tmp_path, ["a .png", "b\nb.png"])
    write_text(tmp_path / "x.json", labelme("a .png", rectangle((1, 1), (4, 4))))
    write_manifest_of(tmp_path, tmp_path / "manifest.csv", True)
    assert len(CsvManifest().test(tmp_path / "manifest.csv", DataSettings(), {}).images) == 1
    odd = tmp_path / name
    odd.write_bytes((tmp_path / "a .png").read_bytes())
    if odd.suffix == ".png":  # otherwise it is not taken for an image
        with mistake(
            "a manifest cannot hold a name with a backslash, or with a space at its beginning or end",
            odd,
            "rename the image",
        ):
            write_manifest_of(tmp_path, tmp_path / "new.csv", True)

"""The CSV manifest: the meaning of its rows, and errors in it."""

import json
from pathlib import Path

import pytest

from assertions import mistake
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from images import noise, write_image

READ_HINT = "save it as CSV in UTF-8; the columns image, split and label are required, separated by commas"
DEFAULT, MANIFEST = DataSettings(), CsvManifest()
NIH_COLUMNS = "image,patient,split,label,sex,view,age,findings,boxes"
IMAGES = ("images/a.png", "images/b.png", "images/c.png", "images/ü d.png")


def read_training(path: Path) -> tuple[NormalImage, ...]:
    return MANIFEST.training(path, DEFAULT, {})


def read_test(path: Path) -> tuple[LabelledImage, ...]:
    return MANIFEST.test(path, DEFAULT, {})


@pytest.fixture
def write(tmp_path: Path):
    """Writes manifest.csv into a folder with four images and two masks."""
    for seed, name in enumerate((*IMAGES, "masks/c.png", "masks/empty.png")):
        write_image(tmp_path / "xray" / name, noise(seed))

    def to(*lines: str, encoding: str = "utf-8", end: str = "\n", name: str = "manifest.csv") -> Path:
        path = tmp_path / "xray" / name
        path.write_bytes((end.join(lines) + end).encode(encoding))
        return path

    return to


def test_rows_as_in_nih(write):
    boxes = json.dumps([["Pneumonia", 1, 2.5, 3, 4], ["Mass", 5, 6, 7, 8]]).replace('"', '""')
    path = write(
        NIH_COLUMNS,
        "images/a.png,0001,train,0,F,PA,36,No Finding,",
        "images/b.png,0002,test,0,M,AP,51,No Finding,",
        f'images/c.png,0003,test,1,F,PA,7,Pneumonia|Mass,"{boxes}"',
        "images/ü d.png,0004,test,1,,AP,,Pneumonia,",
    )
    root = path.parent
    assert read_training(path) == (NormalImage("images/a.png", root / "images/a.png"),)
    truth = Boxes(((1.0, 2.5, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)))
    assert read_test(path) == (
        LabelledImage("images/b.png", root / "images/b.png", False, "good", None, {"sex": "M", "view": "AP"}),
        LabelledImage("images/c.png", root / "images/c.png", True, "anomalous", truth, {"sex": "F", "view": "PA"}),
        LabelledImage("images/ü d.png", root / "images/ü d.png", True, "anomalous", None, {"view": "AP"}),
    )
    assert MANIFEST.protocol(path, DEFAULT) == Protocol("xray", "truth_only", ("sex", "view"))


def test_rows_with_masks_and_kinds(write):
    path = write(
        "kind,mask,label,split,image",
        "hole,masks/c.png,1,test,images/c.png",
        ",masks/empty.png,0,test,images/b.png",
        "hole,,1,test,images/ü d.png",
        name="line 3.csv",
    )
    samples = read_test(path)
    assert [(s.kind, s.is_anomalous) for s in samples] == [("hole", True), ("good", False), ("hole", True)]
    assert [s.truth for s in samples] == [MaskFile(path.parent / "masks/c.png"), None, None]
    assert MANIFEST.protocol(path, DEFAULT) == Protocol("line 3", "all", ())
    assert read_training(path) == ()


def test_without_masks_or_boxes_there_are_no_pixel_metrics(write):
    assert MANIFEST.protocol(write("image,split,label", "images/a.png,test,0"), DEFAULT).pixel_pool == "none"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_saved_on_windows_reads_the_same(encoding: str, end: str, write):
    lines = ("image, split ,label,sex", "images\\ü d.png, train ,0,F", "images\\a.png,test,1, M", ",,,", "")
    path = write(*lines, encoding=encoding, end=end)
    assert read_training(path) == (NormalImage("images/ü d.png", path.parent / "images/ü d.png"),)
    (sample,) = read_test(path)
    assert (sample.key, sample.is_anomalous, sample.strata) == ("images/a.png", True, {"sex": "M"})


def test_images_may_lie_outside_the_manifests_folder(write, tmp_path):
    write_image(tmp_path / "elsewhere" / "e.png", noise(9))
    absolute = (tmp_path / "elsewhere" / "e.png").as_posix()
    path = write("image,split,label", "../elsewhere/e.png,train,0", f"{absolute},test,1", "./images//a.png,test,0")
    (image,) = read_training(path)
    assert image.key == "../elsewhere/e.png" and image.path.samefile(absolute)
    outside, inside = read_test(path)
    assert outside.key == absolute and outside.path.samefile(absolute)
    assert inside.key == "images/a.png"


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("[[1, 2, 3, 4]]", ((1.0, 2.0, 3.0, 4.0),)),
        ('[["a", 0, 0, 512, 512], ["b", -3, "4.5", 1e2, 0.5]]', ((0.0, 0.0, 512.0, 512.0), (-3.0, 4.5, 100.0, 0.5))),
        ("[]", None),
        ("  ", None),
    ],
)
def test_boxes_are_read_with_and_without_a_name(text: str, boxes: tuple | None, write):
    quoted = text.replace('"', '""')
    (sample,) = read_test(write("image,split,label,boxes", f'images/a.png,test,1,"{quoted}"'))
    assert sample.truth == (Boxes(boxes) if boxes else None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[1, 2, 3", "Expecting ',' delimiter: line 1 column 10 (char 9)"),
        ("[[1, 2, 3]]", "[1, 2, 3] is not a box"),
        ('[["a", "b", 1, 2, 3, 4]]', '["a", "b", 1, 2, 3, 4] is not a box'),
        ('{"x": 1}', '"x" is not a box'),
        ('[{"x": 1}]', '{"x": 1} is not a box'),
        ("5", "'int' object is not iterable"),
        ("null", "'NoneType' object is not iterable"),
        ('[["a", "b", 2, 3, 4]]', "could not convert string to float: 'b'"),
        ("[[1, 2, 0, 4]]", "[1, 2, 0, 4] has no width, no height or no place"),
        ("[[1, 2, 3, -4]]", "[1, 2, 3, -4] has no width, no height or no place"),
        ("[[1, NaN, 3, 4]]", "[1, NaN, 3, 4] has no width, no height or no place"),
        ("[[1, 2, Infinity, 4]]", "[1, 2, Infinity, 4] has no width, no height or no place"),
        ("[[1, 2, 3, 1" + "0" * 400 + "]]", "int too large to convert to float"),
    ],
)
def test_invalid_boxes(text: str, reason: str, write):
    quoted = text.replace('"', '""')
    path = write("image,split,label,boxes", "images/b.png,test,0,", f'images/a.png,test,1,"{quoted}"')
    remedy = 'write [["finding", x, y, width, height], ...]'
    with mistake(f"row 3: the boxes cannot be read ({reason})", path, remedy):
        read_test(path)


HEADER = "image,split,label,mask,boxes"


def refuse_row_3(row: str, problem: str, remedy: str, write) -> None:
    path = write(HEADER, "images/b.png,test,0,,", row)
    with mistake(f"row 3{problem}", path, remedy):
        read_test(path)


@pytest.mark.parametrize(("row", "split"), [("images/a.png,validation,0,,", "validation"), ("images/a.png", "")])
def test_a_wrong_split(row: str, split: str, write):
    refuse_row_3(row, f" has split {split!r}", "use train or test", write)


@pytest.mark.parametrize("label", ["2", ""])
def test_a_wrong_label(label: str, write):
    refuse_row_3(f"images/a.png,test,{label},,", f" has label {label!r}", "0 is normal, 1 is anomalous", write)


@pytest.mark.parametrize("row", ["images/b.png,train,0,,", "images/../images/b.png,test,1,,"])
def test_an_image_that_is_named_twice(row: str, write):
    refuse_row_3(row, " names images/b.png again (first in row 2)", "remove one", write)


@pytest.mark.parametrize(("image", "shown"), [("images/z.png", "images/z.png"), ("", "."), ("images", "images")])
def test_an_image_that_is_not_there(image: str, shown: str, write):
    refuse_row_3(f"{image},test,1,,", f": no such image: {shown}", "paths are relative to the manifest", write)


def test_a_mask_that_is_not_there(write):
    row = "images/a.png,test,1,masks/z.png,"
    refuse_row_3(row, ": no such mask: masks/z.png", "paths are relative to the manifest", write)


def test_a_normal_image_with_boxes(write):
    row = 'images/a.png,test,0,,"[[1,2,3,4]]"'
    refuse_row_3(row, " has boxes and label 0", "set its label to 1, or", write)


@pytest.mark.parametrize("label", ["1", "", "normal"])
def test_training_takes_only_rows_labelled_normal(label: str, write):
    path = write(HEADER, f"images/a.png,train,{label},,")
    problem = f"row 2 is in split train with label {label!r}; training takes normal images only"
    with mistake(problem, path, "set its split to test, or its label to 0"):
        read_training(path)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("image,label", "the manifest lacks the column 'split' (it has image, label)"),
        ("image;split;label", "the manifest lacks the column 'image' (it has image;split;label)"),
        ("", "the manifest lacks the column 'image' (it has none)"),
    ],
)
def test_missing_columns(header: str, problem: str, write):
    path = write(header) if header else write("")
    for read in (read_training, read_test):
        with mistake(problem, path, "image, split and label are required, separated by commas"):
            read(path)


def test_a_file_that_is_not_utf_8_and_one_that_is_missing(write):
    path = write("image,split,label", "images/ü d.png,train,0", encoding="latin-1")
    with pytest.raises(UserError) as caught:
        read_training(path)
    assert caught.value.problem.startswith("the manifest cannot be read: 'utf-8' codec can't decode byte 0xfc")
    assert (caught.value.place, caught.value.remedy) == (str(path), READ_HINT)
    missing = path.with_name("none.csv")
    problem = f"the manifest cannot be read: [Errno 2] No such file or directory: '{missing}'"
    with mistake(problem, missing, READ_HINT):
        read_training(missing)

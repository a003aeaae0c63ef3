"""The CSV manifest: the meaning of its rows, and errors in it."""

import json
import unicodedata
from pathlib import Path

import pytest

from assertions import explained, mistake
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.recipe.settings import DataSettings
from images import noise, write_image

READ_HINT = "let its first line be image,split,label (and mask or boxes, kind); save it as CSV in UTF-8"
DEFAULT, MANIFEST = DataSettings(), CsvManifest()
NIH_COLUMNS = "image,patient,split,label,sex,view,age,findings,boxes"
IMAGES = ("images/a.png", "images/b.png", "images/c.png", "images/ü d.png")


def read_training(path: Path) -> tuple[NormalImage, ...]:
    return MANIFEST.training(path, DEFAULT, {}).images


def read_test(path: Path) -> tuple[LabelledImage, ...]:
    return MANIFEST.test(path, DEFAULT, {}).images


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
    assert read_training(path) == (NormalImage("images/a.png", root / "images/a.png", group="0001"),)
    truth = Boxes(((1.0, 2.5, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)))
    assert read_test(path) == (
        LabelledImage("images/b.png", root / "images/b.png", False, "good", None, {"sex": "M", "view": "AP"}, "0002"),
        LabelledImage(
            "images/c.png", root / "images/c.png", True, "anomalous", truth, {"sex": "F", "view": "PA"}, "0003"
        ),
        LabelledImage("images/ü d.png", root / "images/ü d.png", True, "anomalous", None, {"view": "AP"}, "0004"),
    )
    assert MANIFEST.protocol(path, DEFAULT) == Protocol("xray", "truth_only", ("sex", "view"))
    assert MANIFEST.grouped_by(path) == "patient"


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
    assert [s.truth for s in samples] == [MaskFile(path.parent / "masks" / name) for name in ("c.png", "empty.png")] + [
        None
    ]
    assert MANIFEST.protocol(path, DEFAULT) == Protocol("line 3", "all", ())
    remedy = "set the split of the good images to learn from to train"
    with mistake("no row of the manifest has split train", path, remedy):
        read_training(path)


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
    other = write_image(tmp_path / "elsewhere" / "e.png", noise(9))
    absolute = write_image(tmp_path / "elsewhere" / "f.png", noise(10)).as_posix()
    path = write("image,split,label", "../elsewhere/e.png,train,0", f"{absolute},test,1", "./images//a.png,test,0")
    (image,) = read_training(path)
    assert image.key == "../elsewhere/e.png" and image.path.samefile(other)
    outside, inside = read_test(path)
    assert outside.key == absolute and outside.path.samefile(absolute)
    assert inside.key == "images/a.png"
    path = write("image,split,label", "../elsewhere/f.png,test,0", f"{absolute},test,1")
    with mistake(f"row 3 names {absolute} again (first in row 2)", path, "remove one of the rows"):
        read_test(path)


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
        ("[[1, 2, 3", "not JSON: Expecting ',' delimiter: line 1 column 10 (char 9)"),
        ("[('a', 1, 2, 3, 4)]", "not JSON: Expecting value: line 1 column 2 (char 1)"),
        ("[[1, 2, 3]]", "[1, 2, 3] is not a box"),
        ('[["a", "b", 1, 2, 3, 4]]', '["a", "b", 1, 2, 3, 4] is not a box'),
        ('{"x": 1}', '{"x": 1} is not a list'),
        ('[{"x": 1}]', '{"x": 1} is not a box'),
        ("5", "5 is not a list"),
        ("null", "null is not a list"),
        ("[1, 2, 3, 4]", "1 is not a box"),
        ("[[3, 10, 10, 20, 20]]", "[3, 10, 10, 20, 20] has five numbers, but a box is a name and four"),
        ("[[10, 10, 20, 20, 0.98]]", "[10, 10, 20, 20, 0.98] has five numbers, but a box is a name and four"),
        ('[["3", 1, 2, 3, 4]]', '["3", 1, 2, 3, 4] has five numbers, but a box is a name and four'),
        ("[[null, 1, 2, 3, 4]]", "[null, 1, 2, 3, 4] has five numbers, but a box is a name and four"),
        ("[[true, 2, 3, 4]]", "[true, 2, 3, 4] holds true or false"),
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
    remedy = 'write [["finding", x, y, width, height], ...] or [[x, y, width, height], ...]'
    with mistake(f"row 3: the boxes cannot be read ({reason})", path, remedy):
        read_test(path)


HEADER = "image,split,label,mask,boxes"


def refuse_row_3(row: str, problem: str, remedy: str, write) -> None:
    path = write(HEADER, "images/b.png,test,0,,", row)
    with mistake(f"row 3{problem}", path, remedy):
        read_test(path)


@pytest.mark.parametrize("split", ["validation", "val", "dev", "tset", "0"])
def test_a_wrong_split(split: str, write):
    refuse_row_3(f"images/a.png,{split},0,,", f" has split {split!r}", "use train or test", write)


@pytest.mark.parametrize("label", ["2", "-1", "scratch", "n/a"])
def test_a_wrong_label(label: str, write):
    remedy = "0 or good is normal, 1 or bad is anomalous"
    refuse_row_3(f"images/a.png,test,{label},,", f" has label {label!r}", remedy, write)


@pytest.mark.parametrize(
    ("row", "missing"), [("images/a.png", "split"), ("images/a.png,test", "label"), (",train,0,,", "image")]
)
def test_a_row_that_lacks_a_value(row: str, missing: str, write):
    refuse_row_3(row, f" has no {missing}", "fill it in, or remove the row", write)


def test_words_for_splits_and_labels(write):
    good = [f"images/a.png,{split},{label}" for split in ("Train", "TRAINING") for label in ("0.0", "False", "Good")]
    for row in (*good, "images/a.png,train,NORMAL", "images/a.png,train,ok"):
        assert [image.key for image in read_training(write("image,split,label", row))] == ["images/a.png"]
    for label in ("1", "1.0", "TRUE", "bad", "Anomalous", "anomaly", "abnormal", "Defect", "defective", "NG", "nok"):
        (sample,) = read_test(write("image,split,label", f"images/a.png,Testing,{label}"))
        assert (sample.is_anomalous, sample.kind) == (True, "anomalous")


@pytest.mark.parametrize("row", ["images/b.png,train,0,,", "images/../images/b.png,test,1,,"])
def test_an_image_that_is_named_twice(row: str, write):
    refuse_row_3(row, " names images/b.png again (first in row 2)", "remove one", write)


@pytest.mark.parametrize("image", ["images/z.png", "images", "x" * 300, "https://example.org/a.png", "\0"])
def test_an_image_that_is_not_there(image: str, write):
    key = image.replace("//", "/")
    if image == "\0":
        path = write(HEADER, f"{image},test,1,,")
        with mistake(
            "the manifest holds zero bytes: is it UTF-16 without a byte order mark?", path, "save it in UTF-8"
        ):
            read_test(path)
        return
    refuse_row_3(f"{image},test,1,,", f": no such image: {key}", "paths are relative to the manifest", write)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("C:\\data\\images\\a.png", "write images/a.png, and leave out C:/data/ in the other rows"),
        ("/home/me/xray/images/a.png", "write images/a.png, and leave out /home/me/xray/ in the other rows"),
        ("xray/images/a.png", "write images/a.png, and leave out xray/ in the other rows"),
        ("images/A.PNG", "write images/a.png: upper and lower case differ"),
        ("Images/a.png", "write images/a.png: upper and lower case differ"),
    ],
)
def test_the_path_that_was_probably_meant(image: str, remedy: str, write):
    refuse_row_3(f"{image},test,1,,", f": no such image: {image}".replace("\\", "/"), remedy, write)


def test_an_accent_may_be_written_as_one_character_or_two(write):
    decomposed = unicodedata.normalize("NFD", "images/ü d.png")
    assert decomposed != "images/ü d.png"
    (sample,) = read_test(write("image,split,label", f"{decomposed},test,1"))
    assert sample.path.is_file()


def test_two_spellings_of_a_file_where_case_does_not_count(write, tmp_path):
    (tmp_path / "xray" / "images" / "B.PNG").hardlink_to(tmp_path / "xray" / "images" / "b.png")
    refuse_row_3("images/B.PNG,test,0,,", " names images/B.PNG again (first in row 2)", "remove one", write)


def test_names_that_differ_in_case_only_are_two_images(write, tmp_path):
    write_image(tmp_path / "xray" / "images" / "A.PNG", noise(77))
    if not (tmp_path / "xray" / "images" / "A.PNG").samefile(tmp_path / "xray" / "images" / "a.png"):
        path = write("image,split,label", "images/a.png,test,0", "images/A.PNG,test,1")
        assert [sample.key for sample in read_test(path)] == ["images/a.png", "images/A.PNG"]


def test_a_mask_that_is_not_there(write):
    row = "images/a.png,test,1,masks/z.png,"
    refuse_row_3(row, ": no such mask: masks/z.png", "paths are relative to the manifest", write)


def test_a_normal_image_with_boxes(write):
    row = 'images/a.png,test,0,,"[[1,2,3,4]]"'
    refuse_row_3(row, " has boxes and label 0", "set its label to 1 and its split to test, or", write)
    path = write(HEADER, row.replace("test", "train"))
    with mistake("row 2 has boxes and label 0", path, "leave its boxes empty"):
        read_training(path)
    assert len(read_test(write(HEADER, "images/a.png,test,0,,[ ]"))) == 1


def test_a_mask_and_boxes_at_once(write):
    row = 'images/a.png,test,1,masks/c.png,"[[1,2,3,4]]"'
    refuse_row_3(row, " has a mask and boxes", "leave one of them empty", write)


def test_a_defect_that_is_called_good(write):
    path = write("image,split,label,kind", "images/a.png,test,1,Good")
    with mistake("row 2 has label '1' and kind 'Good'", path, "set its label to 0, or its kind"):
        read_test(path)


def test_boxes_that_are_nested_beyond_reason(write):
    path = write("image,split,label,boxes", f'images/a.png,test,1,"{"[" * 100_000}"')
    with mistake("row 2: the boxes are nested too deeply", path, 'write [["finding"'):
        read_test(path)


@pytest.mark.parametrize("label", ["1", "bad"])
def test_training_takes_only_rows_labelled_normal(label: str, write):
    path = write(HEADER, f"images/a.png,train,{label},,")
    problem = f"row 2 is in split train with label {label!r}; training takes normal images only"
    with mistake(problem, path, "set its split to test, or its label to 0"):
        read_training(path)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("image,label", "the manifest lacks the column 'split' (it has image, label)"),
        (
            "filename,split,label,age",
            "the manifest lacks the column 'image' (it has filename, split, label, age; is 'filename' meant?)",
        ),
        ("age,split,label", "the manifest lacks the column 'image' (it has age, split, label)"),
        ("image,split,lable", "the manifest lacks the column 'label' (it has image, split, lable; is 'lable' meant?)"),
        (
            "Image Path;Split;Label",
            "the manifest lacks the column 'image' (it has Image Path, split, label; is 'Image P",
        ),
        ("image:split:label", "the first line of the manifest does not name the columns: image:split:label"),
        ("images/a.png,train,0", "the first line of the manifest does not name the columns: images/a.png,train,0"),
        ("image,split,label,label", "the manifest has the column 'label' twice"),
        ("image,split,Label,mask,LABEL", "the manifest has the column 'label' twice"),
        ("", "the manifest is empty"),
        ("# nothing but this", "the manifest is empty"),
        ("image,split,label", "the manifest has no row below its header"),
    ],
)
def test_a_header_that_cannot_be_read(header: str, problem: str, write):
    path = write(header)
    for read in (read_training, read_test):
        error = explained(lambda read=read: read(path))
        assert error.problem.startswith(problem) and error.place == str(path) and error.remedy


ROWS = ("image,split,label,boxes", "images/a.png,train,0,", 'images/c.png,test,1,"[[1, 2, 3, 4]]"')


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-with-mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", [(), ('# made by us, "today', ""), ("sep=,",)])
def test_every_way_to_save_a_table_reads_the_same(separator: str, encoding: str, end: str, before: tuple, write):
    lines = [line.replace(",", separator, 3) for line in ROWS]
    mark = "\ufeff" if encoding.endswith("with-mark") else ""
    path = write(mark + end.join([*before, *lines]), encoding=encoding.removesuffix("-with-mark"), end=end)
    assert [image.key for image in read_training(path)] == ["images/a.png"]
    (sample,) = read_test(path)
    assert (sample.key, sample.truth) == ("images/c.png", Boxes(((1.0, 2.0, 3.0, 4.0),)))


def test_the_number_of_a_row_is_that_of_its_first_line(write):
    path = write(
        "# a comment", "", "image,split,label,kind", 'images/a.png,test,1,"two\nlines"', "", "images/b.png,test,9"
    )
    with mistake("row 7 has label '9'", path, "0 or good is normal"):
        read_test(path)


@pytest.mark.parametrize(
    ("rows", "problem", "remedy"),
    [
        (
            ["images/a.png,test,0,x,y"],
            "row 2 has 5 values for 3 columns, the last is 'y'",
            "that hold a comma into double",
        ),
        (
            ["images/a.png,test,0", '"images/b.png,test,0'],
            "row 3 of the manifest cannot be read (unexpected end of",
            '""',
        ),
        (['images/a.png,test,"0"x'], "row 2 of the manifest cannot be read (',' expected after '\"')", "close each"),
        (
            ['images/a.png,test,"' + "0" * 200_000],
            "row 2 of the manifest cannot be read (field larger than",
            "close each",
        ),
    ],
)
def test_rows_that_cannot_be_read(rows: list[str], problem: str, remedy: str, write):
    path = write("image,split,label", *rows)
    error = explained(lambda: read_test(path))
    assert error.problem.startswith(problem) and error.place == str(path) and remedy in error.remedy


def test_empty_cells_at_the_end_of_a_row_are_nothing(write):
    path = write("image,split,label", "images/a.png,train,0,,,", ",,,,,,,")
    assert len(read_training(path)) == 1


def test_a_file_that_is_not_utf_8_and_one_that_is_missing(write):
    path = write("image,split,label", "images/a.png,train,0", "images/ü d.png,train,0", encoding="latin-1", end="\r\n")
    with mistake("the manifest is not in UTF-8: line 3 holds the byte 0xfc", path, "save it in UTF-8"):
        read_training(path)
    missing = path.with_name("none.csv")
    problem = f"the manifest cannot be read: [Errno 2] No such file or directory: '{missing}'"
    with mistake(problem, missing, READ_HINT):
        read_training(missing)


def test_pixels_are_pooled_by_what_is_filled_in(write):
    both = "image,split,label,mask,boxes"
    pools = [
        MANIFEST.protocol(write(both, f"images/a.png,test,1,{cells}"), DEFAULT).pixel_pool
        for cells in (",", "masks/c.png,", ',"[[1, 2, 3, 4]]"')
    ]
    assert pools == ["none", "all", "truth_only"]


# ---- groups


@pytest.mark.parametrize("column", ["group", "patient", "part", "board", "lot"])
def test_a_column_names_the_groups(column: str, write):
    path = write(
        f"image,split,label,{column}",
        "images/a.png,train,0, 7 ",
        "images/b.png,train,0,",  # an empty cell: a group of its own
        "images\\c.png,test,1,Stück 4",
        "images/ü d.png,test,0,e\u0301",  # two signs; the other image of the group may have been written with one
        end="\r\n",
    )
    assert MANIFEST.grouped_by(path) == column
    assert [image.group for image in read_training(path)] == ["7", None]
    assert [image.group for image in read_test(path)] == ["Stück 4", "é"]
    assert open_training_data(path, DEFAULT).grouped_by == open_test_data(path, DEFAULT).grouped_by == column


def test_a_manifest_without_such_a_column_has_no_groups(write):
    path = write("image,split,label,sex,lot number", "images/a.png,train,0,F,7", "images/c.png,test,1,M,8")
    assert MANIFEST.grouped_by(path) is None
    assert {image.group for image in (*read_training(path), *read_test(path))} == {None}


@pytest.mark.parametrize(
    ("columns", "named"), [("patient,lot", "patient and lot"), ("board,group,part", "group and part and board")]
)
def test_two_columns_of_groups_are_one_too_many(columns: str, named: str, write):
    path = write(f"image,split,label,{columns}", "images/a.png,train,0,7")
    with mistake(f"the columns {named} each say which images belong together", path, "keep one of them"):
        read_training(path)
    with mistake(f"the columns {named} each say which images belong together", path, "keep one of them"):
        read_test(path)


def test_a_setting_comes_before_the_column(write):
    path = write("image,split,label,lot", "images/a.png,train,0,7", "images/c.png,test,1,8")
    by_folder, alone = DataSettings(group_by="folder"), DataSettings(group_by="image")
    assert [image.group for image in open_training_data(path, by_folder).images] == ["images"]
    assert [image.group for image in open_test_data(path, by_folder).samples] == ["images"]
    assert [image.group for image in open_training_data(path, alone).images] == [None]
    assert (open_training_data(path, by_folder).grouped_by, open_test_data(path, alone).grouped_by) == ("folder", None)


@pytest.mark.parametrize(
    ("header", "unread", "meant"),
    [
        ("image,split,label,station", "column 'station' is", ""),
        ("image,split,label,age,findings", "columns 'age', 'findings' are", ""),
        ("image,split,label,masks", "column 'masks' is", "; is 'masks' meant to be mask?"),
        ("image,split,label,box", "column 'box' is", "; is 'box' meant to be boxes?"),
        ("image,split,label,Patient ID,Kinds", "columns 'Patient ID', 'Kinds' are", "meant to be kind?"),
        ("image,split,label,Patient ID", "column 'Patient ID' is", "; is 'Patient ID' meant to be patient?"),
        ("image,split,label,subject_id", "column 'subject_id' is", "; is 'subject_id' meant to be patient?"),
        ("image,split,label,Gender", "column 'Gender' is", "; is 'Gender' meant to be sex?"),
        ("image,split,label,View Position", "column 'View Position' is", "; is 'View Position' meant to be view?"),
        ("image,split,label,bbox", "column 'bbox' is", "; is 'bbox' meant to be boxes?"),
        ("image,split,label,board,MRN", "column 'MRN' is", ""),
    ],
)
def test_columns_that_nobody_reads_are_named(header: str, unread: str, meant: str, write):
    path = write(header, "images/a.png,train,0", "images/b.png,test,1")
    for listing in (MANIFEST.training(path, DEFAULT, {}), MANIFEST.test(path, DEFAULT, {})):
        (remark,) = listing.remarks
        assert remark.key == "manifest.csv"
        assert remark.text.startswith(f"the {unread} not read (image, split, label, kind, mask, boxes, group, patient")
        assert remark.text.endswith(f"camera are){meant}" if not meant or meant.startswith(";") else meant)


@pytest.mark.parametrize(
    ("first", "second", "is_alike"),
    [("00001385", "1385", True), ("P012", "p12", True), ("100", "10", False), ("A_1", "A_01", True), ("A", "B", False)],
)
def test_groups_that_are_probably_one_are_remarked(first: str, second: str, is_alike: bool, write):
    path = write("image,split,label,patient", f"images/a.png,train,0,{first}", f"images/b.png,test,1,{second}")
    text = f"the column patient has {first!r} and {second!r}, which count as two: if they are one, write it alike"
    for listing in (MANIFEST.training(path, DEFAULT, {}), MANIFEST.test(path, DEFAULT, {})):
        assert [(remark.key, remark.text) for remark in listing.remarks] == [("manifest.csv", text)][:is_alike]


def test_columns_that_are_read_and_columns_without_a_name_are_not_remarked(write):
    path = write("image,split,label,,Group,SEX,", "images/a.png,train,0,,g,F,")
    assert MANIFEST.training(path, DEFAULT, {}).remarks == ()

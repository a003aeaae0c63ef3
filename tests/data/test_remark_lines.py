"""Remarks on files as lines."""

from flawmap.data.remark_lines import remark_lines
from flawmap.data.sample import FileRemark


def inverted(number: int, share: str) -> FileRemark:
    return FileRemark(f"{number}.png", f"{share} % of the pixels are anomalous")


def test_each_remark_is_a_line_in_order():
    remarks = [FileRemark("b.png", "empty"), FileRemark("a.png", "full"), FileRemark("b.png", "black")]
    assert remark_lines(remarks) == ["b.png: empty", "a.png: full", "b.png: black"]
    assert remark_lines([]) == []


def test_remarks_that_differ_in_numbers_alone_are_one_line():
    two = [inverted(1, "90.2"), FileRemark("a.png", "empty"), inverted(2, "8.81e-05")]
    assert remark_lines(two) == ["1.png: 90.2 % of the pixels are anomalous (likewise 2.png)", "a.png: empty"]
    three = [*two, inverted(3, "100")]
    assert remark_lines(three)[0] == "1.png: 90.2 % of the pixels are anomalous (likewise 2.png, 3.png)"


def test_five_hundred_files_are_one_line_with_their_count():
    (line,) = remark_lines(inverted(number, f"{number / 10}") for number in range(500))
    assert line == "0.png: 0.0 % of the pixels are anomalous (likewise 1.png, 2.png and 497 more)"


def test_a_folder_is_named_once():
    names = ["masks/a.png", "masks/b.png", "other/c.png"]
    (line,) = remark_lines(FileRemark(name, "empty") for name in names)
    assert line == "masks/a.png: empty (likewise b.png, other/c.png)"

"""Published numbers: within range, with a source, and beside what was measured on the same group."""

import pytest

from flawmap.report.published import PUBLISHED, beside_published


@pytest.mark.parametrize("one", [one for of_data in PUBLISHED.values() for one in of_data], ids=str)
def test_a_published_number_says_where_it_is_from_and_what_differs(one) -> None:
    assert 0.5 < one.value < 1
    assert one.measure in ("image_auroc", "pixel_auroc")
    assert one.source and one.differs


def test_the_papers_numbers_are_as_printed() -> None:
    assert [one.value for one in PUBLISHED["bottle"]] == [0.983, 0.982]
    pixel = {one.group: one.value for one in PUBLISHED["nih"] if one.measure == "pixel_auroc"}
    assert pixel == {"sex=M": 0.709, "sex=F": 0.705}


def test_a_group_stands_beside_its_own_number() -> None:
    metrics = {"data": "nih", "pixel_auroc": 0.5, "groups": {"sex=M": {"pixel_auroc": 0.61, "image_auroc": None}}}
    assert beside_published(metrics).rows == (
        ("pixel AUROC, sex=M", "0.610", "0.709", "the paper (AAAI 2023)", "other lists of pictures"),
    )


def test_data_that_nobody_published_on_has_no_row() -> None:
    assert beside_published({"data": "my_parts", "image_auroc": 0.9}).rows == ()
    assert beside_published({}).rows == ()
    screw = {"data": "screw", "image_auroc": 0.9}
    assert beside_published(screw | {"layout": "plain folder of good images"}).rows == ()
    assert len(beside_published(screw | {"layout": "MVTec AD (train/good, test/KIND)"}).rows) == 1

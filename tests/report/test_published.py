"""Published numbers: within range, with a source, and compared with what was measured on the same group."""

import pytest

from flawmap.report.published import PUBLISHED, Published, compared_with_published


@pytest.mark.parametrize(
    "published", sorted({number for numbers in PUBLISHED.values() for number in numbers}, key=str), ids=str
)
def test_a_published_number_says_where_it_is_from_and_what_differs(published: Published) -> None:
    assert 0.5 < published.value < 1
    assert published.measure in ("image_auroc", "pixel_auroc")
    assert published.source and published.differs


def test_the_papers_numbers_are_as_printed() -> None:
    assert [published.value for published in PUBLISHED["bottle"]] == [0.983, 0.982]
    pixel = {number.group: number.value for number in PUBLISHED["nih"] if number.measure == "pixel_auroc"}
    assert pixel == {"sex=M": 0.709, "sex=F": 0.705}


def test_a_group_stands_beside_its_own_number() -> None:
    metrics = {"data": "nih", "pixel_auroc": 0.5, "groups": {"sex=M": {"pixel_auroc": 0.61, "image_auroc": None}}}
    assert compared_with_published(metrics).rows == (
        ("pixel AUROC, sex=M", "0.610", "0.709", "the paper (AAAI 2023)", "other lists of images"),
    )


def test_data_that_nobody_published_on_has_no_row() -> None:
    assert compared_with_published({"data": "my_parts", "image_auroc": 0.9}).rows == ()
    assert compared_with_published({}).rows == ()
    screw = {"data": "screw", "image_auroc": 0.9}
    assert compared_with_published(screw | {"layout": "plain folder of good images"}).rows == ()
    assert len(compared_with_published(screw | {"layout": "MVTec AD (train/good, test/KIND)"}).rows) == 1

"""Published numbers: within range, with a source, and compared with what was measured on the same stratum."""

from dataclasses import replace

import pytest

from flawmap.report.published import PUBLISHED, Published, compared_with_published
from flawmap.runs.evaluation import Block, Measure
from made_up_evaluation import made_up_evaluation


@pytest.mark.parametrize(
    "published", sorted({number for numbers in PUBLISHED.values() for number in numbers}, key=str), ids=str
)
def test_a_published_number_says_where_it_is_from_and_what_differs(published: Published) -> None:
    assert 0.5 < published.value < 1
    assert published.measure in ("image_auroc", "pixel_auroc")
    assert published.source and published.differs


def test_the_papers_numbers_are_as_printed() -> None:
    assert [published.value for published in PUBLISHED["bottle"]] == [0.983, 0.982]
    pixel = {number.stratum: number.value for number in PUBLISHED["nih"] if number.measure == "pixel_auroc"}
    assert pixel == {"sex=M": 0.709, "sex=F": 0.705}


def test_a_stratum_stands_beside_its_own_number() -> None:
    men = Block(3, 4, {"auroc": None}, {"auroc": Measure(0.61, None, None)})
    evaluation = made_up_evaluation(10, 10, data="nih", by_stratum={"sex=M": men})
    assert compared_with_published(evaluation).rows == (
        ("pixel AUROC, sex=M", "0.610", "0.709", "the paper (AAAI 2023)", "other lists of images"),
    )


def test_data_that_nobody_published_on_has_no_row() -> None:
    assert compared_with_published(made_up_evaluation(10, 10, data="my_parts")).rows == ()
    screw = made_up_evaluation(10, 10, data="screw", pixel=None)
    assert compared_with_published(replace(screw, layout="plain folder of good images")).rows == ()
    assert len(compared_with_published(replace(screw, layout="MVTec AD (train/good, test/KIND)")).rows) == 1

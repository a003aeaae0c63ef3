"""Connected regions against SciPy and by hand; classes of defect size."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from flawmap.metrics.defect_regions import number_regions
from flawmap.metrics.defect_size import size_class

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def parsed(drawing: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in drawing.split()])


@given(masks)
@example(np.ones((3, 4), bool))
@example(np.zeros((3, 4), bool))
@example(np.eye(5, dtype=bool)[:, ::-1])
def test_regions_are_those_of_scipy_with_eight_neighbours(mask: np.ndarray):
    theirs = ndimage.label(mask, structure=np.ones((3, 3)))[0][mask]
    ours = number_regions(mask)
    assert ours.shape == theirs.shape
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert len(pairs) == len(set(ours.tolist())) == len(set(theirs.tolist()))  # the same partition, other names
    assert list(dict.fromkeys(ours.tolist())) == list(range(len(pairs)))  # 0, 1, ... in the order of beginning


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ("#.# .#. #.#", 1),  # corners touch
        ("##..## ...... ##..##", 4),
        ("#...# #...# #####", 1),  # two arms that meet last
        ("..... .###. .#... .#.#. .###.", 1),
        ("....# #....", 2),  # the end of a row does not touch the beginning of the next
        ("...#. .#.#. .#.#. .#.## #...#", 2),
    ],
)
def test_regions_by_hand(drawing: str, expected: int):
    assert number_regions(parsed(drawing)).max() + 1 == expected


def test_a_spiral_of_many_runs_is_one_region():
    spiral = np.zeros((41, 41), bool)
    for ring in range(0, 20, 2):
        spiral[ring, ring : 41 - ring] = spiral[40 - ring, ring : 41 - ring] = True
        spiral[ring : 41 - ring, 40 - ring] = spiral[ring + 2 : 41 - ring, ring] = True
        spiral[ring + 2, ring : ring + 3] = True
    assert ndimage.label(spiral, structure=np.ones((3, 3)))[1] == 1
    assert set(number_regions(spiral)) == {0}


def test_half_a_megapixel_of_noise_is_labelled_as_scipy_does():
    mask = np.random.default_rng(0).random((512, 512)) < 0.35
    theirs, n_theirs = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(number_regions(mask))
    assert areas.size == n_theirs
    assert sorted(areas) == sorted(np.bincount(theirs.ravel())[1:])


@pytest.mark.parametrize(
    ("expected", "shares"), [("small", (1e-9, 0.004999)), ("medium", (0.005, 0.049)), ("large", (0.05, 1.0))]
)
def test_size_classes_begin_where_they_are_said_to(expected: str, shares: tuple[float, float]):
    assert [size_class(share) for share in shares] == [expected, expected]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_an_impossible_share_has_no_size(share: float):
    with pytest.raises(ValueError, match=str(share)):
        size_class(share)

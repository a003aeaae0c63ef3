"""What the head learns from known defects: which patches show them, how they are drawn, and what stays as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flawmap.data.images.tiles import Tiling
from flawmap.data.rois import rois_of_text
from flawmap.data.sample import KnownDefect, MaskFile
from flawmap.memory.head_training import ANOMALOUS_SHARE, BESIDE_SHARE, TOKENS_PER_STEP, HeadExamples
from flawmap.memory.known_defects import (
    FOLDS,
    LIKE_SIMULATED,
    MOST,
    DefectSquares,
    DefectsToLearn,
    KnownExamples,
    far_from_good,
    head_decides,
    shown_by,
    words_of_unused,
)
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.token_pool import TokenPool
from flawmap.recipe.files import load_recipe
from images import write_image

SIDE_PX, GRID, SIMULATED = 32, (2, 2), 400
LEFT_HALF = '{"inside": [{"rectangle": [0, 0, 0.5, 1]}]}'


def marked(folder: Path, height: int = 40, width: int = 80) -> KnownDefect:
    """A gray image whose right quarter is marked."""
    image, mask = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.uint8)
    mask[:, 3 * width // 4 :] = 255
    write_image(folder / "a.png", image)
    write_image(folder / "a_mask.png", mask)
    return KnownDefect("a.png", folder / "a.png", MaskFile(folder / "a_mask.png"))


def test_the_cover_of_a_patch_is_the_share_of_it_that_is_marked(tmp_path):
    squares = DefectsToLearn((marked(tmp_path),)).read(0, SIDE_PX, GRID)
    assert squares.images.shape == (1, 3, SIDE_PX, SIDE_PX)
    torch.testing.assert_close(squares.cover, torch.tensor([[0.0, 0.5, 0.0, 0.5]]))
    assert squares.inside is None


def test_tiles_have_the_cover_of_their_own_patches(tmp_path):
    """Two overlapping tiles of four by four patches; the marked quarter lies in the last two of eight columns."""
    defect, tiling = marked(tmp_path, height=40, width=80), Tiling(0.8, 4, 8)  # a grid of 4 x 8
    squares = DefectsToLearn((defect,), tiling=tiling).read(0, SIDE_PX, (4, 4))
    places = tiling.places((4, 8))
    assert squares.images.shape == (len(places), 3, SIDE_PX, SIDE_PX) and squares.cover is not None
    for (_, column), cover in zip(places, squares.cover, strict=True):
        expected = (torch.arange(column, column + 4) >= 6).float().expand(4, 4)
        torch.testing.assert_close(cover.view(4, 4), expected)


def test_patches_outside_of_the_region_of_interest_do_not_count(tmp_path):
    squares = DefectsToLearn((marked(tmp_path),), rois_of_text(LEFT_HALF)).read(0, SIDE_PX, GRID)
    assert squares.inside is not None and squares.inside.tolist() == [[True, False, True, False]]
    shows, is_normal = shown_by(squares, torch.zeros(1, 4), 9.0, 0.15)
    assert not shows.any() and is_normal.tolist() == [[True, False, True, False]]


def test_an_image_without_a_mask_has_no_cover(tmp_path):
    path = marked(tmp_path).path
    assert DefectsToLearn((KnownDefect("a", path),)).read(0, SIDE_PX, GRID).cover is None


def squares_of(cover: Tensor | None) -> DefectSquares:
    return DefectSquares(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), cover, None)


def test_a_mask_shows_covered_patches_or_the_most_covered_one():
    cover, distances = torch.tensor([[0.0, 0.1, 0.2, 0.9]]), torch.zeros(1, 4)
    shows, is_normal = shown_by(squares_of(cover), distances, 9.0, 0.15)
    assert shows.tolist() == [[False, False, True, True]] and is_normal.tolist() == [[True, False, False, False]]
    tiny = torch.tensor([[0.0, 0.01, 0.03, 0.0]])
    shows, is_normal = shown_by(squares_of(tiny), distances, 9.0, 0.15)
    assert shows.tolist() == [[False, False, True, False]] and is_normal.tolist() == [[True, False, False, True]]


def test_without_a_mask_far_patches_show_the_defect_and_what_lies_between_is_not_learned():
    shows, is_normal = shown_by(squares_of(None), torch.tensor([[-1.0, 0.5, 2.0, 3.0]]), 2.5, 0.15)
    assert shows.tolist() == [[False, False, False, True]] and is_normal.tolist() == [[True, False, False, False]]


def test_far_is_one_good_patch_in_a_thousand():
    memory = PatchMemory(1, 2, 3)
    distances = torch.linspace(0, 1, 2001).view(3, 667, 1)
    lookup = Lookup(distances, torch.zeros(3, 667, 1, dtype=torch.int32))
    assert far_from_good(memory, lookup, None) == pytest.approx(0.999, abs=1e-6)
    inside = torch.zeros(3, 667, dtype=torch.bool)
    inside[0] = True
    assert far_from_good(memory, lookup, inside) == pytest.approx(0.999 * 666 / 2000, abs=1e-6)


def pool(value: float, count: int) -> TokenPool:
    return TokenPool(torch.full((count, 1, 1), value), torch.zeros(count, 1, dtype=torch.int32))


def examples(known: KnownExamples | None) -> HeadExamples:
    return HeadExamples(pool(1.0, 50), pool(2.0, 50), pool(3.0, 50), known)


@pytest.mark.parametrize("num_known", [1, 5, 500])
def test_known_defects_take_their_share_of_a_step_and_no_more(num_known):
    known = KnownExamples.of([pool(4.0, 3)] * num_known, [pool(5.0, 3)] * num_known, SIMULATED)
    shown = LIKE_SIMULATED * num_known
    assert known.share == min(MOST, shown / (shown + SIMULATED)) <= 0.25
    batch, targets = examples(known).batch(torch.Generator().manual_seed(0))
    values, num_anomalous = batch.tokens.flatten(), round(ANOMALOUS_SHARE * TOKENS_PER_STEP)
    of_known = round(known.share * num_anomalous)
    assert len(values) == TOKENS_PER_STEP and targets.sum() == num_anomalous
    assert (values[targets > 0] == 4).sum() == of_known and (values[targets > 0] == 1).sum() == num_anomalous - of_known
    num_beside = round(BESIDE_SHARE * (TOKENS_PER_STEP - num_anomalous))
    assert (values[targets == 0] == 5).sum() == round(known.share * num_beside)
    assert (values[targets == 0] == 3).sum() == TOKENS_PER_STEP - num_anomalous - num_beside


def test_a_large_defect_counts_no_more_than_a_small_one():
    known = KnownExamples.of([pool(4.0, 1), pool(5.0, 99), pool(6.0, 0)], [pool(0.0, 0)] * 3, SIMULATED)
    drawn = known.anomalous.some(4000, torch.Generator().manual_seed(0)).tokens.flatten()
    assert {float(value) for value in drawn.unique()} == {4.0, 5.0}
    assert (drawn == 4).float().mean() == pytest.approx(0.5, abs=0.04)
    assert known.share == 20 / 420  # the third teaches nothing, and does not count


def test_nothing_learned_leaves_the_steps_as_they_are_without_known_defects():
    nothing = KnownExamples.of([pool(4.0, 0)], [pool(5.0, 9)], SIMULATED)
    batches = [examples(known).batch(torch.Generator().manual_seed(3))[0].tokens for known in (None, nothing)]
    assert torch.equal(*batches)


def test_a_head_without_some_defects_draws_none_of_them():
    known = KnownExamples.of([pool(4.0, 2), pool(5.0, 2)], [pool(6.0, 2), pool(7.0, 2)], SIMULATED)
    rest = known.without(frozenset({0}), SIMULATED)
    assert [float(p.tokens[0]) for p in rest.anomalous.pools + rest.beside.pools] == [5.0, 7.0]
    assert rest.share == LIKE_SIMULATED / (LIKE_SIMULATED + SIMULATED)


def test_defects_of_a_group_share_a_fold():
    defects = tuple(KnownDefect(f"{n}", Path(f"{n}"), group=None if n < 7 else "A") for n in range(10))
    folds = DefectsToLearn(defects).folds()
    assert folds[:7] == [n % FOLDS for n in range(7)] and len(set(folds[7:])) == 1
    assert DefectsToLearn(defects[8:]).folds() == [0, 0]


def test_what_is_learned_depends_on_images_and_masks(tmp_path):
    defect = marked(tmp_path)
    before = DefectsToLearn((defect,)).depends_on
    assert DefectsToLearn((defect,)).depends_on == before
    write_image(tmp_path / "a_mask.png", np.full((40, 80), 255, np.uint8))
    changed = DefectsToLearn((defect,)).depends_on
    assert changed != before and DefectsToLearn((KnownDefect("a.png", defect.path),)).depends_on != changed


@pytest.mark.parametrize(
    ("overrides", "decides"),
    [
        ([], False),
        (["fusion.image_weights=[1, 0.5]"], True),
        (["detect.image_score=map_max"], True),
        (["method=residual"], True),
        (["method=memory"], False),
    ],
)
def test_the_head_decides_where_it_enters_the_score(overrides, decides):
    assert head_decides(load_recipe("quick", overrides)) is decides


@pytest.mark.parametrize(
    ("has_mask", "words"),
    [
        ([], ""),
        ([False], "; 1 without a mask looks like a good part to the memory and teaches nothing"),
        ([False, False], "; 2 without a mask look like good parts to the memory and teach nothing"),
        ([True], "; 1 with a mask lies outside the region of interest and teaches nothing"),
        (
            [True, False, True],
            "; 1 without a mask looks like a good part to the memory; "
            "2 with a mask lie outside the region of interest and teach nothing",
        ),
    ],
)
def test_it_is_said_which_defects_teach_nothing(has_mask: list[bool], words: str):
    assert words_of_unused(has_mask) == words

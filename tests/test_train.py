"""From a data location to a run: what is said about the split."""

import pytest

from flawmap.recipe.files import load_recipe
from flawmap.train import described_split


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 trains; there is no threshold"),
        (2, "2 train; for the threshold, each is scored without itself"),
        (19, "19 train; for the threshold, each is scored without itself"),
        (20, "20 train; for the threshold, 5 folds (seed 0)"),
    ],
)
def test_few_images_have_a_fold_each(count: int, words: str) -> None:
    assert described_split(count, 0, load_recipe("quick")) == words


def test_a_recipe_without_folds_sets_no_threshold() -> None:
    without = load_recipe("quick", ["calibration.folds=0"])
    assert described_split(30, 0, without) == "30 train, none sets a threshold"

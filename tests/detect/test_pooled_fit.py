"""A detector that is fitted from Python pools as one that is trained from the command line."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flawmap.data.checks import check_training_data
from flawmap.data.open_data import load_images
from flawmap.data.pool import Pool
from flawmap.data.sample import TrainingData
from flawmap.detect import detector as detector_module
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.runs.run_folder import create_run
from flawmap.train import refuse_other_data
from images import write_good
from tiny_detector import tiny_recipe


class StopBeforeTrainingError(Exception):
    """Stands for both stages."""


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would have been trained on."""
    given: dict[str, Any] = {}

    def fit_scorer(images, held_out, recipe, run, compute, stages, pool) -> None:
        given.update(train=images, pool=pool)
        raise StopBeforeTrainingError

    monkeypatch.setattr(detector_module, "fit_scorer", fit_scorer)
    return given


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Six good images of another part, beside copies of all good ones of this."""
    write_good(tmp_path / "good")
    other = write_good(tmp_path / "other", 6, first_seed=5000)
    for image in (tmp_path / "good").iterdir():
        shutil.copy(image, other / f"copy-{image.name}")
    return other


def test_fit_reads_the_pool_that_the_recipe_names_without_what_is_held_out(
    other: Path, handed_over: dict[str, Any]
) -> None:
    with pytest.raises(StopBeforeTrainingError):
        AnomalyDetector(tiny_recipe(f"data.pretrain_on={other}")).fit(load_images(other.parent / "good"), device="cpu")
    assert len(handed_over["train"]) == 22
    assert [image.key for image in handed_over["pool"]] == [f"other/{number:03d}.png" for number in range(6)]


def test_fit_takes_a_pool_that_was_read_already(other: Path, handed_over: dict[str, Any]) -> None:
    recipe = tiny_recipe(f"data.pretrain_on={other.parent / 'gone'}")
    images = load_images(other.parent / "good")
    with pytest.raises(StopBeforeTrainingError):
        AnomalyDetector(recipe).fit(images, device="cpu", pool=Pool(images.images[:2]))
    assert handed_over["pool"] == images.images[:2]
    with pytest.raises(UserError, match=r"data\.pretrain_on: no such folder"):
        AnomalyDetector(recipe).fit(images, device="cpu")


def test_a_run_does_not_go_on_with_another_pool(other: Path) -> None:
    own = check_training_data(load_images(other.parent / "good"), 0.0).facts[:3]
    pool = check_training_data(TrainingData("x", other, "", load_images(other).images[:2]), 0.0).facts
    run = create_run(other.parent / "run", "x", tiny_recipe())
    began_with = [*(("train", fact) for fact in own), *(("pretrain_only", fact) for fact in pool)]
    run.write_data_manifest(began_with)
    refuse_other_data(run, began_with)
    with pytest.raises(UserError, match=r"1 image is not what this run began with, first: 001\.png"):
        refuse_other_data(run, began_with[:-1])

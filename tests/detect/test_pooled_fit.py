"""A detector that is fitted from Python pools as one that is trained from the command line."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flawmap.data.open_data import load_images
from flawmap.data.pool import Pool
from flawmap.detect import fit_detector as fit_module
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.runs.manifest import ManifestRow, write_manifest
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

    def fit_scorer(images, recipe, run, compute, stages, pool, defects, loggers, elsewhere) -> None:
        given.update(train=images, pool=pool)
        raise StopBeforeTrainingError

    monkeypatch.setattr(fit_module, "fit_scorer", fit_scorer)
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


def test_a_run_does_not_resume_with_another_pool(tmp_path: Path) -> None:
    splits = ("train", "train", "train", "pretrain_only", "pretrain_only")
    rows = [ManifestRow(f"{n}.png", f"{n}" * 64, split, 48, 48, f"{n}" * 64) for n, split in enumerate(splits)]
    run = create_run(tmp_path / "run", "x", tiny_recipe())
    write_manifest(run.manifest, rows)
    refuse_other_data(run, rows)
    with pytest.raises(UserError, match=r"1 image is not what .* first: 4\.png") as caught:
        refuse_other_data(run, rows[:-1])
    assert caught.value.place == str(run.manifest)

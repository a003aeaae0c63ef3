"""A run learns from further images: as if trained on all, killed at every write, taken back, and with wrong inputs."""

import csv
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import files_and_bytes
from dying_disk import Disk, Killed
from flawmap import AnomalyDetector, load_images
from flawmap.calibrate import calibrate_run, undo_calibration
from flawmap.deploy.opened_model import open_model
from flawmap.deploy.reviews import ReviewFile, make_review
from flawmap.errors import UserError
from flawmap.evaluate.evaluate_run import evaluate_run
from flawmap.recipe.files import load_recipe
from flawmap.report.run_files import read_run
from flawmap.report.tables import commands
from flawmap.reproducibility import file_sha256
from flawmap.runs.manifest import read_manifest
from flawmap.runs.model_config import read_config
from flawmap.runs.model_folder import home_of, model_folder
from flawmap.runs.result_folders import exclusive
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from flawmap.runs.updates import updates_of
from flawmap.runs.versions import read_history
from flawmap.train import TrainingOrder, train_run
from flawmap.update import UpdateOrder, undo_update, update_run
from images import texture, write_image

SETTINGS = (
    "method=memory",
    "data.image_size_px=64",
    "model.weights=random",
    "model.architecture=test_vit",
    "memory.blocks=[1, 2]",
    "memory.tokens=60",
    "data.tiles=none",
)
NEW = [texture(100 + number) for number in range(3)]


def write_images(folder: Path, numbers: range, side_px: int = 48) -> Path:
    for number in numbers:
        write_image(folder / f"{number:03d}.png", texture(number, side_px, side_px))
    return folder


def train(data: Path, run: Path, *settings: str) -> Path:
    recipe = load_recipe("standard", [*SETTINGS, *settings])
    return train_run(TrainingOrder(str(data), recipe, run, "cpu"), None).run.path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 21 images; tests take a copy of it."""
    root = tmp_path_factory.mktemp("update")
    train(write_images(root / "a", range(21)), root / "runs" / "run")
    write_images(root / "b", range(21, 25))
    return root


@pytest.fixture
def root(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "copy"))


def scores(run: Path) -> list[float]:
    return AnomalyDetector.from_pretrained(run, "cpu").score_samples(NEW).tolist()


def update(root: Path, *, dry_run: bool = False, reviews: Path | None = None, images: str = "b"):
    order = UpdateOrder(str(root / images), reviews, device="cpu", dry_run=dry_run, command="flawmap update")
    return update_run(root / "runs" / "run", order)


def write_reviews(root: Path, images: str = "b", truth: str = "good", model: str | None = None) -> Path:
    run = RunFolder(root / "runs" / "run")
    sha256 = model or read_config(run.model / MODEL_CONFIG).weights_sha256
    path = root / "reviews.csv"
    for file in sorted((root / images).iterdir()):
        answer = "disagree" if truth == "good" else "agree"
        review = make_review(file.name, file_sha256(file), f"{str(sha256)[:16]}-fp32", 9.0, 9.0, 1.0, answer, "")
        ReviewFile(path).append(review)
    return path


# ---- what it learns


@pytest.mark.parametrize(
    "settings",
    [
        (),
        pytest.param(("memory.candidates=1000", "memory.shifts=3"), marks=pytest.mark.slow),
        pytest.param(("data.tiles=32",), marks=pytest.mark.slow),
    ],
)
def test_learning_from_two_parts_one_after_the_other_is_learning_from_both(tmp_path: Path, settings: tuple[str, ...]):
    side_px = 64 if settings and "tiles" in settings[0] else 48
    numbers = {"a": range(21), "b": range(21, 24), "both": range(24)}
    for name, of_name in numbers.items():
        write_images(tmp_path / name, of_name, side_px)
    parts = train(tmp_path / "a", tmp_path / "runs" / "run", *settings)
    whole = train(tmp_path / "both", tmp_path / "other" / "whole", *settings)
    update(tmp_path)
    np.testing.assert_allclose(scores(parts), scores(whole), atol=2e-3)
    thresholds = [AnomalyDetector.from_pretrained(run).calibration_ for run in (parts, whole)]
    assert all(thresholds)
    np.testing.assert_allclose(*(calibration.held_out_scores for calibration in thresholds), atol=2e-3)
    assert len(thresholds[0].held_out_scores) == 24


def test_the_threshold_ignores_reviewed_images(root: Path):
    before = AnomalyDetector.from_pretrained(root / "runs" / "run").calibration_
    for file in (root / "b").iterdir():  # as unlike the others as can be
        image = np.random.default_rng(int(file.stem)).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(file)
    updated = update(root, reviews=write_reviews(root))
    after = AnomalyDetector.from_pretrained(root / "runs" / "run").calibration_
    assert before.n_held_out == after.n_held_out == 21
    assert max(image.score_after for image in updated.images) > max(after.held_out_scores)
    rows = read_manifest(RunFolder(root / "runs" / "run").manifest)
    assert [row.split for row in rows] == ["train"] * 21 + ["reviewed"] * 4
    assert {image.role for image in updated.images} == {"reviewed"}
    write_images(root / "c", range(30, 33))
    update(root, images="c")  # what was reviewed stays so
    assert AnomalyDetector.from_pretrained(root / "runs" / "run").calibration_.n_held_out == 24


def test_a_reviewed_false_alarm_scores_less_afterwards(root: Path):
    run, image = root / "runs" / "run", 255 - texture(7)
    write_image(root / "c" / "inverted.png", image)
    before = AnomalyDetector.from_pretrained(run, "cpu").score_samples([image])[0]
    update(root, reviews=write_reviews(root, "c"), images="c")
    assert AnomalyDetector.from_pretrained(run, "cpu").score_samples([image])[0] < before - 1


def test_python_learns_as_the_command_and_leaves_the_run_alone(root: Path):
    run, before = root / "runs" / "run", files_and_bytes(root / "runs")
    detector = AnomalyDetector.from_pretrained(run, "cpu").update(load_images(root / "b"), device="cpu")
    assert files_and_bytes(root / "runs") == before
    update(root)
    np.testing.assert_allclose(detector.score_samples(NEW), scores(run), atol=1e-6)


@pytest.mark.slow
def test_the_head_stays_as_it_was_unless_it_is_trained_again(tmp_path: Path):
    write_images(tmp_path / "a", range(21))
    write_images(tmp_path / "b", range(21, 24))
    settings = ("method=fused", "residual.steps=4", "residual.hidden=8", "residual.simulated_images=8")
    run = train(tmp_path / "a", tmp_path / "runs" / "run", *settings)
    head = AnomalyDetector.from_pretrained(run, "cpu").scorer_.head.state_dict()
    update(tmp_path)
    now = AnomalyDetector.from_pretrained(run, "cpu").scorer_.head.state_dict()
    assert head and all((now[name] == tensor).all() for name, tensor in head.items())
    undo_update(run)
    order = UpdateOrder(str(tmp_path / "b"), device="cpu", with_head=True)
    update_run(run, order)
    now = AnomalyDetector.from_pretrained(run, "cpu").scorer_.head.state_dict()
    assert any((now[name] != tensor).any() for name, tensor in head.items())
    (tmp_path / "a" / "005.png").unlink()
    write_images(tmp_path / "c", range(24, 27))
    with pytest.raises(UserError, match=r"1 of the images .* are gone, first: 005\.png"):
        update_run(run, UpdateOrder(str(tmp_path / "c"), device="cpu", with_head=True))
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"has learned from cannot be read: no such folder") as refused:
        update_run(run, UpdateOrder(str(tmp_path / "c"), device="cpu", with_head=True))
    assert refused.value.remedy == "put them back, or leave out --head, which needs none of them"


# ---- versions


def test_undo_restores_bit_for_bit_and_an_update_builds_on_an_update(root: Path):
    run, before = root / "runs" / "run", files_and_bytes(root / "runs")
    was = scores(run)
    assert update(root).version == "update-0001"
    updated = scores(run)
    write_images(root / "c", range(30, 33))
    second = update(root, images="c")
    assert commands(read_run(run))[-2:] == ["flawmap update", "flawmap update"]
    assert second.version == "update-0002" and second.record.former == "update-0001" and second.record.n_images == 28
    assert undo_update(run) == ("update-0002", "update-0001") and scores(run) == updated
    assert undo_update(run) == ("update-0001", None) and scores(run) == was
    now = files_and_bytes(root / "runs")
    assert {name: now[name] for name in before} == before
    with pytest.raises(UserError, match="no update to undo"):
        undo_update(run)
    assert update(root).version == "update-0003" and scores(run) == updated


def test_the_record_says_who_when_and_what(root: Path):
    updated = update(root)
    folder = root / "runs" / "run" / "versions" / "update-0001"
    record = json.loads((folder / "update.json").read_text())
    assert record["command"] == "flawmap update" and "@" in record["by"] and record["at"].startswith("20")
    assert record["locations"] == [str(root / "b")] and record["n_new"] == 4 and record["n_images"] == 25
    assert record["before"]["n_good"] == 21 and record["after"]["n_good"] == 25
    rows = list(csv.DictReader((folder / "update_images.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"{number:03d}.png" for number in range(21, 25)]
    assert [row["sha256"] for row in rows] == [file_sha256(root / "b" / row["path"]) for row in rows]
    assert [float(row["score_before"]) for row in rows] == [image.score_before for image in updated.images]
    kept = folder / "checkpoints"
    assert sorted(file.name for file in kept.iterdir()) == ["encoding.json", "encoding.safetensors"]
    assert record["kept_bytes"] == sum(file.stat().st_size for file in kept.iterdir())


def test_a_calibration_belongs_to_the_version_that_it_was_made_for(root: Path):
    run, fresh = root / "runs" / "run", write_images(root / "fresh", range(60, 66))
    calibrate_run(run, str(fresh), 0.2, device="cpu")
    calibrate_run(run, str(fresh), 0.2, device="cpu", camera="left")
    assert update(root).record.dropped == ("the default", "left")
    after = AnomalyDetector.from_pretrained(run, "cpu").calibrations_
    assert not after.cameras and after.default.is_estimate and after.default.false_alarm_rate == 0.2
    calibrate_run(run, str(fresh), 0.3, device="cpu")
    assert [version.number for version in read_history(model_folder(run)).versions] == [1]
    assert undo_calibration(run).calibration == after.default
    undo_update(run)
    before = AnomalyDetector.from_pretrained(run, "cpu").calibrations_
    assert list(before.cameras) == ["left"] and not before.default.is_estimate
    assert len(read_history(model_folder(run)).versions) == 2


def test_the_name_of_a_run_stays_and_its_new_images_are_no_test_images(root: Path):
    run = root / "runs" / "run"
    update(root)
    assert home_of(model_folder(run)) == run and open_model(run, "cpu").facts.name == "run"
    write_image(root / "labelled" / "test" / "good" / "x.png", texture(21))
    write_image(root / "labelled" / "test" / "bad" / "y.png", 255 - texture(70))
    with pytest.raises(UserError, match=r"also in training as 021\.png"):
        evaluate_run(run, str(root / "labelled"), device="cpu")


def test_a_dry_run_keeps_nothing(root: Path):
    before = files_and_bytes(root / "runs")
    assert update(root, dry_run=True).version is None
    assert files_and_bytes(root / "runs") == before


@pytest.mark.slow
def test_a_killed_update_leaves_the_former_model_current(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    was, seen = scores(root / "runs" / "run"), set()
    with monkeypatch.context() as patch:
        disk = Disk(patch, num_changes := 1000)
        update(Path(shutil.copytree(root, tmp_path / "whole")))
        num_changes -= disk.left
    for kill_at in (*range(0, num_changes - 6, 7), *range(num_changes - 6, num_changes + 1)):
        copy = Path(shutil.copytree(root, tmp_path / str(kill_at)))
        run = copy / "runs" / "run"
        with monkeypatch.context() as patch:
            Disk(patch, kill_at)
            with suppress(Killed):
                update(copy)
        version = RunFolder(run).version
        seen.add(version)
        assert (scores(run) == was) == (version is None)
        if version is None:
            update(copy)  # the next command works and clears up
            assert RunFolder(run).version is not None and not list(run.glob("versions/.*"))
        shutil.rmtree(copy)
    assert seen == {None, "update-0001"} and num_changes > 20


# ---- wrong inputs


def test_images_that_are_known_are_named_and_left_out(root: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copy(root / "a" / "003.png", root / "b" / "copy.png")
    Image.open(root / "a" / "004.png").save(root / "b" / "again.bmp")  # other bytes, the same pixels
    assert update(root).record.n_new == 4
    said = capsys.readouterr().err
    assert "copy.png: the model has learned from 003.png" in said
    assert "again.bmp: the model has learned from 004.png" in said
    with pytest.raises(UserError, match="learned from all 6 images already"):
        update(root)
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert len(left_out) == 4 and left_out[-1].split(maxsplit=2)[2] == "3 more that the model has learned from"


def test_a_new_image_in_the_folder_of_the_training_is_learned(root: Path):
    write_images(root / "a", range(70, 71))
    updated = update(root, images="a")
    assert [image.path for image in updated.images] == ["070.png"] and updated.record.n_images == 22


def test_an_image_with_a_known_name_and_other_content_is_learned(root: Path):
    write_image(root / "c" / "003.png", texture(55))
    assert update(root, images="c").images[0].path.endswith("/003.png")
    keys = [row.key for row in read_manifest(RunFolder(root / "runs" / "run").manifest)]
    assert len(set(keys)) == 22


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_run_without_its_tokens_takes_shared_ones_or_asks_for_the_old_images(root: Path, damage: str):
    tokens = root / "runs" / "run" / "checkpoints" / "encoding.safetensors"
    if damage == "other":  # of a training with another seed, put here by hand
        other = train(root / "a", root / "others" / "run", "seed=1") / "checkpoints"
        for suffix in (".safetensors", ".json"):
            tokens.with_suffix(suffix).unlink()
            shutil.copy(other / f"encoding{suffix}", tokens.with_suffix(suffix))
    else:
        cut = tokens.read_bytes()[:-1]
        tokens.unlink()  # the shared file is a link to it
        if damage == "cut":
            tokens.write_bytes(cut)
    assert update(root, dry_run=True).record.n_images == 25
    shutil.rmtree(root / "runs" / "stages")
    expected = "are not there any more" if damage == "gone" else "are damaged, or of another training"
    with pytest.raises(UserError, match=expected) as error:
        update(root)
    assert "train again with the old and the new images" in error.value.remedy


@pytest.mark.slow
def test_tokens_are_kept_of_the_training_the_current_version_and_the_one_before(root: Path):
    run = root / "runs" / "run"
    for number in range(3):
        write_images(root / f"new{number}", range(30 + number, 31 + number))
        update(root, images=f"new{number}")
    have = [folder.name for folder in sorted((run / "versions").iterdir()) if (folder / "checkpoints").is_dir()]
    assert have == ["update-0002", "update-0003"] and (run / "checkpoints" / "encoding.safetensors").is_file()
    undo_update(run)
    assert update(root, images="new2").record.n_images == 24
    assert undo_update(run) == ("update-0004", "update-0002") and undo_update(run) == ("update-0002", "update-0001")
    with pytest.raises(UserError, match="are not there any more"):
        update(root)
    undo_update(run)
    assert update(root).record.n_images == 25


def test_a_model_without_its_run_asks_for_the_run(root: Path):
    shutil.copytree(root / "runs" / "run" / "model", root / "alone")
    with pytest.raises(UserError, match="in no run"):
        AnomalyDetector.from_pretrained(root / "alone", "cpu").update(load_images(root / "b"))


def test_wrong_inputs_are_refused(root: Path):
    with pytest.raises(UserError, match="no such folder"):
        update_run(root / "nowhere", UpdateOrder(str(root / "b")))
    with pytest.raises(UserError, match="no such folder"):
        update(root, images="nowhere")
    with pytest.raises(UserError, match="of another model"):
        update(root, reviews=write_reviews(root, model="f" * 64))
    (root / "reviews.csv").unlink()
    with pytest.raises(UserError, match="no image was reviewed as good"):
        update(root, reviews=write_reviews(root, truth="defect"))
    (root / "reviews.csv").unlink()
    assert RunFolder(root / "runs" / "run").version is None and not updates_of(RunFolder(root / "runs" / "run"))
    with exclusive(root / "runs" / "run"), pytest.raises(UserError, match="another process works"):
        update(root)


def test_a_model_or_a_version_in_a_run_is_not_the_run(root: Path):
    update(root)
    for folder in ("model", "versions/update-0001"):
        with pytest.raises(UserError, match="this is a") as error:
            update_run(root / "runs" / "run" / folder, UpdateOrder(str(root / "b")))
        assert str(root / "runs" / "run") in error.value.remedy and "versions" not in error.value.remedy


def test_a_pointer_to_a_version_that_is_gone_is_refused(root: Path):
    update(root)
    shutil.rmtree(root / "runs" / "run" / "versions")
    with pytest.raises(UserError, match="current version of this run is not there"):
        scores(root / "runs" / "run")
    (root / "runs" / "run" / "current.txt").unlink()  # as the remedy says
    assert scores(root / "runs" / "run")

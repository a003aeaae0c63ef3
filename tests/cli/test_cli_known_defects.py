"""flawmap train --defects: the head learns from known defects, the memory does not, and what is missed is said."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from assertions import assert_explained
from flawmap import AnomalyDetector, load_images
from flawmap.data.sample import KnownDefect
from flawmap.engine.tensor_files import read_tensors
from flawmap.recipe.files import load_recipe, to_yaml
from flawmap.report.html import write_report
from flawmap.runs.known_defects import read_known_defects
from flawmap.runs.manifest import KNOWN_DEFECT, read_manifest
from flawmap.runs.model_config import read_config
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from images import scratched, texture, write_image

pytestmark = pytest.mark.slow
SETTINGS = (
    *("data.image_size_px=64", "model.weights=random", "model.architecture=test_vit", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=60", "residual.steps=5", "residual.simulated_images=12"),
    *("residual.warmup_steps=1", "data.tiles=none"),
)
DECIDES = "fusion.image_weights=[1, 1]"


@pytest.fixture
def parts(mvtec_folder: Path) -> Path:
    return mvtec_folder


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """Four defects, of which three have a mask."""
    folder = tmp_path / "known"
    for number in range(4):
        image, mask = scratched(500 + number)
        write_image(folder / f"{number}.png", image)
        if number:
            write_image(folder / f"{number}_mask.png", mask.astype(np.uint8) * 255)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(load_recipe("standard", SETTINGS)), encoding="utf-8")
    return path


def state(run: RunFolder, stage: str) -> dict[str, np.ndarray]:
    return {name: tensor.float().numpy() for name, tensor in read_tensors(run.stage_output(stage)).items()}


def test_the_head_changes_and_the_memory_does_not(cli, parts, known, recipe, tmp_path):
    plain, with_known = (RunFolder(tmp_path / "runs" / name) for name in ("plain", "with_known"))
    assert cli("train", parts, "--recipe", recipe, "--run", plain.path).code == 0
    said = cli("train", parts, "--recipe", recipe, "--run", with_known.path, "--defects", known, "--json")
    assert said.code == 0, said.err
    assert "4 known defects, 3 with a mask" in said.err and "known defects missed at" in said.err
    for stage in ("encoding", "memory"):
        one, other = state(plain, stage), state(with_known, stage)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    one, other = state(plain, "residual"), state(with_known, "residual")
    assert one.keys() == other.keys() and not all(np.array_equal(one[name], other[name]) for name in one)
    rows = [row for row in read_manifest(with_known.manifest) if row.split == KNOWN_DEFECT]
    assert [row.key for row in rows] == [f"known/{number}.png" for number in range(4)]
    scores = read_known_defects(with_known.known_defects)
    assert scores is not None
    detectors = [AnomalyDetector.from_pretrained(run.path, "cpu") for run in (plain, with_known)]
    thresholds = [detector.calibration_ for detector in detectors]
    assert thresholds[0] is not None and thresholds[1] is not None  # the image score is the memory's alone
    assert thresholds[0].held_out_scores == thresholds[1].held_out_scores
    assert thresholds[0].threshold == thresholds[1].threshold == scores.threshold
    expected = detectors[0].score_samples([str(known / f"{number}.png") for number in range(4)])
    np.testing.assert_allclose([image.score for image in scores.images], expected, rtol=1e-5)
    record = read_config(with_known.model / MODEL_CONFIG).record
    assert record.known_defects == scores.counts and record.data is not None and record.data.known_defects == 4
    assert said.json["known_defects"]["n_missed"] == scores.counts.n_missed == int((expected <= scores.threshold).sum())
    write_report(with_known.path)
    assert scores.counts.words in with_known.report.read_text(encoding="utf-8")
    assert scores.counts.words in (with_known.model / "README.md").read_text(encoding="utf-8")
    assert cli("evaluate", with_known.path, parts).code == 0
    shutil.copy(known / "1.png", parts / "test" / "scratch" / "copy.png")
    assert_explained(cli("evaluate", with_known.path, parts), ("known/1.png",), str(parts), ("remove one copy",))
    good_twin = tmp_path / "good_twin"
    shutil.copytree(known, good_twin)
    refused = cli("update", with_known.path, good_twin)
    assert refused.code == 2 and "is the known defect known/0.png" in refused.err


def test_a_head_that_decides_is_judged_by_heads_that_have_not_seen_the_defect(cli, parts, known, recipe, tmp_path):
    run = RunFolder(tmp_path / "runs" / "judged")
    said = cli("train", parts, "--recipe", recipe, "--run", run.path, "--defects", known, "--set", DECIDES)
    assert said.code == 0, said.err
    assert "trains 4 more heads" in said.err
    scores, model = read_known_defects(run.known_defects), AnomalyDetector.from_pretrained(run.path, "cpu")
    assert scores is not None
    own = model.score_samples([str(known / f"{number}.png") for number in range(4)])
    assert not np.isclose([image.score for image in scores.images], own, rtol=1e-3).any()
    steps = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert len([step for step in steps if step["stage"] == "residual"]) <= 5  # the log is that of the model's head


def test_a_run_resumes_with_its_known_defects_and_with_no_others(cli, parts, known, recipe, tmp_path):
    run = RunFolder(tmp_path / "runs" / "a")
    words = ("train", parts, "--run", run.path)
    assert cli(*words, "--recipe", recipe, "--defects", known).code == 0
    (run.trained / MODEL_CONFIG).unlink()
    shutil.rmtree(run.trained)
    again = cli("train", "--run", run.path, "--resume")
    assert again.code == 0 and "already done" in again.err, again.err
    shutil.rmtree(run.trained)
    (known / "0.png").unlink()
    assert_explained(
        cli("train", "--run", run.path, "--resume"), ("known/0.png",), str(run.manifest), ("put the images back",)
    )


def test_an_update_uses_them_again_for_another_head(cli, parts, known, recipe, tmp_path):
    run, new = RunFolder(tmp_path / "runs" / "a"), tmp_path / "new"
    assert cli("train", parts, "--run", run.path, "--recipe", recipe, "--defects", known).code == 0
    for number in range(2):
        write_image(new / f"{number}.png", texture(700 + number))
    said = cli("update", run.path, new, "--head")
    assert said.code == 0 and "known defects show them" in said.err, said.err
    with run.manifest.open(encoding="utf-8", newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert splits.count(KNOWN_DEFECT) == 4
    (known / "2.png").unlink()
    write_image(new / "2.png", texture(702))
    refused = cli("update", run.path, new, "--head")
    assert_explained(refused, ("known/2.png", "are gone"), str(known), ("--head",))
    assert cli("update", run.path, new).code == 0  # without --head none of them is needed


def test_from_python_a_folder_or_defects_that_are_read(parts, known):
    recipe = load_recipe("standard", SETTINGS)
    images = load_images(parts)
    by_folder = AnomalyDetector(recipe).fit(images, device="cpu", defects=known)
    assert by_folder.record_.known_defects is not None and by_folder.record_.known_defects.n == 4
    one = AnomalyDetector(recipe).fit(images, device="cpu", defects=[KnownDefect("0", known / "0.png")])
    assert one.record_.known_defects is not None and one.record_.known_defects.n == 1


def test_a_recipe_without_a_head_says_so(cli, parts, known):
    said = cli("train", parts, "--recipe", "chest_xray", "--defects", known)
    assert_explained(said, ("no head",), "--defects", ("--recipe standard",))

"""A made-up run folder: textured tiles with scratches, scores, maps, samples and a log."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flawmap.metrics.curve_points import PixelCurves
from flawmap.recipe.files import load_recipe
from flawmap.runs.calibration import Calibration, MapScale, calibration_bytes, read_calibration
from flawmap.runs.cameras import Calibrations
from flawmap.runs.evaluation import (
    ScoredImage,
    read_evaluation,
    write_evaluation,
    write_maps,
    write_per_image,
    write_pixel_curves,
)
from flawmap.runs.manifest import ManifestRow, write_manifest
from flawmap.runs.model_config import DataRecord, ModelRecord, ProxyScores
from flawmap.runs.model_folder import ModelFiles, replace_calibration, write_model
from flawmap.runs.run_folder import create_run
from flawmap.runs.samples import write_map_ends
from flawmap.runs.training_log import LogFile
from made_up_evaluation import made_up_evaluation
from made_up_model import MADE_UP_CONFIG

LOW, MAP_THRESHOLD, HIGH = -1.0, 0.5, 2.0
THRESHOLD = 0.6
HOSTILE_KEY = "test/scratch/<script>alert(1)&x.png"


@dataclass(frozen=True)
class MadeUpRun:
    """The run folder and the scores that were put into it."""

    run: Path
    good: np.ndarray
    anomalous: np.ndarray
    held_out: np.ndarray


def tile(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gray texture, uint8 (height, width, 3)."""
    waves = np.sin(np.arange(width) / 5 + rng.random())[None] * 8 + np.cos(np.arange(height) / 9)[:, None] * 6
    gray = 118 + waves + rng.normal(0, 5, (height, width))
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def blob(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    """A Gaussian bump in [0, 1], float (height, width)."""
    ys, xs = np.mgrid[:height, :width]
    return np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * radius**2))


def save_gray(path: Path, share: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(255 * share).astype(np.uint8)).save(path)


def write_test_images(run: Path, originals: Path, good: np.ndarray, anomalous: np.ndarray) -> None:
    """per_image.csv, and for each test image its file, its map and its truth."""
    rng, folder = np.random.default_rng(11), run / "evaluation"
    height, width = 96, 128
    images = []
    for i, score in enumerate([*good, *anomalous]):
        is_anomalous = i >= len(good)
        kind = ("scratch" if i % 2 else "stain") if is_anomalous else "good"
        key = f"test/{kind}/{i:03d}.png" if i != len(good) + 1 else HOSTILE_KEY
        pixels = tile(rng, height, width)
        y, x = rng.uniform(20, height - 20), rng.uniform(20, width - 20)
        bump = blob(height, width, y, x, 9)
        if is_anomalous:
            pixels = (pixels * (1 - 0.7 * bump[..., None])).astype(np.uint8)
        path = originals / f"{i:03d}.png"
        Image.fromarray(pixels).save(path)
        anomaly_map = -0.8 + 2.6 * float(score) * bump + 0.1 * rng.random((height, width))
        truth = bump > 0.3 if is_anomalous else None
        files = write_maps(folder, f"{i:04d}_{i:03d}.png", anomaly_map, truth, MapScale(LOW, HIGH))
        scores, flag = {"vote_mean": float(score)}, bool(score > THRESHOLD)
        images.append(ScoredImage(key, path, kind, is_anomalous, float(score), flag, *files, scores=scores))
    write_per_image(folder, images)


def write_samples(run: Path, n: int) -> None:
    rng = np.random.default_rng(12)
    side = 112
    for i in range(n):
        image, bump = tile(rng, side, side), blob(side, side, 40 + 9 * i, 60, 12)
        attention = blob(side, side, 56, 56, 30)
        keep = np.repeat(np.repeat(rng.random((8, 8)) > 0.3, 14, axis=0), 14, axis=1)
        footprint = bump > 0.6
        simulated = image.copy()
        simulated[footprint] = np.roll(image, 31, axis=0)[footprint] // 2
        for name, pixels in (
            ("input", image),
            ("masked", image * keep[..., None]),
            ("simulated", simulated),
        ):
            (run / "samples").mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(run / "samples" / f"{i:02d}_{name}.png")
        for name, share in (("attention", attention), ("footprint", footprint), ("map", 0.1 + 0.85 * bump)):
            save_gray(run / "samples" / f"{i:02d}_{name}.png", share)
    write_map_ends(run / "samples", MapScale(LOW, HIGH))


def write_log(run: Path) -> None:
    rng = np.random.default_rng(13)
    log = LogFile(run / "log.jsonl")
    for stage, steps in (("pretrain", 400), ("finetune", 60)):
        for step in range(steps):
            entry = {"stage": stage, "step": step, "epoch": step // 20, "steps": steps}
            entry["loss"] = 3 * float(np.exp(-step / (steps / 3))) + 0.1 * rng.random()
            if stage == "pretrain":
                entry |= {"prototypes_used_recently": 12 + min(step // 40, 8), "target_entropy": 2.9 - step / 600}
            else:
                entry |= {"detection_loss": entry["loss"] * 0.9, "learning_rate": 5e-4 * (1 - step / steps)}
            log.write(entry)
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "finetune", "st')  # cut off by an interruption


def calibration_of(held_out: np.ndarray) -> Calibration:
    return Calibration(
        threshold=THRESHOLD,
        false_alarm_rate=0.05,
        n_held_out=len(held_out),
        smallest_resolvable_rate=1 / (len(held_out) + 1),
        map_threshold=MAP_THRESHOLD,
        map_scale=MapScale(LOW, HIGH),
        held_out_scores=tuple(sorted(held_out.tolist())),
    )


def write_model_of(run: Path, held_out: np.ndarray) -> None:
    """A model folder with empty weights."""
    config = replace(
        MADE_UP_CONFIG,
        architecture="vit_small_patch14_dinov2",
        weights_source="dinov2",
        weights_licence="Apache-2.0",
        held_out_simulated_defects=ProxyScores(0.9876, None, 32),
        calibrated=True,
        record=ModelRecord(DataRecord("00", 360, 40, 0, "CC BY-NC-SA 4.0")),
    )
    write_model(run / "model", b"", ModelFiles(config, load_recipe("paper"), Calibrations(calibration_of(held_out))))


@pytest.fixture
def trained_run(tmp_path: Path) -> Path:
    """A run that has been trained and calibrated, but not evaluated."""
    run = create_run(tmp_path / "2026-11-24_tiles", "tiles", load_recipe("paper"))
    write_model_of(run.path, np.random.default_rng(14).normal(0.25, 0.12, 40))
    write_samples(run.path, 4)
    write_log(run.path)
    text = run.recipe.read_text(encoding="utf-8")
    run.recipe.write_text(f"# <b>not bold</b>\n{text}", encoding="utf-8")
    run.write_environment({"python": "3.11", "device": "cpu", "seed": 0, "torch": "2.9"})
    splits = ("held_out" if i < 40 else "train" for i in range(400))
    rows = [ManifestRow(f"train/good/{i}.png", "00", split, 128, 96, "11") for i, split in enumerate(splits)]
    write_manifest(run.manifest, rows)
    return run.path


@pytest.fixture
def made_up(trained_run: Path, tmp_path: Path) -> MadeUpRun:
    """The same run, evaluated on 60 good and 40 anomalous images."""
    rng = np.random.default_rng(15)
    good, anomalous = rng.normal(0.28, 0.14, 60), rng.normal(0.8, 0.22, 40)
    good[3] = 0.68  # the one false alarm
    anomalous[1] = 0.31  # the worst miss: HOSTILE_KEY
    good[5] = anomalous[3] = THRESHOLD  # at the threshold is not above it
    calibration = read_calibration(trained_run / "model" / "calibration.json")
    assert calibration is not None
    originals, folder = tmp_path / "originals", trained_run / "evaluation"
    originals.mkdir()
    folder.mkdir()
    write_test_images(trained_run, originals, good, anomalous)
    rates = (float(np.mean(good > THRESHOLD)), float(np.mean(anomalous <= THRESHOLD)))
    evaluation = made_up_evaluation(60, 40, calibration=calibration)
    write_evaluation(folder, replace(evaluation, realised_false_alarm_rate=rates[0], missed_rate=rates[1]))
    curves = ([[0, 0], [0.1, 0.6], [1, 1]], [[0.2, 0.9], [1, 0.2]], [[0, 0], [0.3, 0.8]])
    write_pixel_curves(folder, PixelCurves(*(np.array(points, np.float64) for points in curves), 0.04, 100))
    return MadeUpRun(trained_run, good, anomalous, np.array(calibration.held_out_scores))


@pytest.fixture
def change(made_up: MadeUpRun) -> Callable[..., None]:
    """``change(pixel=None)`` changes the made-up evaluation."""

    def write(**changes: Any) -> None:
        folder = made_up.run / "evaluation"
        evaluation = read_evaluation(folder)
        assert evaluation is not None
        write_evaluation(folder, replace(evaluation, **changes))

    return write


@pytest.fixture
def recalibrate(trained_run: Path) -> Callable[..., None]:
    """``recalibrate(threshold=0.7)`` changes the calibration of the made-up model."""

    def write(**changes: Any) -> None:
        calibration = read_calibration(trained_run / "model" / "calibration.json")
        assert calibration is not None
        replace_calibration(trained_run / "model", None, calibration_bytes(replace(calibration, **changes)))

    return write

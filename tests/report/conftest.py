"""A made-up run folder: textured tiles with scratches, scores, maps, samples and a log."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def save_map(path: Path, anomaly_map: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.round(65535 * ((anomaly_map - LOW) / (HIGH - LOW)).clip(0, 1)).astype(np.uint16)
    Image.fromarray(levels).save(path)


def save_gray(path: Path, share: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(255 * share).astype(np.uint8)).save(path)


def write_evaluation(run: Path, pictures: Path, good: np.ndarray, anomalous: np.ndarray) -> None:
    rng = np.random.default_rng(11)
    height, width = 96, 128
    rows = []
    for i, score in enumerate([*good, *anomalous]):
        is_anomalous = i >= len(good)
        kind = ("scratch" if i % 2 else "stain") if is_anomalous else "good"
        key = f"test/{kind}/{i:03d}.png" if i != len(good) + 1 else HOSTILE_KEY
        path = pictures / f"{i:03d}.png"
        image = tile(rng, height, width)
        y, x = rng.uniform(20, height - 20), rng.uniform(20, width - 20)
        bump = blob(height, width, y, x, 9)
        name = f"{i:04d}_{i:03d}.png"
        if is_anomalous:
            image = (image * (1 - 0.7 * bump[..., None])).astype(np.uint8)
            save_gray(run / "evaluation" / "truth" / name, bump > 0.3)
        Image.fromarray(image).save(path)
        save_map(
            run / "evaluation" / "maps" / name,
            -0.8 + 2.6 * float(score) * bump + 0.1 * rng.random((height, width)),
        )
        rows.append(
            {
                "key": key,
                "path": str(path),
                "kind": kind,
                "is_anomalous": int(is_anomalous),
                "score": repr(float(score)),
                "is_flagged": int(score > THRESHOLD),
                "map": f"maps/{name}",
                "truth": f"truth/{name}" if is_anomalous else "",
                "vote_mean": repr(float(score)),
            }
        )
    with (run / "evaluation" / "per_image.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    kinds = {
        "scratch": {"n": 20, "image_auroc": 0.95, "pixel_auroc": 0.87},
        "stain": {"n": 20, "image_auroc": 0.91, "pixel_auroc": None},
    }
    sizes = [(224, 0.9012, 0.7741), (320, 0.9103, 0.8011), (448, 0.9066, 0.8105)]
    metrics = {
        "data": "tiles",
        "layout": "MVTec folder",
        "n_good": len(good),
        "n_anomalous": len(anomalous),
        "image_auroc": 0.93125,
        "pixel_auroc": 0.84217,
        "n_pixel_images": len(rows),
        "per_kind": kinds,
        "groups": {"camera=left": {"n": 50, "image_auroc": 0.94, "pixel_auroc": 0.85}},
        "image_scores": {"vote": 0.8811, "vote_mean": 0.93125, "mean_logit": 0.9222, "map_max": None},
        "single_scale": {"size_px": 224, "image_auroc": 0.9012, "pixel_auroc": 0.7741},
        "per_scale": [{"size_px": s, "image_auroc": i, "pixel_auroc": p} for s, i, p in sizes],
        "threshold": THRESHOLD,
        "false_alarm_rate": 0.05,
        "realised_false_alarm_rate": float(np.mean(good > THRESHOLD)),
        "missed_rate": float(np.mean(anomalous <= THRESHOLD)),
        "seconds_per_image": 0.4321,
        "map_threshold": MAP_THRESHOLD,
        "map_scale": {"low": LOW, "high": HIGH},
        "image_score": "vote_mean",
        "command": "flawmap evaluate runs/demo tiles",
    }
    (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    curves = {"roc": [[0, 0], [0.1, 0.6], [1, 1]], "precision_recall": [[0.2, 0.9], [1, 0.2]]}
    curves |= {"overlap": [[0, 0], [0.3, 0.8]], "anomalous_share": 0.04, "n_images": len(rows)}
    (run / "evaluation" / "pixel_curves.json").write_text(json.dumps(curves), encoding="utf-8")


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
        for name, picture in (
            ("input", image),
            ("masked", image * keep[..., None]),
            ("simulated", simulated),
        ):
            (run / "samples").mkdir(exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(run / "samples" / f"{i:02d}_{name}.png")
        for name, share in (("attention", attention), ("footprint", footprint), ("map", 0.1 + 0.85 * bump)):
            save_gray(run / "samples" / f"{i:02d}_{name}.png", share)


def write_log(run: Path) -> None:
    rng = np.random.default_rng(13)
    lines = []
    for stage, steps in (("pretrain", 400), ("finetune", 60)):
        for step in range(steps):
            entry = {"stage": stage, "step": step, "epoch": step // 20, "steps": steps}
            entry["loss"] = 3 * float(np.exp(-step / (steps / 3))) + 0.1 * rng.random()
            if stage == "pretrain":
                entry |= {"prototypes_used": 12 + min(step // 40, 8), "target_entropy": 2.9 - step / 600}
            else:
                entry |= {"detection_loss": entry["loss"] * 0.9, "learning_rate": 5e-4 * (1 - step / steps)}
            lines.append(json.dumps(entry))
    (run / "log.jsonl").write_text("\n".join(lines) + '\n{"stage": "finetune", "st', encoding="utf-8")


def write_model(run: Path, held_out: np.ndarray) -> None:
    calibration = {
        "threshold": THRESHOLD,
        "false_alarm_rate": 0.05,
        "n_held_out": len(held_out),
        "smallest_resolvable_rate": 1 / (len(held_out) + 1),
        "map_threshold": MAP_THRESHOLD,
        "held_out_scores": held_out.tolist(),
        "map_scale": {"low": LOW, "high": HIGH},
    }
    config = {
        "architecture": "vit_small_patch14_dinov2",
        "licences": {"weights": "Apache-2.0", "data": "CC BY-NC-SA 4.0"},
    }
    config["held_out_simulated_defects"] = {"image_auroc": 0.9876, "pixel_auroc": None, "n": 32}
    (run / "model").mkdir()
    (run / "model" / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    (run / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture
def trained_run(tmp_path: Path) -> Path:
    """A run that has been trained and calibrated, but not evaluated."""
    run = tmp_path / "2026-11-24_tiles"
    run.mkdir()
    write_model(run, np.random.default_rng(14).normal(0.25, 0.12, 40))
    write_samples(run, 4)
    write_log(run)
    (run / "recipe.yaml").write_text("seed: 0\ndata:\n  image_size_px: 224  # <b>not bold</b>\n", encoding="utf-8")
    (run / "environment.json").write_text(
        '{"python": "3.11", "device": "cpu", "versions": {"torch": "2.9"}}', encoding="utf-8"
    )
    manifest = ["path,sha256,split,width,height"]
    manifest += [f"train/good/{i}.png,00,{'held_out' if i < 40 else 'train'},128,96" for i in range(400)]
    (run / "data_manifest.csv").write_text("\n".join(manifest) + "\n", encoding="utf-8")
    return run


@pytest.fixture
def made_up(trained_run: Path, tmp_path: Path) -> MadeUpRun:
    """The same run, evaluated on 60 good and 40 anomalous pictures."""
    rng = np.random.default_rng(15)
    good, anomalous = rng.normal(0.28, 0.14, 60), rng.normal(0.8, 0.22, 40)
    good[3] = 0.68  # the one false alarm
    anomalous[1] = 0.31  # the worst miss: HOSTILE_KEY
    good[5] = anomalous[3] = THRESHOLD  # at the threshold is not above it
    held_out = np.array(json.loads((trained_run / "model" / "calibration.json").read_text())["held_out_scores"])
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (trained_run / "evaluation").mkdir()
    write_evaluation(trained_run, pictures, good, anomalous)
    return MadeUpRun(trained_run, good, anomalous, held_out)

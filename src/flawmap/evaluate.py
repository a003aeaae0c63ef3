"""One trained detector against one labelled data set. The only place where test images are opened.

Nothing here flows back: thresholds and settings are those of the detector as it was saved.
"""

import csv
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from flawmap.data.image_files import read_image
from flawmap.data.sample import LabelledImage, TestData
from flawmap.data.truth import read_truth
from flawmap.detect.detector import Analysis, AnomalyDetector
from flawmap.detect.multiscale import IMAGE_SCORES, mean_map
from flawmap.errors import UserError
from flawmap.metrics.ranking import BinnedScores, auroc
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text

MAX_16_BIT = 65535


@dataclass
class PixelPools:
    """Streaming pixel scores, for all images together and for each defect kind and group."""

    everything: BinnedScores = field(default_factory=BinnedScores)
    normal: BinnedScores = field(default_factory=BinnedScores)
    by_kind: dict[str, BinnedScores] = field(default_factory=lambda: defaultdict(BinnedScores))
    by_group: dict[str, BinnedScores] = field(default_factory=lambda: defaultdict(BinnedScores))
    by_scale: dict[int, BinnedScores] = field(default_factory=lambda: defaultdict(BinnedScores))
    n_images: int = 0


@dataclass(frozen=True)
class ScoredSample:
    """One test image with its scores."""

    sample: LabelledImage
    scores: dict[str, float]
    logits: dict[int, float]
    map_file: str
    truth_file: str


def evaluate(
    detector: AnomalyDetector,
    data: TestData,
    folder: Path | None,
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score every test image and report.

    Args:
        detector: fitted or loaded.
        data: labelled images and the protocol that says how they are pooled.
        folder: metrics.json, per_image.csv, maps (16 bit) and truth masks go there; None writes nothing.
        command: how to reproduce this, for the record.
        progress: called after each image with (done, total).

    Returns:
        the content of metrics.json.
    """
    pools, scored, seconds = PixelPools(), [], 0.0
    for number, sample in enumerate(data.samples):
        pixels = read_image(sample.path)
        started = time.perf_counter()
        analysis = detector.analyse(pixels)
        seconds += time.perf_counter() - started
        truth = read_truth(sample, *pixels.shape[:2]) if data.protocol.pixel_pool != "none" else None
        _pool_pixels(pools, sample, analysis, truth, data)
        map_file, truth_file = _write_maps(folder, number, sample, analysis, truth, detector)
        logits = {scale.size_px: scale.logit for scale in analysis.scales}
        scored.append(ScoredSample(sample, analysis.scores, logits, map_file, truth_file))
        progress(number + 1, len(data.samples))
    metrics = _metrics(detector, data, scored, pools, seconds / max(1, len(scored)), command)
    if folder is not None:
        _write_per_image(folder, scored, metrics["image_score"], metrics["threshold"])
        atomic_write_text(folder / "metrics.json", json.dumps(metrics, indent=2))
    return metrics


def _pool_pixels(
    pools: PixelPools, sample: LabelledImage, analysis: Analysis, truth: Bool[np.ndarray, "h w"] | None, data: TestData
) -> None:
    """Add one image's pixels to the pools that the protocol admits it to."""
    if truth is None or (data.protocol.pixel_pool == "truth_only" and not sample.is_anomalous):
        return
    anomaly_map = analysis.anomaly_map
    pools.n_images += 1
    pools.everything.add(anomaly_map, truth)
    (pools.by_kind[sample.kind] if sample.is_anomalous else pools.normal).add(anomaly_map, truth)
    for name in data.protocol.group_by:
        if name in sample.groups:
            pools.by_group[f"{name}={sample.groups[name]}"].add(anomaly_map, truth)
    for scale in analysis.scales:
        pools.by_scale[scale.size_px].add(mean_map([scale], *truth.shape), truth)


def _metrics(
    detector: AnomalyDetector,
    data: TestData,
    scored: list[ScoredSample],
    pools: PixelPools,
    seconds: float,
    command: str,
) -> dict[str, Any]:
    name = detector.recipe.detect.image_score
    scores = np.array([s.scores[name] for s in scored])
    labels = np.array([s.sample.is_anomalous for s in scored], bool)
    calibration = detector.calibration_
    flagged = scores > calibration.threshold if calibration else np.zeros(len(scores), bool)
    per_scale = [
        {
            "size_px": size,
            "image_auroc": auroc(np.array([s.logits[size] for s in scored]), labels),
            "pixel_auroc": pools.by_scale[size].auroc() if size in pools.by_scale else None,
        }
        for size in detector.sizes_px
    ]
    training_size = detector.recipe.finetune.image_size_px or detector.recipe.data.image_size_px
    return {
        "data": data.name,
        "layout": data.layout,
        "root": str(data.root),
        "n_good": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "n_pixel_images": pools.n_images,
        "image_score": name,
        "image_auroc": auroc(scores, labels),
        "pixel_auroc": pools.everything.auroc(),
        "pixel_auroc_binning_error": pools.everything.auroc_error_bound(),
        "per_kind": _per_kind(scored, scores, labels, pools),
        "groups": _per_group(scored, scores, labels, pools, data.protocol.group_by),
        "image_scores": {n: auroc(np.array([s.scores[n] for s in scored]), labels) for n in IMAGE_SCORES},
        "single_scale": min(per_scale, key=lambda entry: abs(entry["size_px"] - training_size)),
        "per_scale": per_scale,
        "threshold": calibration.threshold if calibration else None,
        "false_alarm_rate": calibration.false_alarm_rate if calibration else None,
        "realised_false_alarm_rate": _share(flagged[~labels]) if calibration else None,
        "missed_rate": _share(~flagged[labels]) if calibration else None,
        "map_threshold": calibration.map_threshold if calibration else None,
        "map_scale": asdict(detector.map_scale),
        "seconds_per_image": seconds,
        "threads": torch.get_num_threads(),
        "skipped": [{"key": s.key, "reason": s.reason} for s in data.skipped],
        "command": command,
    }


def _per_kind(
    scored: list[ScoredSample],
    scores: Float[np.ndarray, "n"],
    labels: Bool[np.ndarray, "n"],
    pools: PixelPools,
) -> dict[str, dict[str, Any]]:
    """Each defect kind against all normal images."""
    kinds = np.array([s.sample.kind for s in scored])
    result = {}
    for kind in sorted(set(kinds[labels])):
        chosen = (kinds == kind) & labels | ~labels
        pixels = BinnedScores()
        pixels.merge(pools.normal)
        if kind in pools.by_kind:
            pixels.merge(pools.by_kind[kind])
        count = int(((kinds == kind) & labels).sum())
        pixel_auroc = pixels.auroc() if kind in pools.by_kind else None
        result[str(kind)] = {
            "n": count,
            "image_auroc": auroc(scores[chosen], labels[chosen]),
            "pixel_auroc": pixel_auroc,
        }
    return result


def _per_group(
    scored: list[ScoredSample], scores: np.ndarray, labels: np.ndarray, pools: PixelPools, group_by: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Each group of the protocol (sex, view, ...) on its own."""
    result = {}
    for name in group_by:
        values = np.array([s.sample.groups.get(name, "") for s in scored])
        for value in sorted(set(values) - {""}):
            chosen = values == value
            key = f"{name}={value}"
            result[key] = {
                "n": int(chosen.sum()),
                "n_anomalous": int(labels[chosen].sum()),
                "image_auroc": auroc(scores[chosen], labels[chosen]),
                "pixel_auroc": pools.by_group[key].auroc() if key in pools.by_group else None,
            }
    return result


def _write_maps(
    folder: Path | None,
    number: int,
    sample: LabelledImage,
    analysis: Analysis,
    truth: np.ndarray | None,
    detector: AnomalyDetector,
) -> tuple[str, str]:
    """The map as 16-bit PNG and the truth as 8-bit PNG; their names relative to the folder, or ""."""
    if folder is None:
        return "", ""
    name = f"{number:04d}_{sample.path.stem[:48]}.png"  # a name that no file system finds too long
    scale = detector.map_scale
    shares = (analysis.anomaly_map - scale.low) / (scale.high - scale.low)
    levels = np.rint(shares.clip(0, 1) * MAX_16_BIT).astype(np.uint16)
    _write_png(folder / "maps" / name, levels)
    if truth is None or not truth.any():
        return f"maps/{name}", ""
    _write_png(folder / "truth" / name, truth.astype(np.uint8) * 255)
    return f"maps/{name}", f"truth/{name}"


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    try:
        atomic_write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"a map cannot be written: {error.strerror}", str(path), "free some disk space") from error


def _write_per_image(folder: Path, scored: list[ScoredSample], score_name: str, threshold: float | None) -> None:
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["key", "path", "kind", "is_anomalous", "score", "is_flagged", "map", "truth", *IMAGE_SCORES])
    for s in scored:
        score = s.scores[score_name]
        flagged = int(threshold is not None and score > threshold)
        all_scores = [repr(s.scores[name]) for name in IMAGE_SCORES]
        rows.writerow(
            [
                s.sample.key,
                s.sample.path.absolute(),  # a report is also written from elsewhere
                s.sample.kind,
                int(s.sample.is_anomalous),
                repr(score),
                flagged,
                s.map_file,
                s.truth_file,
                *all_scores,
            ]
        )
    atomic_write_text(folder / "per_image.csv", buffer.getvalue())


def _share(flags: Bool[np.ndarray, "n"]) -> float | None:
    return float(flags.mean()) if len(flags) else None

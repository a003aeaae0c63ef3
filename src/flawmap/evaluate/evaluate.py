"""One trained detector against one labelled data set. The only place where test images are scored.

Nothing here flows back: thresholds and settings are those of the detector as it was saved.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from flawmap.data.images.files import read_image
from flawmap.data.images.truth import read_truth
from flawmap.data.sample import TestData
from flawmap.detect.detector import AnomalyDetector
from flawmap.evaluate.measures import (
    PooledPixels,
    ScoredImages,
    block_of_all,
    blocks_by_group,
    blocks_by_kind,
    blocks_by_size,
    scored_images,
    value_of,
)
from flawmap.metrics.defect_size import SIZE_CLASS_MEANING
from flawmap.metrics.ranking import auroc
from flawmap.metrics.score_drift import score_drift
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.evaluation import ScoredSample, write_maps, write_per_image, write_pixel_curves


def evaluate(
    detector: AnomalyDetector,
    data: TestData,
    folder: Path | None,
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
    evaluation_size_px: int | None = None,
) -> dict[str, Any]:
    """Score every test image and report.

    Args:
        detector: fitted or loaded.
        data: labelled images and the protocol that says how they are pooled.
        folder: metrics.json, per_image.csv, pixel_curves.json, maps (16 bit) and truth masks go there; None writes
            nothing.
        command: how to reproduce this, for the record.
        progress: called after each image with (done, total).
        evaluation_size_px: side of the square at which pixels are compared, as papers do that evaluate at 224 or 256;
            None compares them at the original resolution of each image.

    Returns:
        the content of metrics.json; :mod:`flawmap.evaluate.measures` says what its blocks hold.
    """
    pixels, scored, seconds = PooledPixels(data.protocol, evaluation_size_px), [], 0.0
    for number, sample in enumerate(data.samples):
        image = read_image(sample.path)
        started = time.perf_counter()
        analysis = detector.analyse(image)
        seconds += time.perf_counter() - started
        truth = read_truth(sample, *image.shape[:2]) if data.protocol.pixel_pool != "none" else None
        pixels.add(sample, analysis, truth)
        files = write_maps(folder, number, sample, analysis.anomaly_map, truth, detector.map_scale)
        logits = {scale.size_px: scale.logit for scale in analysis.scales}
        share = float(truth.mean()) if sample.is_anomalous and truth is not None else None
        scored.append(ScoredSample(sample, analysis.scores, logits, share, *files))
        progress(number + 1, len(data.samples))
    metrics = _metrics(detector, data, scored, pixels)
    metrics |= {
        "seconds_per_image": seconds / max(1, len(scored)),
        "threads": torch.get_num_threads(),
        "device": detector.device,
        "without_truth": _without_truth(data, scored),
        "skipped": [{"key": s.key, "reason": s.reason} for s in data.skipped],
        "command": command,
    }
    if folder is not None:
        write_per_image(folder, scored, metrics["image_score"], metrics["threshold"])
        write_pixel_curves(folder, pixels.pools.everything().curves())
        atomic_write_text(folder / "metrics.json", json.dumps(metrics, indent=2))
    return metrics


def _metrics(
    detector: AnomalyDetector, data: TestData, scored: Sequence[ScoredSample], pixels: PooledPixels
) -> dict[str, Any]:
    name = detector.recipe.detect.image_score
    images = scored_images(scored, name)
    every, by_kind, by_group = (
        block_of_all(images, pixels),
        blocks_by_kind(images, pixels),
        blocks_by_group(images, pixels),
    )
    labels = images.is_anomalous
    return {
        "data": data.name,
        "layout": data.layout,
        "root": str(data.root),
        "n_good": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "n_pixel_images": pixels.n_images,
        "pixel_pool": data.protocol.pixel_pool,
        "evaluation_size_px": pixels.evaluation_size_px,
        "image_score": name,
        "image": every["image"],
        "pixel": every["pixel"],
        "by_kind": by_kind,
        "by_size": blocks_by_size(images, pixels),
        "size_classes": dict(SIZE_CLASS_MEANING),
        "by_group": by_group,
        "image_auroc": value_of(every["image"], "auroc"),
        "pixel_auroc": value_of(every["pixel"], "auroc"),
        "per_kind": {kind: {"n": block["n"], **_aurocs(block)} for kind, block in by_kind.items()},
        "groups": {
            key: {"n": block["n"], "n_anomalous": block["n_anomalous"], **_aurocs(block)}
            for key, block in by_group.items()
        },
        "image_scores": {n: auroc(np.array([s.scores[n] for s in scored]), labels) for n in detector.score_names},
        **_scales(detector, scored, labels, pixels),
        **_promises(detector, images),
        "map_scale": asdict(detector.map_scale),
    }


def _without_truth(data: TestData, scored: Sequence[ScoredSample]) -> list[str]:
    """Keys of the anomalous images of which nobody has said where their defect is, where the data set has masks."""
    if data.protocol.pixel_pool == "none":
        return []
    return [s.sample.key for s in scored if s.sample.is_anomalous and s.anomalous_share is None]


def _aurocs(block: Mapping[str, Any]) -> dict[str, float | None]:
    return {"image_auroc": value_of(block["image"], "auroc"), "pixel_auroc": value_of(block["pixel"], "auroc")}


def _scales(
    detector: AnomalyDetector, scored: Sequence[ScoredSample], labels: Bool[np.ndarray, "n"], pixels: PooledPixels
) -> dict[str, Any]:
    """Each test size alone, and the one that is nearest to the training's."""
    per_scale = [
        {
            "size_px": size,
            "image_auroc": auroc(np.array([s.logits[size] for s in scored]), labels),
            "pixel_auroc": pixels.by_scale[size].auroc() if size in pixels.by_scale else None,
        }
        for size in detector.sizes_px
    ]
    training_size = detector.recipe.finetune.image_size_px or detector.recipe.data.image_size_px
    single = min(per_scale, key=lambda entry: abs(entry["size_px"] - training_size))
    return {"single_scale": single, "per_scale": per_scale}


def _promises(detector: AnomalyDetector, images: ScoredImages) -> dict[str, Any]:
    """What the calibration promised, what came of it, and whether good images still score as they did then."""
    calibration = detector.calibration_
    if calibration is None:
        names = ("threshold", "false_alarm_rate", "realised_false_alarm_rate", "missed_rate", "map_threshold")
        return dict.fromkeys((*names, "held_out_scores", "drift"))
    flagged, labels = images.scores > calibration.threshold, images.is_anomalous
    drift = score_drift(np.array(calibration.held_out_scores), images.scores[~labels])
    return {
        "threshold": calibration.threshold,
        "false_alarm_rate": calibration.false_alarm_rate,
        "realised_false_alarm_rate": _share(flagged[~labels]),
        "missed_rate": _share(~flagged[labels]),
        "map_threshold": calibration.map_threshold,
        "held_out_scores": list(calibration.held_out_scores),
        "drift": asdict(drift) if drift else None,
    }


def _share(flags: Bool[np.ndarray, "n"]) -> float | None:
    return float(flags.mean()) if len(flags) else None

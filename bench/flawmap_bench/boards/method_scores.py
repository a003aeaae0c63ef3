"""The one scorer of all methods: compares labels and masks with the scores and maps that a method wrote."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flawmap.data.images.truth import read_truth
from flawmap.data.sample import LabelledImage, TestData
from flawmap.metrics.bootstrap import Estimate
from flawmap.metrics.curves import average_precision_of_counts, value_or_none
from flawmap.metrics.image_metrics import image_estimates
from flawmap.metrics.pixel_pool import PixelPool, PixelPools, count_pixels
from flawmap.metrics.ranking import auroc, counts_per_score
from flawmap.reproducibility import numpy_generator

BOOTSTRAP_SEED = 0


def scored_metrics(data: TestData, folder: Path, map_threshold: float | None = None) -> dict[str, Any]:
    """All metrics of one method.

    Args:
        data: labelled images and their protocol.
        folder: NUMBER.npz for each of them in order, with ``image_score`` and, where the method has maps,
            ``anomaly_map``.
        map_threshold: of map values, from good images; None where the method has none.

    Returns:
        JSON-ready: ``image`` and ``pixel`` estimates by measure, AUROC per kind and per stratum; pixel values are None
        without maps, without masks, or where the protocol counts no pixels. With a threshold, F1 of pixels and
        region precision at it are among the pixel measures.
    """
    scores, pools, strata = [], PixelPools(), dict[str, PixelPool]()
    for number, sample in enumerate(data.samples):
        with np.load(folder / f"{number:05d}.npz") as content:
            scores.append(float(content["image_score"]))
            anomaly_map = content.get("anomaly_map", None)
        if anomaly_map is None or not counts_pixels(sample, data.protocol.pixel_pool):
            continue
        truth = read_truth(sample, *anomaly_map.shape)
        if truth is None:
            continue
        image = count_pixels(anomaly_map, truth, map_threshold)
        pools.add(image, sample.kind, group=sample.group)
        for stratum in strata_of(sample, data.protocol.strata):
            strata.setdefault(stratum, PixelPool()).add(image, sample.group)
    labels = np.array([sample.is_anomalous for sample in data.samples], bool)
    everything = pools.everything()
    generator = numpy_generator(BOOTSTRAP_SEED, "bootstrap")
    image = image_estimates(np.array(scores), labels, generator, groups=[sample.group for sample in data.samples])
    pixel = everything.estimates(numpy_generator(BOOTSTRAP_SEED, "bootstrap")) if everything.n_images else {}
    return {
        "data": data.name,
        "n_good": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "n_pixel_images": everything.n_images,
        "image": _as_json(image),
        "pixel": _as_json(pixel),
        "by_kind": _by_kind(data, np.array(scores), labels, pools),
        "by_stratum": _by_stratum(data, np.array(scores), labels, strata),
        "image_scores": {sample.key: score for sample, score in zip(data.samples, scores, strict=True)},
    }


def counts_pixels(sample: LabelledImage, pixel_pool: str) -> bool:
    """Whether the protocol counts an image's pixels, if it has a mask."""
    return pixel_pool == "all" or (pixel_pool == "truth_only" and sample.is_anomalous)


def strata_of(sample: LabelledImage, strata: tuple[str, ...]) -> list[str]:
    """``name=value`` of each stratum that an image belongs to."""
    return [f"{name}={sample.strata[name]}" for name in strata if sample.strata.get(name)]


def _by_kind(data: TestData, scores: np.ndarray, labels: np.ndarray, pools: PixelPools) -> dict[str, Any]:
    """Each defect kind against all normal images."""
    kinds = np.array([sample.kind for sample in data.samples])
    by_kind, metrics = pools.by_kind(), {}
    for kind in sorted(set(kinds[labels].tolist())):
        chosen = (kinds == kind) & labels | ~labels
        metrics[kind] = {
            "n": int((labels & (kinds == kind)).sum()),
            "image_auroc": auroc(scores[chosen], labels[chosen]),
            "pixel_auroc": by_kind[kind].values().get("auroc") if kind in by_kind else None,
        }
    return metrics


def _by_stratum(data: TestData, scores: np.ndarray, labels: np.ndarray, pools: Mapping[str, PixelPool]) -> dict:
    """Each stratum of the protocol on its own."""
    members: dict[str, list[int]] = {}
    for number, sample in enumerate(data.samples):
        for stratum in strata_of(sample, data.protocol.strata):
            members.setdefault(stratum, []).append(number)
    return {
        stratum: {
            "n": len(chosen),
            "n_anomalous": int(labels[chosen].sum()),
            "n_pixel_images": pools[stratum].n_images if stratum in pools else 0,
            "image_auroc": auroc(scores[chosen], labels[chosen]),
            "image_average_precision": _average_precision(scores[chosen], labels[chosen]),
            "pixel_auroc": pools[stratum].values().get("auroc") if stratum in pools else None,
        }
        for stratum, chosen in sorted(members.items())
    }


def _average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    _, normal, anomalous = counts_per_score(scores, labels)
    return value_or_none(average_precision_of_counts(normal, anomalous))


def _as_json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: asdict(estimate) for name, estimate in estimates.items()}

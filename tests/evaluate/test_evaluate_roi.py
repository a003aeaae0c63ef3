"""Pixels outside of a region of interest enter no measure, and how many of them were defects is said."""

from pathlib import Path

import numpy as np
import pytest

from flawmap.data.images.truth import Truth
from flawmap.data.sample import LabelledImage, Protocol
from flawmap.detect.scoring import Analysis
from flawmap.evaluate.measures import PooledPixels
from flawmap.metrics.ranking import auroc
from flawmap.scorer import ScaleResult

HEIGHT, WIDTH = 8, 10


def analysis_of(seed: int, inside: np.ndarray) -> Analysis:
    anomaly_map = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    scale = ScaleResult(64, 0.0, anomaly_map)
    return Analysis((scale,), anomaly_map, {"mean_logit": 0.0}, inside)


def sample(name: str, kind: str) -> LabelledImage:
    return LabelledImage(name, Path(name), kind != "good", kind)


def test_pixels_outside_do_not_count_and_their_defects_are_said():
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[:, :5] = True
    pixels = PooledPixels(Protocol("test"))
    half, outside, good = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    half[2:4, 3:8] = True  # 4 of 10 pixels inside
    outside[5:7, 7:9] = True
    given = [("half.png", "hole", half), ("outside.png", "hole", outside), ("good.png", "good", good)]
    for seed, (name, kind, truth) in enumerate(given):
        pixels.add(sample(name, kind), analysis_of(seed, inside), Truth(truth))
    counted = [(analysis_of(0, inside).anomaly_map, half), (analysis_of(2, inside).anomaly_map, good)]
    expected = auroc(
        np.concatenate([values[inside] for values, _ in counted]),
        np.concatenate([truth[inside] for _, truth in counted]),
    )
    found = pixels.pools.everything().estimates(np.random.default_rng(0))
    assert found["auroc"].value == pytest.approx(expected, abs=1e-6)
    assert pixels.by_scale[64].auroc() == pytest.approx(expected, abs=1e-6)
    found = pixels.outside_roi
    assert found is not None and pixels.n_images == 2
    assert (found.inside_share, found.defect_pixels, found.defect_pixels_outside, found.images_outside) == (
        0.5,
        14,
        10,
        1,
    )
    assert found.words == (
        "50% of the image counts; 10 of 14 defect pixels (71.4%) lie outside; 1 anomalous image has no defect inside"
    )


def test_without_a_region_nothing_is_said():
    pixels = PooledPixels(Protocol("test"))
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[1, 1] = True
    plain = analysis_of(0, truth)
    pixels.add(sample("a.png", "hole"), Analysis(plain.scales, plain.anomaly_map, plain.scores), Truth(truth))
    assert pixels.outside_roi is None

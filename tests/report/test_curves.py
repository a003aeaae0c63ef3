"""Curves as numbers: what a log holds, image scores counted, pixel curves as the evaluation left them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from flawmap.report.curves import image_roc, rate_curves, training_curves
from flawmap.report.run_files import read_run


def area(points: np.ndarray) -> float:
    return float(np.trapezoid(points[:, 1], points[:, 0]))


def test_image_roc_has_scikit_learns_area_and_both_ends(made_up) -> None:
    points = image_roc(made_up.good.tolist(), made_up.anomalous.tolist())
    labels = np.arange(100) >= 60
    assert area(points) == pytest.approx(roc_auc_score(labels, [*made_up.good, *made_up.anomalous]), abs=1e-12)
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()


def test_curves_without_truth_or_without_one_class(made_up) -> None:
    files = read_run(made_up.run)
    curves = rate_curves(files)
    assert list(curves) == ["roc_images", "roc_pixels", "precision_recall", "pro"]
    assert [curve.summary for curve in curves.values()] == ["AUROC 0.931", "AUROC 0.842", "AP 0.832", "AUPRO 0.812"]
    good = tuple(image for image in files.images if not image.is_anomalous)
    assert list(rate_curves(replace(files, images=good))) == ["roc_pixels", "precision_recall", "pro"]
    assert list(rate_curves(replace(files, pixel_curves=None))) == ["roc_images"]
    assert rate_curves(replace(files, evaluation=None)) == {}


def test_pixel_curves_are_those_of_the_evaluation(made_up) -> None:
    files = read_run(made_up.run)
    assert files.pixel_curves is not None and files.pixel_curves.roc.tolist() == [[0, 0], [0.1, 0.6], [1, 1]]
    assert files.pixel_curves.overlap.tolist() == [[0, 0], [0.3, 0.8]] and files.pixel_curves.anomalous_share == 0.04
    curve = rate_curves(files)["precision_recall"]
    assert curve.points.tolist() == [[0.2, 0.9], [1, 0.2]] and curve.guess == (0.04, 0.04)


def test_training_curves_hold_every_number_of_each_stage() -> None:
    log = [
        {"stage": "pretrain", "step": 0, "epoch": 0, "loss": 3.0, "used": 5, "note": "x", "ok": True},
        {"stage": "pretrain", "step": 10, "epoch": 1, "loss": 1.0, "used": float("nan"), "entropy": None},
        {"stage": "finetune", "step": 0, "dice_loss": 0.25},
    ]
    curves = training_curves(log)
    assert list(curves) == ["pretrain", "finetune"]
    loss, used = curves["pretrain"]
    assert (loss.name, loss.steps.tolist(), loss.values.tolist(), loss.end) == ("loss", [0, 10], [3, 1], 1)
    assert (used.name, used.values.tolist()) == ("used", [5])
    assert [curve.name for curve in curves["finetune"]] == ["Dice loss"]


def test_a_noisy_curve_has_a_running_mean_over_a_twentieth_of_its_steps() -> None:
    log = [{"stage": "s", "step": i, "loss": 2.0 if i % 2 else 0.0, "found": 1.0} for i in range(80)]
    loss, found = training_curves(log)["s"]
    assert loss.smooth_values.tolist() == [1.0] * 77 and loss.end == 1  # four steps in a row have the mean 1
    assert (loss.smooth_steps[0], loss.smooth_steps[-1]) == (1.5, 77.5)
    assert (found.name, found.smooth_values.size, found.end) == ("share of anomalous tokens found", 0, 1)
    short = training_curves(log[:39])["s"][0]
    assert short.smooth_values.size == 0 and short.end == 0


def test_curves_know_what_a_collapsed_model_gives() -> None:
    log = [{"stage": "pretrain", "step": i, "loss": 2.0, "uniform_loss": 3.0, "target_entropy": 1.0} for i in range(2)]
    loss, entropy = training_curves(log, uniform_entropy=1.4)["pretrain"]
    assert (loss.name, loss.collapsed) == ("loss", 3.0) and (entropy.name, entropy.collapsed) == ("target entropy", 1.4)
    assert training_curves(log)["pretrain"][1].collapsed is None

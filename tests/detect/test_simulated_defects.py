"""Simulated defects on unseen good images: fixed by the seed, measured as scikit-learn would, shown as they are."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from assertions import quantised_scores
from flawmap.data.open_data import load_images
from flawmap.detect.fit import fit_scorer
from flawmap.detect.simulated_defects import (
    NUM_SAMPLES,
    SimulatedDefect,
    masked_view,
    score_defects,
    simulate_on,
    squares_of,
    unseen_squares,
    write_samples,
)
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import choose_compute
from flawmap.runs.calibration import MapScale
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.runs.samples import DROPPED_GRAY, read_samples
from flawmap.vit.attention_cache import cache_attention
from images import pixels_of, write_good
from tiny_detector import fitted_detector, tiny_recipe

SIZE_PX = 32
ON_TOKENS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory):
    return load_images(write_good(tmp_path_factory.mktemp("held_out"), NUM_SAMPLES + 1, first_seed=300)).images


def simulated(images, *changes: str) -> list[SimulatedDefect]:
    guide = fitted_detector().scorer_.encoder
    return simulate_on(squares_of(images, guide, SIZE_PX, choose_compute("cpu", "fp32")), tiny_recipe(*changes))


def equal(one: SimulatedDefect, other: SimulatedDefect) -> bool:
    pixels = np.array_equal(one.good.square, other.good.square) and np.array_equal(one.simulated, other.simulated)
    return pixels and np.array_equal(one.footprint, other.footprint)


def test_defects_are_fixed_by_the_seed_and_by_their_place(images):
    first, again, fewer = simulated(images), simulated(images), simulated(images[:3])
    assert all(equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(equal(one, other) for one, other in zip(first, fewer, strict=False))
    other_seed = simulated(images, "seed=1")
    assert not any(np.array_equal(a.footprint, b.footprint) for a, b in zip(first, other_seed, strict=True))


def test_a_defect_changes_its_footprint_and_nothing_else(images):
    for defect in simulated(images, "finetune.simulation.blend=hard"):
        changed = (defect.simulated != defect.good.square).any(axis=2)
        assert defect.footprint.any() and not defect.footprint.all()
        assert not changed[~defect.footprint].any() and changed[defect.footprint].mean() > 0.5


def test_proxy_scores_are_scikit_learns(images):
    detector, defects = fitted_detector(), simulated(images)
    pairs = [(d.good.square, np.zeros_like(d.footprint)) for d in defects] + [
        (d.simulated, d.footprint) for d in defects
    ]
    results = detector.predict([image for image, _ in pairs])
    labels = [bool(footprint.any()) for _, footprint in pairs]
    values = quantised_scores(np.stack([result.anomaly_map for result in results]))
    truth = np.stack([footprint for _, footprint in pairs])
    proxy = score_defects(lambda _: detector.scorer_, defects, detector.sizes_px, "mean_logit", detector.at_once).scores
    assert proxy.n == len(images)
    assert proxy.image_auroc == pytest.approx(roc_auc_score(labels, [r.scores["mean_logit"] for r in results]))
    assert proxy.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), values.ravel()), abs=1e-9)


def test_each_image_is_scored_by_a_fit_without_its_fold(tmp_path):
    recipe = tiny_recipe(*ON_TOKENS)
    good = load_images(write_good(tmp_path / "good", 20)).images
    run = create_run(tmp_path / "run", "test", recipe)
    fitted = fit_scorer(good, recipe, run, choose_compute("cpu", "fp32"))
    assert fitted.unseen is not None and sorted(set(fitted.unseen.folds)) == [0, 1, 2, 3, 4]
    squares = unseen_squares(good, fitted.unseen, 64)
    defects, asked = simulate_on(squares, recipe), []

    def scorer_without(fold: int):
        asked.append(fold)
        return fitted.unseen.scorer_without(fold)

    sizes_px = fitted.scorer.sizes_px(recipe)
    kept = score_defects(scorer_without, defects, sizes_px, "map_max", ImagesAtOnce(1)).scores
    assert asked == [0, 1, 2, 3, 4] and kept.n == 20
    # What was kept of training is what the fit gives for the image: it need not be scored again.
    afresh = [replace(defect, good=replace(defect.good, scales=())) for defect in defects]
    again = score_defects(scorer_without, afresh, sizes_px, "map_max", ImagesAtOnce(1)).scores
    assert kept.image_auroc == pytest.approx(again.image_auroc, abs=0.01)  # tokens are kept in float16
    assert kept.pixel_auroc == pytest.approx(again.pixel_auroc, abs=1e-3)
    attention = cache_attention(fitted.guide, [square.square for square in squares], 64, "cpu")
    for square, expected in zip(squares, attention, strict=True):
        np.testing.assert_allclose(square.attention, expected, atol=2e-3)  # kept in float16, too


def test_a_masked_view_hides_the_patches_with_least_attention():
    image = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
    attention = np.array([[0.1, 0.4], [0.3, 0.2]], np.float32)
    view = masked_view(image, attention, 0.5)
    assert (view[:16, :16] == DROPPED_GRAY).all() and (view[16:, 16:] == DROPPED_GRAY).all()
    assert np.array_equal(view[:16, 16:], image[:16, 16:]) and np.array_equal(view[16:, :16], image[16:, :16])
    assert np.array_equal(masked_view(image, attention, 0.0), image)


def test_samples_show_what_was_simulated(images, tmp_path):
    detector, defects = fitted_detector(), simulated(images)
    scale = MapScale(-1.0, 3.0)
    maps = score_defects(lambda _: detector.scorer_, defects, detector.sizes_px, "mean_logit", detector.at_once).maps
    write_samples(RunFolder(tmp_path), defects, maps, 0.3, scale)
    names = ("input", "attention", "masked", "simulated", "footprint", "map")
    expected = [f"{number:02d}_{name}.png" for number in range(NUM_SAMPLES) for name in names]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted([*expected, "map_ends.json"])
    assert read_samples(tmp_path / "samples")[0].map_ends == MapScale(-1.0, 3.0)
    for number, defect in enumerate(defects[:NUM_SAMPLES]):
        shown = {name: pixels_of(tmp_path / "samples" / f"{number:02d}_{name}.png") for name in names}
        assert np.array_equal(shown["input"], defect.good.square)
        assert np.array_equal(shown["simulated"], defect.simulated)
        assert np.array_equal(shown["footprint"], defect.footprint * np.uint8(255))
        anomaly_map = detector.predict(defect.simulated).anomaly_map
        shares = ((anomaly_map - scale.low) / (scale.high - scale.low)).clip(0, 1)
        np.testing.assert_allclose(shown["map"], shares * 255, atol=0.51)

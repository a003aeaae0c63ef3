"""Scoring at several sizes: which sizes, how maps are averaged, how decisions are put to the vote."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from flawmap.data.images.resize import resize_image
from flawmap.detect.scoring import IMAGE_SCORES, ScaleResult, analyse, image_scores, mean_map
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.memory.scorer import build_scorer
from flawmap.metrics.ranking import auroc
from flawmap.recipe.settings import DataSettings, MemorySettings, ModelSettings, Recipe
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD, load_encoder
from images import striped
from tiny_detector import fitted_detector


def scores_of(*logits: float) -> dict[str, float]:
    return image_scores(logits, 0.0)


# ---- sizes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((224, 320, 384, 416, 448, 512), (224, 320, 384, 416, 448, 512)), ((512, 230), (224, 512)), ((223, 225), (224,))],
)
def test_a_scorer_that_decides_is_asked_at_every_size_rounded_to_patches(sizes, expected):
    scorer, recipe = fitted_detector().scorer_, fitted_detector().recipe
    assert scorer is not None and scorer.encoder.patch_size_px == 16
    assert scorer.sizes_px(replace(recipe, detect=replace(recipe.detect, sizes_px=sizes))) == expected


def test_a_scorer_without_decisions_is_asked_at_the_size_of_its_training():
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"))
    recipe = Recipe(method="memory", data=DataSettings(image_size_px=100), memory=MemorySettings(blocks=(1,), tokens=4))
    assert build_scorer(encoder, recipe).sizes_px(recipe) == (96,)


# ---- one size


def test_a_result_is_the_scorer_on_the_resized_normalised_image():
    scorer, image = fitted_detector().scorer_, striped(5, 40, 56)
    square = resize_image(image, 64, 64).astype(np.float64) / 255
    normalised = (square - IMAGENET_MEAN) / IMAGENET_STD
    batch = torch.from_numpy(normalised.transpose(2, 0, 1).copy()).float()[None]
    with torch.no_grad():
        logits, evidence = scorer(batch)
    (scale,) = analyse(scorer, [image], [64], ImagesAtOnce(1))[0].scales
    assert scale.size_px == 64
    assert scale.logit == pytest.approx(float(logits[0, 1] - logits[0, 0]), abs=1e-5)
    np.testing.assert_allclose(scale.evidence, evidence[0].numpy(), rtol=1e-4, atol=1e-6)


def test_scoring_ignores_autocast_and_leaves_no_gradient():
    scorer, image = fitted_detector().scorer_, striped(5)
    (plain,) = analyse(scorer, [image], [32], ImagesAtOnce(1))[0].scales
    with torch.autocast("cpu", torch.bfloat16):
        (inside,) = analyse(scorer, [image], [32], ImagesAtOnce(1))[0].scales
    assert inside.logit == plain.logit
    assert np.array_equal(inside.evidence, plain.evidence)


# ---- the map


def test_the_mean_map_of_constants_is_their_mean():
    scales = [ScaleResult(32, 0.0, np.full((2, 2), 3.0, np.float32)), ScaleResult(48, 0.0, np.full((3, 3), 8, "f4"))]
    np.testing.assert_array_equal(mean_map(scales, 5, 7), np.full((5, 7), 5.5, np.float32))


def test_a_map_is_bilinear_between_the_centres_of_the_patches():
    evidence = np.array([[0.0, 4.0], [8.0, 12.0]], np.float32)
    # 4 pixels over 2 patches: their centres lie at -0.25 (clamped), 0.25, 0.75 and 1.25 (clamped) of the patch grid
    shares = np.array([0, 0.25, 0.75, 1])
    expected = 8 * shares[:, None] + 4 * shares[None]
    np.testing.assert_allclose(mean_map([ScaleResult(32, 0.0, evidence)], 4, 4), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (48, 64)])
def test_a_map_has_the_size_of_the_image_and_float32(shape):
    generator = np.random.default_rng(0)
    scales = [ScaleResult(16 * n, 0.0, generator.normal(size=(n, n)).astype(np.float32)) for n in (2, 4)]
    anomaly_map = mean_map(scales, *shape)
    assert anomaly_map.shape == shape and anomaly_map.dtype == np.float32
    lowest, highest = (sum(f(s.evidence) for s in scales) / 2 for f in (np.min, np.max))
    assert lowest - 1e-5 <= anomaly_map.min() <= anomaly_map.max() <= highest + 1e-5


# ---- image scores


def test_the_four_scores_in_closed_form():
    scores = image_scores((2.0, -1.0, 0.5), 0.75)
    assert tuple(scores) == IMAGE_SCORES
    assert scores["vote"] == pytest.approx(2 / 3)
    assert scores["mean_logit"] == pytest.approx(0.5)
    assert scores["map_max"] == 0.75
    assert scores["vote_mean"] == pytest.approx(2 / 3 + 1 / (1 + math.exp(-0.5)) / 3)


def test_an_analysis_holds_the_scores_of_its_logits_and_its_map():
    scorer = fitted_detector().scorer_
    (analysis,) = analyse(scorer, [striped(5, 40, 56)], [32, 64], ImagesAtOnce(1))
    expected = image_scores([scale.logit for scale in analysis.scales], float(analysis.anomaly_map.max()))
    assert analysis.scores == expected
    assert np.array_equal(analysis.anomaly_map, mean_map(analysis.scales, 40, 56))


@given(st.lists(st.floats(-15, 15, width=32), min_size=1, max_size=6))
def test_tensors_in_a_graph_give_the_scores_that_numbers_give(logits):
    in_graph = image_scores(torch.tensor(logits).unbind(), torch.tensor(0.5))
    assert {name: float(score) for name, score in in_graph.items()} == pytest.approx(
        image_scores(logits, 0.5), rel=1e-4, abs=1e-6
    )


def test_a_logit_of_zero_is_no_vote():
    assert scores_of(0.0, 0.0)["vote"] == 0


def test_more_votes_win_whatever_the_logits_say():
    barely, loudly = [0.01] * 4 + [-30.0] * 2, [30.0] * 3 + [-0.01] * 3
    assert scores_of(*barely)["vote_mean"] > scores_of(*loudly)["vote_mean"]
    assert scores_of(*barely)["mean_logit"] < scores_of(*loudly)["mean_logit"]


def test_the_mean_logit_breaks_a_tie_of_three_to_three():
    weak, strong = [1.0, 1.0, 1.0, -2.0, -2.0, -2.0], [2.0, 2.0, 2.0, -1.0, -1.0, -1.0]
    assert scores_of(*weak)["vote"] == scores_of(*strong)["vote"] == 0.5
    assert scores_of(*weak)["vote_mean"] < scores_of(*strong)["vote_mean"]


def test_clearly_normal_images_are_still_ranked():
    assert scores_of(-60.0, -60.0)["vote_mean"] < scores_of(-50.0, -50.0)["vote_mean"]


def test_extreme_logits_overflow_nowhere():
    for logit in (-1e4, 1e4):
        assert math.isfinite(scores_of(logit, logit)["vote_mean"])


finite_logits = st.lists(st.floats(-15, 15), min_size=6, max_size=6)


@given(finite_logits, finite_logits)
def test_vote_mean_orders_by_votes_and_then_by_the_mean_logit(first, second):
    a, b = scores_of(*first), scores_of(*second)
    if a["vote"] == b["vote"] and abs(a["mean_logit"] - b["mean_logit"]) < 1e-6:
        return  # too close for the difference to survive a sigmoid
    order = (a["vote"], a["mean_logit"]) < (b["vote"], b["mean_logit"])
    assert (a["vote_mean"] < b["vote_mean"]) is order


@given(finite_logits, st.integers(0, 5), st.floats(0, 10))
def test_raising_one_scales_logit_lowers_no_score(logits, place, step):
    raised = list(logits)
    raised[place] += step
    before, after = scores_of(*logits), scores_of(*raised)
    assert all(after[name] >= before[name] for name in ("vote", "mean_logit", "vote_mean"))


@pytest.mark.parametrize("name", ["vote_mean", "vote", "mean_logit"])
def test_the_auroc_of_the_scores_is_scikit_learns(name):
    generator = np.random.default_rng(3)
    labels = generator.random(80) < 0.4
    logits = generator.normal(size=(80, 6)) + labels[:, None]
    scores = np.array([scores_of(*row)[name] for row in logits])
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)

"""Estimates for image scores: values and intervals against scikit-learn on images that are really resampled."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from flawmap.metrics.bootstrap import Estimate, percentile_interval, resample_weights
from flawmap.metrics.image_metrics import IMAGE_METRICS, image_estimates, image_estimates_by
from flawmap.metrics.ranking import auroc


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some_scores(n_normal: int, n_anomalous: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n_normal + n_anomalous) >= n_normal
    generator = rng(7)
    generator.shuffle(labels)
    return np.round(generator.normal(size=labels.size) + shift * labels, 1), labels  # rounded: many ties


def by_sklearn(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    precision, recall, _ = precision_recall_curve(labels, scores)
    fprs, tprs, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "f1_max": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))),
        "fpr_at_tpr_95": float(fprs[np.argmax(tprs >= 0.95)]),
    }


def test_intervals_are_those_of_resampled_images():
    scores, labels = some_scores(23, 17)
    estimates = image_estimates(scores, labels, rng(), n_resamples=200)
    drawn = np.concatenate(list(resample_weights(labels, 200, rng()))).astype(int)
    resamples = [by_sklearn(np.repeat(scores, times), np.repeat(labels, times)) for times in drawn]
    assert tuple(estimates) == tuple(IMAGE_METRICS)
    for name, value in by_sklearn(scores, labels).items():
        low, high = np.quantile([resample[name] for resample in resamples], [0.025, 0.975])
        found = estimates[name]
        assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-9), name


def test_each_resample_has_as_many_normal_and_anomalous_images_as_the_test_set():
    labels = rng().random(31) < 0.3
    weights = np.concatenate(list(resample_weights(labels, 500, rng())))
    assert weights.shape == (500, 31)
    assert (weights[:, labels].sum(1) == labels.sum()).all() and (weights[:, ~labels].sum(1) == (~labels).sum()).all()
    # An image is drawn once on average, with the variance 1 - 1/m of a binomial of m draws.
    m = int((~labels).sum())
    assert weights.mean(0) == pytest.approx(1, abs=5 / math.sqrt(500))
    assert weights[:, ~labels].var() == pytest.approx(1 - 1 / m, rel=0.05)


def test_chunks_hold_all_resamples_and_stay_small():
    labels = np.arange(3000) < 1000
    chunks = list(resample_weights(labels, 1000, rng(), n_scores=5000))
    assert sum(len(chunk) for chunk in chunks) == 1000
    assert max(len(chunk) for chunk in chunks) * 5000 <= 2**20
    whole = np.concatenate(list(resample_weights(labels, 1000, rng())))
    assert np.array_equal(np.concatenate(chunks), whole)  # and their size changes no draw


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    scores, labels = some_scores(40, 40)
    one, again, other = (image_estimates(scores, labels, rng(seed), n_resamples=300) for seed in (1, 1, 2))
    assert one == again
    assert one["average_precision"].value == other["average_precision"].value
    assert one["average_precision"].low != other["average_precision"].low


def delong_deviation(scores: np.ndarray, labels: np.ndarray) -> float:
    """Standard deviation of the AUROC by its structural components (DeLong, DeLong and Clarke-Pearson, 1988)."""
    above = (scores[labels][:, None] > scores[~labels]) + 0.5 * (scores[labels][:, None] == scores[~labels])
    return math.sqrt(above.mean(1).var(ddof=1) / labels.sum() + above.mean(0).var(ddof=1) / (~labels).sum())


def test_auroc_interval_is_as_wide_as_delongs():
    scores, labels = some_scores(300, 200)
    estimate = image_estimates(scores, labels, rng(), n_resamples=2000)["auroc"]
    assert estimate.low is not None and estimate.high is not None
    deviation = delong_deviation(scores, labels)
    assert estimate.high - estimate.low == pytest.approx(2 * norm.ppf(0.975) * deviation, rel=0.1)
    assert (estimate.high + estimate.low) / 2 == pytest.approx(auroc(scores, labels), abs=deviation / 4)


def test_95_percent_of_intervals_hold_the_truth():
    truth, generator, hits = norm.cdf(1 / math.sqrt(2)), rng(5), 0
    labels = np.arange(160) < 60
    for _ in range(200):
        estimate = image_estimates(generator.normal(size=160) + labels, labels, generator, n_resamples=200)["auroc"]
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert 0.89 <= hits / 200 <= 0.99  # 4 standard errors, and what a percentile interval lacks at this size


def test_perfect_separation_has_an_interval_without_width():
    estimates = image_estimates(np.arange(11.0), np.arange(11) > 5, rng(), n_resamples=50)
    assert estimates["auroc"] == estimates["average_precision"] == estimates["f1_max"] == Estimate(1.0, 1.0, 1.0)
    assert estimates["fpr_at_tpr_95"] == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize("n_anomalous", [1, 4, 96, 99])
def test_fewer_than_five_images_of_a_class_have_a_value_but_no_interval(n_anomalous: int):
    scores = rng().normal(size=100)
    flags = np.arange(100) < n_anomalous
    found = image_estimates(scores, flags, rng())
    assert found["auroc"].value == pytest.approx(auroc(scores, flags), abs=1e-12)
    assert all(estimate.low is None and estimate.high is None for estimate in found.values())


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_estimate(label: bool):
    assert set(image_estimates(np.ones(4), np.full(4, label), rng()).values()) == {Estimate(None, None, None)}


def test_huge_scores_do_not_overflow():
    estimates = image_estimates([-1.7e308, 1.7e308, 0.0, 1.0], [0, 1, 0, 1], rng(), n_resamples=20)
    assert estimates["auroc"].value == 1


def test_each_subset_stands_against_all_normal_images():
    scores, labels = some_scores(40, 20)
    kinds = np.where(labels, np.where(np.arange(60) % 2 == 0, "crack", "dent"), "good").tolist()
    subsets = image_estimates_by(kinds, scores, labels, seed=3, n_resamples=50)
    assert list(subsets) == ["crack", "dent"]  # "good" is no defect kind
    for kind, estimates in subsets.items():
        chosen = ~labels | (np.array(kinds) == kind)
        assert estimates["auroc"].value == pytest.approx(roc_auc_score(labels[chosen], scores[chosen]), abs=1e-12)
        assert estimates["auroc"].low < estimates["auroc"].value < estimates["auroc"].high


def test_a_subset_does_not_depend_on_other_subsets_and_none_is_no_subset():
    scores, labels = some_scores(30, 20)
    sizes = np.where(np.arange(50) % 3 == 0, "small", "large").tolist()
    only_small = [size if size == "small" else None for size in sizes]
    both = image_estimates_by(sizes, scores, labels, seed=0, n_resamples=50)
    one = image_estimates_by(only_small, scores, labels, seed=0, n_resamples=50)
    assert list(one) == ["small"]
    assert one["small"] == both["small"]
    assert image_estimates_by([None] * 50, scores, labels, seed=0) == {}


def test_subsets_must_be_as_many_as_the_images():
    with pytest.raises(ValueError, match=r"1 .* 2"):
        image_estimates_by(["a"], [1.0, 2.0], [True, False], seed=0)


def test_an_interval_moves_with_its_shift_and_stays_between_0_and_1():
    values = np.linspace(0, 1, 1001)
    assert percentile_interval(values) == pytest.approx((0.025, 0.975))
    assert percentile_interval(values, 0.01) == pytest.approx((0.035, 0.985))
    assert percentile_interval(values, -0.5) == (0, pytest.approx(0.475))


# ---- groups


def test_groups_of_one_image_change_nothing():
    scores, labels = some_scores(30, 20)
    alone = image_estimates(scores, labels, rng(), n_resamples=100)
    assert image_estimates(scores, labels, rng(), 100, [f"g{i}" for i in range(50)]) == alone
    assert image_estimates(scores, labels, rng(), 100, [None] * 50) == alone
    half = [None if i % 2 else f"g{i}" for i in range(50)]
    assert image_estimates_by(["x"] * 50, scores, labels, 3, 100, half) == image_estimates_by(
        ["x"] * 50, scores, labels, 3, 100
    )


def test_images_that_were_copied_have_the_interval_of_the_originals_if_the_copies_are_one_group():
    scores, labels = some_scores(30, 20)
    alone = image_estimates(scores, labels, rng(), n_resamples=200)
    groups = [f"g{i}" for i in range(50)] * 4
    copied = image_estimates(np.tile(scores, 4), np.tile(labels, 4), rng(), 200, groups)
    taken_for_more = image_estimates(np.tile(scores, 4), np.tile(labels, 4), rng(), 200)
    for name, estimate in alone.items():
        found = copied[name]
        assert (found.value, found.low, found.high) == pytest.approx((estimate.value, estimate.low, estimate.high))
    widths = [taken_for_more["auroc"].high - taken_for_more["auroc"].low, alone["auroc"].high - alone["auroc"].low]
    assert widths[0] == pytest.approx(widths[1] / 2, rel=0.25)  # four times the images: half the width


def test_a_group_is_drawn_as_a_whole_within_each_class():
    labels = np.array([False] * 12 + [True] * 12)
    groups = ["a", "a", "b", "c", None, "d", "e", "e", "e", None, "f", "g"] * 2  # good and defective images of each
    weights = np.concatenate(list(resample_weights(labels, 400, rng(), groups=groups)))
    for of_class in (weights[:, :12], weights[:, 12:]):
        assert (of_class[:, 0] == of_class[:, 1]).all()
        assert (of_class[:, [6]] == of_class[:, 6:9]).all()
        assert (of_class[:, [0, 2, 3, 4, 5, 6, 9, 10, 11]].sum(1) == 9).all()  # as many groups as there are
        assert of_class.mean(0) == pytest.approx(1, abs=5 / math.sqrt(400))
    assert not (weights[:, 0] == weights[:, 12]).all()  # the classes are drawn apart
    again = np.concatenate(list(resample_weights(labels, 400, rng(), n_scores=2**15, groups=groups)))
    assert np.array_equal(weights, again)


def test_an_interval_needs_five_groups_of_each_class():
    scores, labels = some_scores(20, 20)
    groups = np.where(labels, np.arange(40) % 4, np.arange(40)).astype(str).tolist()
    few = image_estimates(scores, labels, rng(), 50, groups)["auroc"]
    assert few == Estimate(image_estimates(scores, labels, rng(), 50)["auroc"].value, None, None)
    with pytest.raises(ValueError, match="3 groups for 40 images"):
        image_estimates(scores, labels, rng(), 50, groups[:3])

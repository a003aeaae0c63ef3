"""Average precision, F1-max and the false-positive rate at 95 % found: against scikit-learn, and their error bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_curve

from flawmap.metrics.ranking import BinnedScores, average_precision, f1_max, fpr_at_tpr

# Tied, nearly tied (1.0 to 1.0003 share a bin), apart, of both signs, and around zero.
FEW_VALUES = [0.0, -0.0, 1e-44, -1e-44, 0.5, 1.0, 1.0001, 1.0002, 1.0003, 1.001, 7.0, -1.0, -1.0001, -1.0002, -3.0]


@st.composite
def scores_and_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 60))
    anything = st.floats(-1e6, 1e6, width=32)
    scores = draw(hnp.arrays(np.float32, n, elements=draw(st.sampled_from([anything, st.sampled_from(FEW_VALUES)]))))
    labels = draw(hnp.arrays(np.bool_, n))
    labels[:2] = [True, False]
    return scores.astype(np.float32), labels


def binned(scores: np.ndarray, labels: np.ndarray) -> BinnedScores:
    counts = BinnedScores()
    counts.add(scores, labels)
    return counts


def sklearn_f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores.astype(np.float64))
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300)))


def sklearn_fpr_at_tpr(scores: np.ndarray, labels: np.ndarray, tpr: float) -> float:
    fprs, tprs, _ = roc_curve(labels, scores.astype(np.float64), drop_intermediate=False)
    return float(fprs[np.argmax(tprs >= tpr)])


# ---- exact, for image scores


@given(scores_and_labels())
def test_average_precision_equals_sklearn(case: tuple[np.ndarray, np.ndarray]):
    scores, labels = case
    expected = average_precision_score(labels, scores.astype(np.float64))
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(scores_and_labels())
def test_f1_max_equals_sklearn_and_its_threshold_reaches_it(case: tuple[np.ndarray, np.ndarray]):
    scores, labels = case
    best = f1_max(scores, labels)
    assert best is not None
    assert best.value == pytest.approx(sklearn_f1_max(scores, labels), abs=1e-12)
    assert f1_score(labels, scores >= best.threshold) == pytest.approx(best.value, abs=1e-12)
    higher = [value for value in scores if value > best.threshold]
    assert all(f1_score(labels, scores >= value) < best.value - 1e-12 for value in higher)


@given(scores_and_labels(), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_fpr_at_tpr_equals_sklearn(case: tuple[np.ndarray, np.ndarray], tpr: float):
    scores, labels = case
    assert fpr_at_tpr(scores, labels, tpr) == pytest.approx(sklearn_fpr_at_tpr(scores, labels, tpr), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "ap", "f1", "threshold", "fpr"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1, 1, 3, 0),
        ([1, 2, 3, 4], [1, 1, 0, 0], (1 / 3 + 2 / 4) / 2, 2 / 3, 1, 1),
        ([5, 5, 5, 5], [0, 1, 0, 1], 0.5, 2 / 3, 5, 1),
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2, 4 / 5, 2, 0.5),
        ([2, 1], [1, 0], 1, 1, 2, 0),
    ],
)
def test_closed_forms_of_the_other_measures(scores, labels, ap, f1, threshold, fpr):
    for given_scores in (scores, binned(np.array(scores, np.float32), np.array(labels))):
        is_binned = isinstance(given_scores, BinnedScores)
        best = given_scores.f1_max() if is_binned else f1_max(scores, labels)
        assert (best.value, best.threshold) == (pytest.approx(f1, abs=1e-15), threshold)
        found = given_scores.average_precision() if is_binned else average_precision(scores, labels)
        assert found == pytest.approx(ap, abs=1e-15)
        assert (given_scores.fpr_at_tpr() if is_binned else fpr_at_tpr(scores, labels)) == fpr


def test_nineteen_of_twenty_found_are_95_percent():
    labels = np.arange(40) % 2 == 1
    scores = np.where(labels, 10.0, 0.0) + np.arange(40) / 100
    scores[1] = -1  # one of the twenty anomalous is below everything
    assert fpr_at_tpr(scores, labels, 0.95) == 0
    assert fpr_at_tpr(scores, labels, 0.951) == 1


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_measure(label: bool):
    scores, labels = np.ones(3, np.float32), np.full(3, label)
    for measure in (average_precision, f1_max, fpr_at_tpr):
        assert measure(scores, labels) is None
        assert measure([], []) is None
    counts = binned(scores, labels)
    for name in ("average_precision", "f1_max", "fpr_at_tpr"):
        assert getattr(counts, name)() is None
        assert getattr(counts, f"{name}_error_bound")() is None


# ---- binned, for pixel scores


@given(scores_and_labels())
def test_binned_measures_equal_sklearn_on_the_quantised_scores(case: tuple[np.ndarray, np.ndarray]):
    scores, labels = case
    counts, quantised = binned(scores, labels), BinnedScores.quantise(scores).astype(np.float64)
    best = counts.f1_max()
    assert best is not None
    assert counts.average_precision() == pytest.approx(average_precision_score(labels, quantised), abs=1e-9)
    assert best.value == pytest.approx(sklearn_f1_max(quantised, labels), abs=1e-9)
    assert counts.fpr_at_tpr() == pytest.approx(sklearn_fpr_at_tpr(quantised, labels, 0.95), abs=1e-9)


@given(scores_and_labels())
def test_threshold_of_the_binned_f1_max_reaches_it_on_the_scores_themselves(case: tuple[np.ndarray, np.ndarray]):
    scores, labels = case
    best = binned(scores, labels).f1_max()
    assert best is not None
    assert f1_score(labels, scores >= np.float32(best.threshold)) == pytest.approx(best.value, abs=1e-12)


@given(scores_and_labels(), st.sampled_from([0.5, 0.95]))
def test_exact_measures_lie_within_the_stated_bounds(case: tuple[np.ndarray, np.ndarray], tpr: float):
    scores, labels = case
    counts, exact, best = binned(scores, labels), f1_max(scores, labels), binned(scores, labels).f1_max()
    assert exact is not None and best is not None
    excess = average_precision(scores, labels) - counts.average_precision()
    assert abs(excess) <= counts.average_precision_error_bound() + 1e-12
    assert -1e-12 <= exact.value - best.value <= counts.f1_max_error_bound() + 1e-12
    excess = counts.fpr_at_tpr(tpr) - fpr_at_tpr(scores, labels, tpr)
    assert -1e-12 <= excess <= counts.fpr_at_tpr_error_bound(tpr) + 1e-12


def test_bounds_are_reached_when_one_bin_hides_a_perfect_order():
    labels = np.array([True, False])
    hidden = binned(np.array([1.0001, 1.0], np.float32), labels)
    assert (hidden.average_precision(), hidden.average_precision_error_bound()) == (0.5, 0.5)
    assert (hidden.f1_max().value, hidden.f1_max_error_bound()) == (2 / 3, pytest.approx(1 / 3))
    assert (hidden.fpr_at_tpr(), hidden.fpr_at_tpr_error_bound()) == (1, 1)
    apart = binned(np.array([1.001, 1.0], np.float32), labels)
    for name in ("average_precision", "f1_max", "fpr_at_tpr"):
        assert getattr(apart, f"{name}_error_bound")() == 0


def test_bounds_are_small_for_ordinary_scores():
    rng = np.random.default_rng(3)
    labels = rng.random(50_000) < 0.02
    scores = (rng.normal(size=labels.size) + 2 * labels).astype(np.float32)
    counts = binned(scores, labels)
    assert 0 < counts.average_precision_error_bound() < 5e-3
    assert 0 < counts.f1_max_error_bound() < 2e-3
    assert 0 <= counts.fpr_at_tpr_error_bound() < 2e-3


@given(scores_and_labels(), st.integers(0, 60))
def test_merged_counts_measure_as_the_whole(case: tuple[np.ndarray, np.ndarray], cut: int):
    scores, labels = case
    first, second, whole = binned(scores[:cut], labels[:cut]), binned(scores[cut:], labels[cut:]), binned(*case)
    first.merge(second)
    assert np.array_equal(first.counts().bins, whole.counts().bins)
    assert first.average_precision() == whole.average_precision()
    assert first.f1_max() == whole.f1_max()
    assert first.fpr_at_tpr() == whole.fpr_at_tpr()


@given(scores_and_labels())
def test_bins_are_counted_as_one_by_one(case: tuple[np.ndarray, np.ndarray]):
    scores, labels = case
    counts = binned(scores, labels).counts()
    quantised = BinnedScores.quantise(scores)
    distinct = np.unique(quantised)
    assert counts.bins.dtype == np.int32 and (np.diff(counts.bins) > 0).all()
    assert counts.normal.tolist() == [int(((quantised == value) & ~labels).sum()) for value in distinct]
    assert counts.anomalous.tolist() == [int(((quantised == value) & labels).sum()) for value in distinct]
    mirrored = binned(-scores, labels).counts()
    assert np.array_equal(mirrored.bins, -counts.bins[::-1]) and np.array_equal(mirrored.normal, counts.normal[::-1])


def test_counting_the_range_of_float32_takes_no_more_than_stated():
    counts = BinnedScores()
    extremes = np.array([1e-45, 3e38, -3e38, 0.0, -1e-45, 1.0], np.float32)
    counts.add(extremes, np.zeros(6, bool))
    assert counts._table._rows.nbytes <= 24 * 2**20
    assert counts.n_negative == 6
    light = BinnedScores()
    light.add(np.geomspace(1e-3, 1, 1000, dtype=np.float32), np.zeros(1000, bool))
    assert light._table._rows.nbytes < 2**20

"""Average precision, F1-max and the false-positive rate at a true-positive rate, from counts: against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from flawmap.metrics.curves import average_precision_of_counts, f1_max_of_counts, fpr_at_tpr_of_counts
from flawmap.metrics.ranking import counts_per_score

# Tied, nearly tied, apart, of both signs, and around zero.
FEW_VALUES = [0.0, -0.0, 1e-44, -1e-44, 0.5, 1.0, 1.0001, 1.0002, 1.0003, 1.001, 7.0, -1.0, -1.0001, -1.0002, -3.0]


@st.composite
def scores_and_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 60))
    anything = st.floats(-1e6, 1e6, width=32)
    scores = draw(hnp.arrays(np.float32, n, elements=draw(st.sampled_from([anything, st.sampled_from(FEW_VALUES)]))))
    labels = draw(hnp.arrays(np.bool_, n))
    labels[:2] = [True, False]
    return scores.astype(np.float32), labels


def counts_of(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    """Normal and anomalous scores per distinct score."""
    return counts_per_score(np.asarray(scores), np.asarray(labels))[1:]


def sklearn_f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores.astype(np.float64))
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300)))


def sklearn_fpr_at_tpr(scores: np.ndarray, labels: np.ndarray, tpr: float) -> float:
    fprs, tprs, _ = roc_curve(labels, scores.astype(np.float64), drop_intermediate=False)
    return float(fprs[np.argmax(tprs >= tpr)])


@given(scores_and_labels(), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_measures_equal_sklearns(case: tuple[np.ndarray, np.ndarray], tpr: float):
    scores, labels = case
    counts = counts_of(scores, labels)
    expected = average_precision_score(labels, scores.astype(np.float64))
    assert average_precision_of_counts(*counts) == pytest.approx(expected, abs=1e-12)
    assert f1_max_of_counts(*counts) == pytest.approx(sklearn_f1_max(scores, labels), abs=1e-12)
    assert fpr_at_tpr_of_counts(*counts, tpr) == pytest.approx(sklearn_fpr_at_tpr(scores, labels, tpr), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "ap", "f1", "fpr"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1, 1, 0),
        ([1, 2, 3, 4], [1, 1, 0, 0], (1 / 3 + 2 / 4) / 2, 2 / 3, 1),
        ([5, 5, 5, 5], [0, 1, 0, 1], 0.5, 2 / 3, 1),
        ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2, 4 / 5, 0.5),
        ([2, 1], [1, 0], 1, 1, 0),
    ],
)
def test_closed_forms(scores: list[int], labels: list[int], ap: float, f1: float, fpr: float):
    counts = counts_of(scores, labels)
    assert average_precision_of_counts(*counts) == pytest.approx(ap, abs=1e-15)
    assert f1_max_of_counts(*counts) == pytest.approx(f1, abs=1e-15)
    assert fpr_at_tpr_of_counts(*counts, 0.95) == fpr


def test_nineteen_of_twenty_are_95_percent():
    labels = np.arange(40) % 2 == 1
    scores = np.where(labels, 10.0, 0.0) + np.arange(40) / 100
    scores[1] = -1  # one of the twenty anomalous is below everything
    assert fpr_at_tpr_of_counts(*counts_of(scores, labels), 0.95) == 0
    assert fpr_at_tpr_of_counts(*counts_of(scores, labels), 0.951) == 1


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_measure(label: bool):
    for scores, labels in (([1, 1, 1], [label] * 3), ([], [])):
        counts = counts_of(scores, np.array(labels, bool))
        measures = average_precision_of_counts(*counts), f1_max_of_counts(*counts), fpr_at_tpr_of_counts(*counts, 0.95)
        assert np.isnan(measures).all()


def test_resamples_are_measured_each_for_itself():
    counts = np.random.default_rng(0).integers(0, 3, (2, 5, 8)).astype(float)
    for measure in (average_precision_of_counts, f1_max_of_counts):
        assert measure(*counts).tolist() == [float(measure(*counts[:, i])) for i in range(5)]

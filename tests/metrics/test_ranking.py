"""AUROC against scikit-learn, and the binned one against its documented properties."""

import subprocess
import sys
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from assertions import quantised_scores
from flawmap.metrics.ranking import BinnedScores, auroc

patient = settings(deadline=None)  # the 16 MiB of a BinnedScores take their time on a busy machine
TINY, HUGE = float(np.float32(1e-45)), float(np.finfo(np.float32).max)


@st.composite
def scores_and_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Float32 scores of any size and sign, often tied or nearly so, with both classes present."""
    n = draw(st.integers(2, 60))
    anything = st.floats(width=32, allow_nan=False, allow_infinity=False)
    few_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0001, 1.001, TINY, -TINY, HUGE, -HUGE, 1e-39, -1e-39])
    scores = draw(hnp.arrays(np.float32, n, elements=draw(st.sampled_from([anything, few_values]))))
    labels = draw(hnp.arrays(np.bool_, n))
    labels[:2] = [True, False]
    return scores, labels


def reference(scores: np.ndarray, labels: np.ndarray) -> float:
    """scikit-learn's AUROC, in float64: it takes differences, which overflow between huge float32 numbers."""
    return float(roc_auc_score(labels, scores.astype(np.float64)))


def binned(scores: np.ndarray, labels: np.ndarray) -> BinnedScores:
    counts = BinnedScores()
    counts.add(scores, labels)
    return counts


@patient
@given(scores_and_labels())
def test_exact_auroc_equals_sklearn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(reference(scores, labels), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.0),
        ([5, 5, 5, 5], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 0, 1, 1], 7 / 8),  # four pairs, one of them tied
        ([0.0, -0.0], [1, 0], 0.5),
    ],
)
def test_closed_forms(scores: list[float], labels: list[int], expected: float) -> None:
    assert auroc(scores, labels) == expected
    assert binned(np.array(scores, dtype=np.float32), np.array(labels)).auroc() == expected


@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_auroc(label: bool) -> None:
    scores, labels = np.ones(3, dtype=np.float32), np.full(3, label)
    assert auroc(scores, labels) is None
    assert binned(scores, labels).auroc() is None
    assert auroc([], []) is None
    assert BinnedScores().auroc() is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_and_not_counted(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        auroc([0.0, bad], [0, 1])
    counts = BinnedScores()
    with pytest.raises(ValueError, match="finite"):
        counts.add(np.array([0.0, bad], dtype=np.float32), np.array([False, True]))
    assert counts.counts().bins.size == 0


def test_float64_beyond_float32_is_refused_without_a_warning() -> None:
    with pytest.raises(ValueError, match="float32"):
        BinnedScores().add(np.array([1e300]), np.array([True]))


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        auroc([1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="labels"):
        BinnedScores().add(np.ones(2, dtype=np.float32), np.array([0, 255]))


@patient
@given(scores_and_labels())
@example((np.full(4, -3.7, dtype=np.float32), np.array([True, False, True, False])))
def test_binned_auroc_equals_sklearn_on_the_quantised_scores(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    expected = reference(quantised_scores(scores), labels)
    assert binned(scores, labels).auroc() == pytest.approx(expected, abs=1e-9)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_quantised_scores_keep_their_order_and_stay_within_a_bin_of_themselves(scores: np.ndarray) -> None:
    ordered = np.sort(scores)
    quantised = quantised_scores(ordered)
    assert quantised.dtype == np.float32
    assert (np.diff(quantised.astype(np.float64)) >= 0).all()
    width = np.maximum(np.abs(ordered.astype(np.float64)) * 2.0**-11, 2.0**-137)
    assert (np.abs(quantised.astype(np.float64) - ordered) < width).all()
    assert np.array_equal(quantised_scores(quantised), quantised)
    assert not np.signbit(quantised[quantised == 0]).any()


@patient
@given(scores_and_labels(), st.randoms(use_true_random=False))
def test_order_of_adding_does_not_matter(case: tuple[np.ndarray, np.ndarray], random) -> None:
    scores, labels = case
    order = np.array(random.sample(range(scores.size), scores.size))
    cut = random.randrange(scores.size + 1)
    parts, whole = binned(scores[order][:cut], labels[order][:cut]), binned(scores, labels).counts()
    parts.add_counts(binned(scores[order][cut:], labels[order][cut:]).counts())
    for row in ("bins", "normal", "anomalous", "region_share"):
        assert np.array_equal(getattr(parts.counts(), row), getattr(whole, row)), row


@given(scores_and_labels())
def test_bins_hold_what_counting_one_by_one_gives(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    counts, quantised = binned(scores, labels).counts(), quantised_scores(scores)
    distinct = np.unique(quantised)
    assert counts.bins.dtype == np.int32 and (np.diff(counts.bins) > 0).all()
    assert counts.normal.tolist() == [int(((quantised == value) & ~labels).sum()) for value in distinct]
    assert counts.anomalous.tolist() == [int(((quantised == value) & labels).sum()) for value in distinct]
    mirrored = binned(-scores, labels).counts()
    assert np.array_equal(mirrored.bins, -counts.bins[::-1]) and np.array_equal(mirrored.normal, counts.normal[::-1])


@pytest.mark.parametrize(
    ("scores", "mebibytes"), [([1e-45, 3e38, -3e38, 0.0, -1e-45, 1.0], 24), (np.geomspace(1e-3, 1, 1000), 1)]
)
def test_counting_takes_no_more_memory_than_stated(scores: Sequence[float], mebibytes: float) -> None:
    values, labels = np.array(scores, np.float32), np.zeros(len(scores), bool)
    binned(values, labels)  # what numpy allocates only once
    tracemalloc.start()
    counts = binned(values, labels)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used <= (mebibytes + 0.1) * 2**20
    assert counts.counts().normal.sum() == len(scores)


@patient
@given(scores_and_labels())
def test_negating_the_scores_mirrors_the_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    value, mirrored = binned(scores, labels).auroc(), binned(-scores, labels).auroc()
    assert value is not None and mirrored is not None
    assert value + mirrored == pytest.approx(1.0, abs=1e-12)


@patient
@given(scores_and_labels())
def test_auroc_depends_on_the_order_of_the_scores_only(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    ranks = np.unique(scores, return_inverse=True)[1]
    assert auroc(scores, labels) == auroc(ranks, labels) == auroc(2.0**ranks, labels)
    # Distinct powers of two never share a bin, so the binned AUROC is exact for them.
    assert binned(np.float32(2.0) ** (ranks - 60), labels).auroc() == pytest.approx(auroc(ranks, labels), abs=1e-12)


def test_maps_of_any_shape_and_strides_are_counted_alike() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(2, 6, 7)).astype(np.float32)
    labels = rng.random((2, 6, 7)) < 0.4
    flat, strided, whole, single = BinnedScores(), BinnedScores(), BinnedScores(), BinnedScores()
    flat.add(scores.ravel(), labels.ravel())
    strided.add(scores.T, labels.T)
    whole.add(scores.astype(np.float64), labels.astype(np.uint8))
    for score, label in zip(scores.ravel(), labels.ravel(), strict=True):
        single.add(score, label)
    assert flat.auroc() == strided.auroc() == whole.auroc() == single.auroc()
    assert flat.counts().normal.sum() + flat.counts().anomalous.sum() == 84


STREAM = """
import resource, sys
import numpy as np
from flawmap.metrics.ranking import BinnedScores
rng = np.random.default_rng(0)
score = rng.normal(size=(1024, 1024)).astype(np.float32)
label = np.zeros((1024, 1024), dtype=bool)
label[:100, :100] = True
score[label] += np.float32(0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
counts = BinnedScores()
for _ in range(1000):
    counts.add(score, label)
result = counts.auroc()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
grown_mib = grown / (2**20 if sys.platform == "darwin" else 1024)
print(counts.counts().anomalous.sum(), counts.counts().normal.sum(), grown_mib, result)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the resource module, which measures memory, is Unix only")
def test_a_thousand_maps_of_a_megapixel_fit_in_a_gibibyte() -> None:
    answer = subprocess.run([sys.executable, "-c", STREAM], capture_output=True, text=True, check=True, timeout=300)
    n_anomalous, n_normal, grown_mib, value = answer.stdout.split()
    assert (float(n_anomalous), float(n_normal)) == (10_000_000, 1_038_576_000)
    assert float(grown_mib) < 1024
    # Normals N(0, 1) against N(½, 1): Phi(½ / sqrt 2) = 0.638; more than 2^53 pairs must not overflow either.
    assert float(value) == pytest.approx(0.638, abs=0.01)

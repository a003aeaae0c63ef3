"""Pixel pools: AUPRO by brute force, intervals by resampling images, sketches by their stated error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from assertions import quantised_scores
from flawmap.metrics.bootstrap import Estimate, resample_weights
from flawmap.metrics.pixel_pool import PIXEL_METRICS, PixelPool, PixelPools, count_pixels

Maps = list[tuple[np.ndarray, np.ndarray]]


def pool_of(maps: Maps) -> PixelPool:
    pool = PixelPool()
    for anomaly_map, truth in maps:
        pool.add(count_pixels(anomaly_map, truth))
    return pool


def brute_force_aupro(maps: Maps, fpr_limit: float) -> float:
    """The definition, word by word: every threshold, every region, every normal pixel."""
    normal = np.concatenate([scores[~truth] for scores, truth in maps])
    regions = []
    for scores, truth in maps:
        labels, n = ndimage.label(truth, structure=np.ones((3, 3)))
        regions += [scores[labels == number] for number in range(1, n + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([scores.ravel() for scores, _ in maps]))[::-1]:
        points.append(((normal >= threshold).mean(), np.mean([(region >= threshold).mean() for region in regions])))
    rates, overlaps = (np.array(column) for column in zip(*points, strict=True))
    kept = rates <= fpr_limit
    cut = kept.sum() < rates.size
    if cut:
        beyond = int(kept.sum())
        slope = (overlaps[beyond] - overlaps[beyond - 1]) / (rates[beyond] - rates[beyond - 1])
        end = overlaps[beyond - 1] + slope * (fpr_limit - rates[beyond - 1])
    rates = np.append(rates[kept], fpr_limit) if cut else rates
    overlaps = np.append(overlaps[kept], end) if cut else overlaps
    return float(np.trapezoid(overlaps, rates) / fpr_limit)


def by_sklearn(maps: Maps) -> dict[str, float]:
    scores = np.concatenate([scores.ravel() for scores, _ in maps]).astype(np.float64)
    labels = np.concatenate([truth.ravel() for _, truth in maps])
    precision, recall, _ = precision_recall_curve(labels, scores)
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "f1_max": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))),
        "aupro_30": brute_force_aupro(maps, 0.3),
        "aupro_05": brute_force_aupro(maps, 0.05),
    }


@st.composite
def few_maps(draw: st.DrawFn) -> Maps:
    """One to four small maps of different sizes, at least one anomalous and one normal pixel, with near ties."""
    values = st.sampled_from([-2.0, -1.0001, -1.0, 0.0, 0.25, 1.0, 1.0001, 1.0002, 1.001, 3.0])
    maps = []
    for number in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(2, 7), st.integers(2, 7)))
        truth = draw(hnp.arrays(np.bool_, shape, fill=st.just(False)))
        if number == 0:
            truth[0, :2] = [True, False]
        maps.append((draw(hnp.arrays(np.float32, shape, elements=values)), truth))
    return maps


def blobs(seed: int, n_images: int, size: int = 64, n_levels: int | None = None) -> Maps:
    """Smooth maps that are higher on square defects; every third image is normal. ``n_levels`` makes few values."""
    rng, maps = np.random.default_rng(seed), []
    for number in range(n_images):
        truth = np.zeros((size, size), bool)
        for _ in range(rng.integers(1, 4) if number % 3 else 0):
            row, column, side = rng.integers(size - 4), rng.integers(size - 4), rng.integers(2, size // 5)
            truth[row : row + side, column : column + side] = True
        raw = ndimage.gaussian_filter(rng.normal(size=truth.shape), 2) * 4 + ndimage.gaussian_filter(truth * 2.0, 2)
        scores = 1 / (1 + np.exp(2 - raw - 0.3 * rng.normal()))
        maps.append(((np.round(scores * n_levels) / n_levels if n_levels else scores).astype(np.float32), truth))
    return maps


# ---- values


@settings(max_examples=40)
@given(few_maps())
def test_values_equal_scikit_learn_and_brute_force_on_the_quantised_scores(maps: Maps):
    quantised = [(quantised_scores(scores), truth) for scores, truth in maps]
    assert pool_of(maps).values() == pytest.approx(by_sklearn(quantised), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_binning_moves_no_value_by_more_than_5e_4(seed: int):
    maps = blobs(seed, 12)
    assert pool_of(maps).values() == pytest.approx(by_sklearn(maps), abs=5e-4)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[4, 4, 0, 0, 0, 3, 0, 0, 0, 0]], 1.0),  # both regions above all normal pixels
        # One region is found at once, the other after a quarter of the 8 normal pixels: ½ up to there, then 1.
        ([[4, 4, 3, 3, 0, 2, 0, 0, 0, 0]], (0.25 * 0.5 + 0.05 * 1) / 0.3),
        ([[9, 9, 9, 9, 9, 9, 9, 9, 9, 9]], 0.15),  # all tied: the diagonal, half of 0.3 times 0.3, over 0.3
        ([[0, 0, 9, 9, 9, 0, 9, 9, 9, 9]], 0.0),
    ],
)
def test_aupro_closed_forms(scores: list[list[int]], expected: float):
    truth = np.zeros((1, 10), bool)
    truth[0, [0, 1, 5]] = True  # two regions: one of two pixels, one of one, and seven normal pixels
    maps = [(np.array(scores, np.float32), truth)]
    if scores[0][:4] == [4, 4, 3, 3]:
        maps.append((np.zeros((1, 1), np.float32), np.zeros((1, 1), bool)))  # the eighth
    assert pool_of(maps).values()["aupro_30"] == pytest.approx(expected, abs=1e-12)


def test_a_small_region_weighs_as_much_as_a_large_one():
    truth = np.zeros((20, 20), bool)
    truth[:10, :10], truth[15, 15] = True, True
    only_large = np.where(truth, 1.0, 0.5)
    only_large[15, 15] = 0.0
    only_small = np.full((20, 20), 0.5)
    only_small[15, 15], only_small[:10, :10] = 1.0, 0.0
    large, small = (pool_of([(scores, truth)]).values() for scores in (only_large, only_small))
    assert large["aupro_30"] == pytest.approx(0.5, abs=1e-12)
    assert small["aupro_30"] == pytest.approx(0.5, abs=1e-12)
    assert large["auroc"] > 0.95 > 0.05 > small["auroc"]


def test_order_of_images_and_merging_change_no_value():
    maps = blobs(3, 9)
    whole, parts = pool_of(maps), pool_of(maps[6:])
    parts.merge(pool_of(maps[:6]))
    assert (parts.n_images, parts.n_regions) == (whole.n_images, whole.n_regions) == (9, whole.n_regions)
    assert parts.values() == pytest.approx(whole.values(), abs=1e-13)
    assert parts.values()["average_precision"] == whole.values()["average_precision"]


# ---- intervals


def test_intervals_are_those_of_resampled_images_when_there_are_few_scores():
    maps = blobs(1, 18, size=20, n_levels=200)
    estimates = pool_of(maps).estimates(np.random.default_rng(4), n_resamples=60)
    is_anomalous = np.array([truth.any() for _, truth in maps])
    drawn = np.concatenate(list(resample_weights(is_anomalous, 60, np.random.default_rng(4), 10))).astype(int)
    quantised = [(quantised_scores(scores), truth) for scores, truth in maps]
    resamples = [
        by_sklearn([one for one, count in zip(quantised, times, strict=True) for _ in range(count)]) for times in drawn
    ]
    assert tuple(estimates) == PIXEL_METRICS
    for name, value in by_sklearn(quantised).items():
        low, high = np.quantile([resample[name] for resample in resamples], [0.025, 0.975])
        found = estimates[name]
        assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-9), name


def test_copies_of_an_image_have_its_interval_if_they_are_one_group():
    maps = blobs(1, 14, size=20, n_levels=200)
    alone, in_groups, copied = pool_of(maps), PixelPool(), PixelPool()
    for number, (anomaly_map, truth) in enumerate(maps):
        in_groups.add(count_pixels(anomaly_map, truth), f"g{number}")
    for number, (anomaly_map, truth) in enumerate(maps * 3):
        copied.add(count_pixels(anomaly_map, truth), f"g{number % len(maps)}")
    expected = alone.estimates(np.random.default_rng(4), n_resamples=60)
    assert in_groups.estimates(np.random.default_rng(4), n_resamples=60) == expected
    for name, found in copied.estimates(np.random.default_rng(4), n_resamples=60).items():
        assert (found.low, found.high) == pytest.approx((expected[name].low, expected[name].high), abs=1e-3)
        assert found.value == pytest.approx(expected[name].value, abs=1e-9)


def test_sketches_of_large_maps_change_the_intervals_by_less_than_their_stated_error(monkeypatch):
    maps = blobs(2, 24, size=192)
    sketched = pool_of(maps).estimates(np.random.default_rng(0), n_resamples=200)
    monkeypatch.setattr("flawmap.metrics.pixel_pool.SHARES", 1 << 40)  # every bin is kept apart
    monkeypatch.setattr("flawmap.metrics.pixel_pool.STEPS_PER_OCTAVE", 1 << 40)
    exact = pool_of(maps).estimates(np.random.default_rng(0), n_resamples=200)
    for name in PIXEL_METRICS:
        assert exact[name].value == sketched[name].value
        assert (sketched[name].low, sketched[name].high) != (exact[name].low, exact[name].high)
        assert (sketched[name].low, sketched[name].high) == pytest.approx((exact[name].low, exact[name].high), abs=5e-4)


def test_sketches_stay_small_and_keep_every_pixel():
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, (400, 400), dtype=np.uint32).view(np.float32)
    anything[~np.isfinite(anything)] = 0  # 160,000 pixels over the whole range of float32
    truth = rng.random((400, 400)) < 0.1
    image = count_pixels(anything, truth)
    assert image.counts.bins.size > 60_000 and image.sketch.bins.size < 2500
    for row in ("normal", "anomalous", "region_share"):
        fine, sketch = getattr(image.counts, row), getattr(image.sketch, row)
        assert sketch.sum() == pytest.approx(fine.sum())
        assert (sketch[np.diff(image.sketch.bins, prepend=-(2**20)) > 1] < 2 / 512 * fine.sum() + 1e-9).all()
    assert sum(row.nbytes for row in vars(image.sketch).values()) < 80 * 1024
    normal = count_pixels(anything, np.zeros_like(truth)).sketch
    assert normal.bins.size < 512 + 32 * 18
    assert sum(row.nbytes for row in vars(normal).values()) < 35 * 1024
    # Where few normal pixels lie above, groups are as small as a 32nd of an octave allows.
    above = np.cumsum(normal.normal[::-1])[::-1]
    assert normal.normal[-10:].max() <= 2
    assert (normal.normal[above > 200] <= np.maximum(2, above[above > 200] * 0.05)).all()


def test_a_fixed_seed_gives_a_fixed_interval_that_holds_the_value():
    pool = pool_of(blobs(5, 18))
    one, again = (pool.estimates(np.random.default_rng(9), n_resamples=100) for _ in range(2))
    assert one == again
    for estimate in one.values():
        assert estimate.low < estimate.value < estimate.high


def test_pools_without_both_classes_have_no_estimate():
    nothing = dict.fromkeys(PIXEL_METRICS, Estimate(None, None, None))
    normal = [(np.ones((4, 4), np.float32), np.zeros((4, 4), bool))]
    assert PixelPool().estimates(np.random.default_rng(0)) == nothing
    assert pool_of(normal).estimates(np.random.default_rng(0)) == nothing
    assert pool_of(normal).values() == {}
    full = [(np.ones((4, 4), np.float32), np.ones((4, 4), bool))]
    assert pool_of(full).estimates(np.random.default_rng(0)) == nothing
    assert pool_of(full + normal).values()["aupro_30"] == pytest.approx(0.15)


def test_an_image_that_is_anomalous_all_over_can_be_drawn_alone():
    rng = np.random.default_rng(0)
    half = np.arange(16).reshape(4, 4) < 8
    maps = [(rng.random((4, 4)), np.ones((4, 4), bool)), (half + rng.random((4, 4)), half)] * 3
    estimates = pool_of(maps).estimates(np.random.default_rng(1), n_resamples=100)
    assert 0 <= estimates["auroc"].low <= estimates["auroc"].high <= 1


# ---- groups


def test_kinds_and_sizes_stand_against_all_normal_images():
    pools, maps, kinds, rng = PixelPools(), [], [], np.random.default_rng(6)
    for number, side in enumerate([0, 2, 2, 6, 0, 6, 20, 0, 30, 6]):  # of 1,600 pixels: 0.25 %, 2.25 %, 25 %, 56 %
        truth = np.zeros((40, 40), bool)
        truth[:side, 5 : 5 + side] = True
        maps.append(((rng.normal(size=(40, 40)) + truth).astype(np.float32), truth))
        kinds.append("good" if side == 0 else "crack" if number % 2 else "dent")
        pools.add(count_pixels(*maps[-1]), kinds[-1])
    assert pools.everything().n_images == 10
    assert list(pools.by_kind()) == ["crack", "dent"]
    for kind, pool in pools.by_kind().items():
        expected = pool_of([one for one, other in zip(maps, kinds, strict=True) if other in (kind, "good")])
        assert pool.n_images == expected.n_images
        assert pool.values() == pytest.approx(expected.values(), abs=1e-12)
    assert {size: pool.n_images for size, pool in pools.by_size().items()} == {"large": 5, "medium": 6, "small": 5}
    small = pool_of([one for one in maps if one[1].sum() in (0, 4)])
    assert pools.by_size()["small"].values()["auroc"] == small.values()["auroc"]


def test_an_image_knows_its_regions_and_its_anomalous_share():
    truth = np.zeros((10, 10), bool)
    truth[0, :3], truth[5:7, 5] = True, True
    image = count_pixels(np.random.default_rng(0).random((10, 10)), truth)
    assert (image.n_regions, image.anomalous_share) == (2, 0.05)
    assert image.counts.region_share.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.ones((3, 3)), np.ones((3, 4), bool), r"\(3, 3\).*\(3, 4\)"),
        (np.ones(9), np.ones(9, bool), r"\(9,\)"),
        (np.ones((0, 3)), np.ones((0, 3), bool), r"\(0, 3\)"),
        (np.full((3, 3), np.nan), np.ones((3, 3), bool), "finite"),
    ],
)
def test_maps_that_cannot_be_counted_are_refused(scores: np.ndarray, truth: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        count_pixels(scores, truth)

"""NSA: how many patches, places on the object, alignment of the clone, labels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from flawmap_bench.simulators import nsa
from flawmap_bench.simulators.nsa import (
    NSA_PARAMETERS,
    NaturalSyntheticAnomalies,
    NsaParameters,
    clone_patch,
    disk_median,
    draw_sides,
    object_mask,
)


def surface(seed: int, height: int = 128, width: int = 128) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    a, b, p = generator.uniform(4, 12, 3)
    waves = np.stack([40 * np.sin(rows / a + p + c) + 40 * np.cos(columns / b - c) for c in range(3)], axis=2)
    return (130 + waves + generator.normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8)


def disk_on_black(seed: int, center: tuple[int, int], radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:128, :128]
    inside = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2
    return np.where(inside[..., None], surface(seed).clip(60), 0).astype(np.uint8)


ON_BLACK = replace(NsaParameters(), background=(0, 20), clone="normal")


# ---- how large, and how many


def test_patches_are_no_smaller_than_can_be_blended_and_no_larger_than_the_image():
    generator = np.random.default_rng(1)
    for _ in range(300):
        for height, width in draw_sides(32, 40, generator, NSA_PARAMETERS["screw"]):
            assert 12 <= height <= 32 and 12 <= width <= 40


def test_the_first_patch_is_certain_and_the_others_are_coins(monkeypatch: pytest.MonkeyPatch):
    clones: Counter[int] = Counter()

    def count(image: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        clones[seed] += 1
        return image, np.zeros(image.shape[:2], bool)

    monkeypatch.setattr(nsa, "clone_patch", count)
    image, second = surface(0, 64, 64), surface(1, 64, 64)
    for seed in range(400):
        NaturalSyntheticAnomalies()(image, np.random.default_rng(seed), None, second)
    counts = np.bincount(list(clones.values()), minlength=5)
    assert counts[0] == 0 and len(clones) == 400 and len(counts) == 5
    assert stats.chisquare(counts[1:], 400 * np.array([1, 3, 3, 1]) / 8).pvalue > 0.01


# ---- the object


def test_an_object_is_what_differs_from_the_background():
    image = disk_on_black(0, (64, 64), 30)
    mask = object_mask(image, (0, 20))
    assert mask is not None
    rows, columns = np.mgrid[:128, :128]
    distance = np.hypot(rows - 64, columns - 64)
    assert mask[distance < 28].all() and not mask[distance > 32].any()
    assert object_mask(image, None) is None
    speck = np.zeros((64, 64, 3), np.uint8)
    speck[30:33, 30:33] = 255
    white = object_mask(speck, (0, 20))
    assert white is not None and not white.any()  # the median removes 9 of 49 pixels as noise


def test_patches_lie_on_the_object_of_the_image_or_bring_their_own():
    image, second = disk_on_black(0, (50, 60), 30), disk_on_black(1, (80, 70), 32)
    target = object_mask(image, (0, 20))
    assert target is not None
    single = NaturalSyntheticAnomalies(replace(ON_BLACK, max_patches=1))
    labels = 0
    for seed in range(40):
        anomaly = single(image, np.random.default_rng(seed), None, second)
        labels += anomaly.label
        if anomaly.label:
            # more than a quarter of the patch's object, which is most of the footprint, is on the object
            assert (anomaly.footprint & target).sum() > 0.15 * anomaly.footprint.sum()
    assert labels > 25


def test_patches_anywhere_would_miss_the_object():
    """The same images without looking for an object: the check above can fail."""
    image, second = disk_on_black(0, (50, 60), 30), disk_on_black(1, (80, 70), 32)
    target = object_mask(image, (0, 20))
    assert target is not None
    single = NaturalSyntheticAnomalies(replace(ON_BLACK, max_patches=1, background=None))
    anomalies = [single(image, np.random.default_rng(seed), None, second) for seed in range(40)]
    shares = [(a.footprint & target).sum() / a.footprint.sum() for a in anomalies if a.label]
    assert min(shares) < 0.1


def test_patches_are_mostly_object_and_pasted_where_either_image_has_one(monkeypatch: pytest.MonkeyPatch):
    image, second = disk_on_black(0, (50, 60), 30), disk_on_black(1, (80, 70), 32)
    target = object_mask(image, (0, 20))
    assert target is not None
    parts = 0

    def check(result: np.ndarray, patch: np.ndarray, alpha: np.ndarray, place: tuple, kind: str) -> tuple:
        nonlocal parts
        on_patch = patch.mean(axis=2) > 20
        assert on_patch.mean() > 0.65  # 0.7 but for the median at the edge
        assert np.mean(alpha != (on_patch | target[place])) < 0.02
        parts += not alpha.all()
        return result, np.zeros(result.shape[:2], bool)

    monkeypatch.setattr(nsa, "clone_patch", check)
    unscaled = NaturalSyntheticAnomalies(replace(ON_BLACK, scale=(1.0, 1.0)))
    for seed in range(30):
        unscaled(image, np.random.default_rng(seed), None, second)
    assert parts > 5


@pytest.mark.parametrize("where", ["image", "second"])
def test_without_an_object_nothing_happens(where: str):
    black, with_object = np.zeros((128, 128, 3), np.uint8), disk_on_black(0, (64, 64), 40)
    image, second = (black, with_object) if where == "image" else (with_object, black)
    for seed in range(5):
        anomaly = NaturalSyntheticAnomalies(ON_BLACK)(image, np.random.default_rng(seed), None, second)
        assert anomaly.label == 0 and np.array_equal(anomaly.image, image) and not anomaly.footprint.any()


# ---- cloning


def test_cloning_an_image_onto_itself_changes_nothing():
    image = surface(0)
    for kind in ("normal", "mixed"):
        for top, left, height, width in ((0, 0, 30, 20), (50, 60, 41, 33), (90, 100, 38, 28)):
            place = slice(top, top + height), slice(left, left + width)
            cloned, footprint = clone_patch(image, image[place], np.ones((height, width), bool), place, kind)
            assert np.abs(cloned.astype(int) - image).max() <= 1
            assert footprint.sum() > 0.6 * height * width and not footprint[:2].any() and not footprint[:, -2:].any()


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 77), (61, 3), (91, 90)])
def test_a_clone_comes_where_it_is_told(top: int, left: int):
    image = np.full((128, 128, 3), 120, np.uint8)
    patch = np.full((37, 38, 3), 120, np.uint8)
    patch[22:25, 14:17] = 220  # off the middle on both axes
    alpha = np.ones((37, 38), bool)
    alpha[:, 30:] = alpha[:4, :10] = False
    place = slice(top, top + 37), slice(left, left + 38)
    cloned, footprint = clone_patch(image, patch, alpha, place, "normal")
    rows, columns = np.nonzero(cloned[..., 0] > 180)
    assert (rows.mean(), columns.mean()) == (top + 23, left + 15)
    expected = np.zeros((128, 128), bool)
    expected[place] = alpha
    assert not (footprint & ~expected).any()
    assert np.array_equal(cloned[~footprint], image[~footprint])


def test_a_mask_that_is_too_small_changes_nothing():
    image, place = surface(0), (slice(40, 60), slice(40, 60))
    alpha = np.zeros((20, 20), bool)
    alpha[5:12, 5:16] = True
    cloned, footprint = clone_patch(image, surface(1)[place], alpha, place, "mixed")
    assert np.array_equal(cloned, image) and not footprint.any()


def test_mixed_keeps_the_stronger_gradients_of_the_image_and_normal_does_not():
    image, place = surface(0), (slice(30, 80), slice(40, 90))
    flat = np.full((50, 50, 3), 128, np.uint8)
    spreads = {}
    for kind in ("normal", "mixed"):
        cloned, _ = clone_patch(image, flat, np.ones((50, 50), bool), place, kind)
        spreads[kind] = np.abs(np.diff(cloned[45:65, 55:75].astype(float), axis=1)).mean()
    assert spreads["mixed"] > 5 * spreads["normal"]


# ---- labels


def test_the_disk_median_equals_scipys():
    generator = np.random.default_rng(0)
    values = generator.integers(0, 766, (40, 33)).astype(np.uint16)
    offsets = np.arange(-5, 6)
    disk = offsets[:, None] ** 2 + offsets**2 <= 25
    assert disk.sum() == 81
    wanted = generator.random((40, 33)) < 0.5
    expected = ndimage.median_filter(values, footprint=disk, mode="nearest")[wanted]
    assert np.array_equal(disk_median(values, wanted, 5), expected)


@pytest.mark.parametrize("name", ["carpet", "bottle", "screw"])
def test_labels_are_a_logistic_function_of_the_smoothed_change_where_it_is_visible(name: str):
    parameters = replace(NSA_PARAMETERS[name], background=None, half_height=(0.1, 0.4), half_width=(0.1, 0.4))
    image, second = surface(2), surface(3)
    offsets = np.arange(-5, 6)
    disk = offsets[:, None] ** 2 + offsets**2 <= 25
    compared = 0
    for seed in range(8):
        anomaly = NaturalSyntheticAnomalies(parameters)(image, np.random.default_rng(seed), None, second)
        visible = anomaly.soft_target > 0
        delta = np.abs(anomaly.image.astype(float) - image).mean(axis=2)
        assert np.array_equal(visible, ndimage.median_filter(delta > 1.0001, 5, mode="nearest") & anomaly.footprint)
        smooth = ndimage.median_filter(delta, footprint=disk, mode="nearest")[visible]
        expected = 1 / (1 + np.exp(-parameters.steepness * (smooth - parameters.midpoint)))
        np.testing.assert_allclose(anomaly.soft_target[visible], expected, atol=1e-6)
        compared += visible.sum()
    assert compared > 3000


def test_an_invisible_change_is_undone():
    image = np.full((96, 96, 3), 100, np.uint8)
    second = image + np.random.default_rng(0).integers(0, 2, (96, 96, 1), dtype=np.uint8)
    place = slice(20, 70), slice(20, 70)
    cloned, _ = clone_patch(image, second[place], np.ones((50, 50), bool), place, "normal")
    assert np.abs(cloned.astype(int) - image).max() == 1
    simulator = NaturalSyntheticAnomalies(replace(NSA_PARAMETERS["cable"], scale=(1.0, 1.0)))
    for seed in range(10):
        anomaly = simulator(image, np.random.default_rng(seed), None, second)
        assert anomaly.label == 0 and np.array_equal(anomaly.image, image) and not anomaly.soft_target.any()

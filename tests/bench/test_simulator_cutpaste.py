"""CutPaste: sizes, places, rotation and jitter as published, and the union."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from flawmap_bench.simulators.cutpaste import CutPaste, draw_rectangle, draw_scar, uniform_box
from images import noise


def uniform_p(values: np.ndarray, low: float, high: float) -> float:
    """Of the Kolmogorov-Smirnov test that ``values`` are U(low, high)."""
    return float(stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue)


def box_of(footprint: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height, width."""
    rows, columns = footprint.any(axis=1).nonzero()[0], footprint.any(axis=0).nonzero()[0]
    return int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_rectangles_have_the_published_areas_and_aspects():
    generator = np.random.default_rng(0)
    height, width = 30_000, 40_000  # so large that rounding to pixels is nothing
    sides = np.array([draw_rectangle(height, width, generator) for _ in range(2000)])
    assert uniform_p(sides.prod(axis=1) / (height * width), 0.02, 0.15) > 0.01
    aspects = sides[:, 1] / sides[:, 0]
    flat = aspects < 1
    assert stats.binomtest(int(flat.sum()), 2000).pvalue > 0.01
    assert uniform_p(aspects[flat], 0.3, 1.0) > 0.01 and uniform_p(aspects[~flat], 1.0, 3.3) > 0.01


def test_rectangles_are_cut_to_narrow_images():
    generator = np.random.default_rng(0)
    sides = np.array([draw_rectangle(400, 32, generator) for _ in range(300)])
    assert sides[:, 1].max() == 32 and sides[:, 0].max() <= 400 and sides.min() >= 1


def test_scars_have_the_published_sizes_scaled_with_the_shorter_side():
    generator = np.random.default_rng(1)
    scars = np.array([draw_scar(256 * 100, 256 * 300, generator) for _ in range(2000)])
    lengths, widths, angles = scars.T
    assert uniform_p(lengths / 100, 10, 25) > 0.01
    assert uniform_p(widths / 100, 2, 16) > 0.01
    assert uniform_p(angles, -45, 45) > 0.01


def test_scars_at_256_px_are_whole_pixels_in_range():
    generator = np.random.default_rng(2)
    lengths, widths, _ = np.array([draw_scar(256, 256, generator) for _ in range(1000)]).T
    assert (lengths.min(), lengths.max(), widths.min(), widths.max()) == (10, 25, 2, 16)


def test_a_rectangle_is_pasted_whole_and_hard():
    for seed in range(30):
        image = noise(seed, 64, 90)
        height, width = draw_rectangle(64, 90, np.random.default_rng(seed))  # the first that the simulator draws
        anomaly = CutPaste("normal")(image, np.random.default_rng(seed))
        assert box_of(anomaly.footprint)[2:] == (height, width)
        assert anomaly.footprint.sum() == height * width
        assert np.array_equal(anomaly.soft_target, anomaly.footprint)


def test_boxes_are_uniform_and_inside():
    generator = np.random.default_rng(3)
    boxes = [uniform_box((12, 30), (5, 11), generator) for _ in range(4000)]
    assert {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes} == {(5, 11)}
    for axis, places in ((0, 8), (1, 20)):
        counts = np.bincount([box[axis].start for box in boxes])
        assert len(counts) == places and stats.chisquare(counts).pvalue > 0.01
    assert uniform_box((7, 7), (7, 7), generator) == (slice(0, 7), slice(0, 7))


def test_source_and_destination_are_independent_and_uniform(
    coordinate_image: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flawmap_bench.simulators.cutpaste.color_jitter", lambda patch, *_: patch)
    image = coordinate_image(128, 128)
    places = []
    for seed in range(300):
        anomaly = CutPaste("normal")(image, np.random.default_rng(seed))
        top, left, height, width = box_of(anomaly.footprint)
        column, row, _ = anomaly.image[top, left]  # the source's corner says where it is from
        patch = anomaly.image[top : top + height, left : left + width]
        assert np.array_equal(patch, image[row : row + height, column : column + width])
        free = np.array([128 - height, 128 - width])
        places.append([(row, column) / free, (top, left) / free])
    sources, destinations = np.array(places).transpose(1, 2, 0)
    for axis in (0, 1):
        assert uniform_p(sources[axis], 0, 1) > 0.01 and uniform_p(destinations[axis], 0, 1) > 0.01
        assert stats.spearmanr(sources[axis], destinations[axis]).pvalue > 0.01


def test_jitter_changes_brightness_by_a_tenth_at_most():
    image = np.full((48, 48, 3), 200, np.uint8)
    values = []
    for seed in range(400):
        anomaly = CutPaste("normal")(image, np.random.default_rng(seed))
        inside = anomaly.image[anomaly.footprint] if anomaly.label else image[:1, 0]
        assert np.ptp(inside) == 0
        values.append(inside[0, 0] / 200)
    # contrast does nothing to a constant patch, saturation and hue nothing to gray
    assert 0.9 - 1 / 200 <= min(values) < 0.91 and 1.09 < max(values) <= 1.1 + 1 / 200
    assert stats.chisquare(np.histogram(values, bins=np.linspace(0.895, 1.105, 8))[0]).pvalue > 0.001


@pytest.mark.parametrize("seed", range(12))
def test_a_scar_is_a_rotated_rectangle_of_the_drawn_size(seed: int):
    image = noise(seed, 512, 512)
    length, width, angle_deg = draw_scar(512, 512, np.random.default_rng(seed))
    anomaly = CutPaste("scar")(image, np.random.default_rng(seed))
    assert anomaly.footprint.sum() == pytest.approx(length * width, rel=0.05, abs=6)
    rows, columns = anomaly.footprint.nonzero()
    points = np.stack([columns - columns.mean(), rows - rows.mean()])
    turned = np.deg2rad(angle_deg)  # counter-clockwise as seen, with rows counted downwards
    along = np.array([np.sin(turned), np.cos(turned)]) @ points
    across = np.array([np.cos(turned), -np.sin(turned)]) @ points
    assert np.ptp(along) == pytest.approx(length, abs=2) and np.ptp(across) == pytest.approx(width, abs=2)


def test_no_black_mixes_into_a_scars_edge():
    image = np.full((256, 256, 3), 255, np.uint8)
    for seed in range(30):
        anomaly = CutPaste("scar")(image, np.random.default_rng(seed))
        assert anomaly.image.min() >= np.floor(255 * 0.9) - 1


def test_scars_are_seen_at_every_size():
    for size in (32, 64, 224):
        image = noise(size, size, size)
        scars = [CutPaste("scar")(image, np.random.default_rng(seed)) for seed in range(60)]
        assert min(scar.footprint.sum() for scar in scars) >= 2


def test_the_union_is_a_fair_coin():
    image = noise(0, 128, 128)
    shares = [CutPaste("union")(image, np.random.default_rng(seed)).footprint.mean() for seed in range(400)]
    largest_scar = 16 * 25 / 256**2 * 1.2
    assert stats.binomtest(sum(share < largest_scar for share in shares), 400).pvalue > 0.01
    assert not [share for share in shares if largest_scar < share < 0.0195]  # and nothing besides the two


def test_a_black_image_has_no_anomaly():
    black = np.zeros((64, 64, 3), np.uint8)
    anomaly = CutPaste("union")(black, np.random.default_rng(0))
    assert anomaly.label == 0 and not anomaly.footprint.any() and not anomaly.image.any()

"""Simulated anomalies: where they are, how large, that they are what was cut, and that their footprint says so."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, uniform

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly
from images import noise

SIDE = 64
DEFAULT = SimulationSettings()
UNTURNED = SimulationSettings(max_rotation_deg=0.0, min_scale=1.0, max_scale=1.0, jitter=0.0)
EVERYWHERE = np.ones((4, 4), np.float32)


def spots(*places: tuple[int, int]) -> np.ndarray:
    """Attention at single pixels."""
    attention = np.zeros((SIDE, SIDE), np.float32)
    for place in places:
        attention[place] = 1
    return attention


def box_of(footprint: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width."""
    rows, columns = footprint.any(axis=1).nonzero()[0], footprint.any(axis=0).nonzero()[0]
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


# ---- sizes and places, where nothing is turned


def test_widths_and_heights_are_uniform_and_independent():
    image, generator = noise(0, SIDE, SIDE), np.random.default_rng(0)
    attention = spots((10, 10), (52, 52))  # source and destination are either one place, redrawn, or far apart
    boxes = [box_of(AttentionCutPaste(UNTURNED)(image, generator, attention).footprint) for _ in range(600)]
    heights, widths = np.array([box[2:] for box in boxes]).T
    for sides in (heights, widths):
        assert sides.min() == 6 and sides.max() == 26  # round(0.1 W) and round(0.4 W)
        spread = sides + np.random.default_rng(1).uniform(-0.5, 0.5, len(sides))  # undo the rounding
        assert kstest(spread, uniform(6.4, 19.2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.12


def test_both_sides_are_shares_of_the_width():
    image, generator = noise(0, 96, 48), np.random.default_rng(0)
    settings = replace(UNTURNED, min_size=0.25, max_size=0.25)
    for _ in range(20):
        assert box_of(AttentionCutPaste(settings)(image, generator, EVERYWHERE).footprint)[2:] == (12, 12)
    tall = replace(UNTURNED, min_size=0.5, max_size=0.5)
    flat_image = noise(0, 16, 64)
    for _ in range(20):  # 32 px do not fit into a height of 16
        assert box_of(AttentionCutPaste(tall)(flat_image, generator, EVERYWHERE).footprint)[2:] == (16, 32)


def test_one_hot_attention_puts_every_centre_into_its_cell():
    image, generator = noise(0, SIDE, SIDE), np.random.default_rng(0)
    attention = np.zeros((4, 4), np.float32)
    attention[2, 1] = 1
    attention = attention.repeat(16, axis=0).repeat(16, axis=1)  # at the image's resolution, so nothing is blurred
    settings = replace(UNTURNED, max_size=0.2)
    centres = set()
    for _ in range(300):
        top, left, height, width = box_of(AttentionCutPaste(settings)(image, generator, attention).footprint)
        centres.add((top + height // 2, left + width // 2))
    rows, columns = zip(*centres, strict=True)
    assert (min(rows), max(rows), min(columns), max(columns)) == (32, 47, 16, 31)


def test_patches_near_the_border_are_shifted_inside_and_never_cut():
    image, generator = noise(0, SIDE, SIDE), np.random.default_rng(0)
    settings = replace(UNTURNED, min_size=0.3, max_size=0.3)
    attention = spots((0, 0), (0, 63), (63, 0), (63, 63))
    boxes = {box_of(AttentionCutPaste(settings)(image, generator, attention).footprint) for _ in range(60)}
    assert boxes == {(0, 0, 19, 19), (0, 45, 19, 19), (45, 0, 19, 19), (45, 45, 19, 19)}


def test_a_patch_is_an_exact_copy_from_a_place_of_high_attention(coordinate_image):
    image, generator = coordinate_image(SIDE, SIDE, step=3), np.random.default_rng(0)
    attention = spots((20, 20), (44, 44))
    directions = set()
    for _ in range(60):
        anomaly = AttentionCutPaste(UNTURNED)(image, generator, attention)
        top, left, height, width = box_of(anomaly.footprint)
        assert anomaly.footprint.sum() == height * width
        source_left, source_top = anomaly.image[top, left, :2] // 3
        from_here = image[source_top : source_top + height, source_left : source_left + width]
        assert np.array_equal(anomaly.image[top : top + height, left : left + width], from_here)
        source_row, source_column = source_top + height // 2, source_left + width // 2
        directions.add((int(source_row), int(source_column), top + height // 2, left + width // 2))
    assert directions == {(20, 20, 44, 44), (44, 44, 20, 20)}


def test_source_and_destination_overlap_by_at_most_half(coordinate_image):
    image, generator = coordinate_image(SIDE, SIDE, step=3), np.random.default_rng(0)
    settings = replace(UNTURNED, min_size=0.4)
    overlaps = []
    for _ in range(200):
        anomaly = AttentionCutPaste(settings)(image, generator, EVERYWHERE)
        top, left, height, width = box_of(anomaly.footprint)
        source_left, source_top = (anomaly.image[top, left, :2] // 3).astype(int)
        common = max(0, height - abs(top - source_top)) * max(0, width - abs(left - source_left))
        overlaps.append(common / (2 * height * width - common))
    assert 0.3 < max(overlaps) <= 0.5


# ---- rotated and resized patches


def assert_pixels_and_footprint_agree(image: np.ndarray, anomaly: SimulatedAnomaly, affine_fit) -> np.ndarray:
    """Decodes the similarity from image to source and that the footprint is exactly what it maps into one box."""
    footprint = anomaly.footprint
    padded = np.pad(footprint, 1)
    inner = np.logical_and.reduce([np.roll(padded, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)])[1:-1, 1:-1]
    matrix = affine_fit(anomaly.image, inner, step=3)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    source = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ matrix.T
    decoded = anomaly.image[..., :2] / 3
    assert np.abs(source - decoded)[inner].max() < 0.5  # pixels are where the map says
    low, high = decoded[footprint].min(axis=0).round(), decoded[footprint].max(axis=0).round()
    depth = np.minimum(source - (low - 0.5), (high + 0.5) - source).min(axis=-1)  # px inside the source box
    assert footprint[depth > 0.6].all() and not footprint[depth < -0.6].any()
    return matrix


def test_a_rotated_patch_near_the_border_lies_where_its_footprint_says(coordinate_image, affine_fit):
    image, generator = coordinate_image(SIDE, SIDE, step=3), np.random.default_rng(0)
    attention = spots((32, 32), (1, 2), (2, 60), (62, 1), (61, 62), (30, 0), (63, 31))
    settings = SimulationSettings(min_size=0.2, max_size=0.4, jitter=0.0)
    degrees, scales, at_border = [], [], 0
    for _ in range(150):
        anomaly = AttentionCutPaste(settings)(image, generator, attention)
        (a, b, _), (c, d, _) = assert_pixels_and_footprint_agree(image, anomaly, affine_fit)
        assert a == pytest.approx(d, abs=0.06) and b == pytest.approx(-c, abs=0.06)  # no shear, no reflection
        degrees.append(np.rad2deg(np.arctan2(c - b, a + d)))
        scales.append(1 / np.hypot((a + d) / 2, (c - b) / 2))
        top, left, height, width = box_of(anomaly.footprint)
        at_border += min(top, left, SIDE - top - height, SIDE - left - width) <= 1
    assert at_border > 100
    assert np.abs(degrees).max() < 46 and kstest(degrees, uniform(-45, 90).cdf).pvalue > 1e-3
    assert 0.68 < min(scales) < 0.75 and 1.25 < max(scales) < 1.33


def test_no_black_from_outside_the_patch_gets_into_it():
    image, generator = np.full((SIDE, SIDE, 3), 200, np.uint8), np.random.default_rng(0)
    image[:, SIDE // 2 :] = 150
    settings = SimulationSettings(jitter=0.0)
    for _ in range(50):
        anomaly = AttentionCutPaste(settings)(image, generator, EVERYWHERE)
        assert anomaly.image.min() >= 150 and anomaly.image.max() <= 200


def test_a_patch_larger_than_the_image_is_cropped_to_it():
    ramp = np.arange(10, 250, 4, dtype=np.uint8)  # 60 rows, no two alike
    image = ramp[:, None, None].repeat(20, axis=1).repeat(3, axis=2)
    attention = np.zeros((60, 20), np.float32)
    attention[0, 10] = attention[59, 10] = 1
    settings = replace(UNTURNED, min_size=1.0, max_size=1.0, min_scale=3.0, max_scale=3.0)
    anomaly = AttentionCutPaste(settings)(image, np.random.default_rng(0), attention)
    assert anomaly.footprint.all()  # 20 x 20 px, three times as large, fill all 60 rows
    steps = np.diff(anomaly.image[2:-2, 10, 0].astype(int))
    assert steps.mean() == pytest.approx(4 / 3, abs=0.1)


# ---- labels


@pytest.mark.parametrize("blend", ["hard", "poisson"])
@pytest.mark.parametrize("level", [0, 128])
def test_a_constant_image_stays_as_it_is_and_gets_label_0(blend: str, level: int):
    """Without jitter any paste is invisible; with it, black and every Poisson blend still are."""
    image = np.full((SIDE, SIDE, 3), level, np.uint8)
    for settings in (replace(UNTURNED, blend=blend), replace(DEFAULT, blend=blend, jitter=0.0), DEFAULT):
        if settings is DEFAULT and level:
            settings = replace(DEFAULT, blend="poisson")
        anomaly = AttentionCutPaste(settings)(image, np.random.default_rng(0), EVERYWHERE)
        assert anomaly.label == 0 and not anomaly.footprint.any() and not anomaly.soft_target.any()
        assert np.array_equal(anomaly.image, image)


def test_an_invisible_change_is_not_a_defect():
    image = noise(0, SIDE, SIDE) % 5 + 100  # copies differ by 1.6 gray levels in the mean
    assert AttentionCutPaste(UNTURNED)(image, np.random.default_rng(0), EVERYWHERE).label == 0
    assert AttentionCutPaste(replace(DEFAULT, jitter=0.5))(image, np.random.default_rng(0), EVERYWHERE).label == 1


@pytest.mark.parametrize("blend", ["hard", "poisson"])
def test_textured_images_nearly_always_get_an_anomaly(blend: str):
    generator, settings = np.random.default_rng(0), replace(DEFAULT, blend=blend)
    anomalies = [AttentionCutPaste(settings)(noise(0, SIDE, SIDE), generator, EVERYWHERE) for _ in range(100)]
    assert sum(anomaly.label for anomaly in anomalies) >= 99


# ---- several patches


@pytest.mark.slow
def test_the_first_patch_is_always_there_and_each_further_one_half_of_the_time():
    generator, image = np.random.default_rng(0), noise(0, 128, 128)
    settings = replace(UNTURNED, min_size=0.04, max_size=0.04, max_patches=3)  # 5 x 5 px: they hardly ever meet
    areas = [int(AttentionCutPaste(settings)(image, generator, EVERYWHERE).footprint.sum()) for _ in range(300)]
    patches = np.array([-(-area // 25) for area in areas])  # overlaps take away less than a patch
    assert set(patches) == {1, 2, 3}
    assert binomtest(int((patches - 1).sum()), 600, 0.5).pvalue > 1e-3


# ---- randomness


@pytest.mark.parametrize("blend", ["hard", "poisson"])
def test_depends_on_the_generator_alone_and_leaves_its_inputs_alone(blend: str):
    image, attention = noise(0, SIDE, SIDE), np.random.default_rng(1).random((4, 4), dtype=np.float32)
    image.flags.writeable = attention.flags.writeable = False
    settings = replace(DEFAULT, blend=blend)
    generator = np.random.default_rng(3)
    state = copy.deepcopy(generator.bit_generator.state)
    first = AttentionCutPaste(settings)(image, generator, attention)
    following = AttentionCutPaste(settings)(image, generator, attention)
    generator.bit_generator.state = state
    np.random.seed(0)
    again = AttentionCutPaste(settings)(image, generator, attention)
    assert first.label == again.label == 1
    assert np.array_equal(first.image, again.image) and np.array_equal(first.footprint, again.footprint)
    assert not np.array_equal(first.image, following.image)


def test_the_sum_of_the_attention_does_not_matter():
    attention = np.random.default_rng(1).random((4, 4), dtype=np.float32)
    pair = [
        AttentionCutPaste(DEFAULT)(noise(0, SIDE, SIDE), np.random.default_rng(2), scale * attention)
        for scale in (1, 1024)
    ]
    assert np.array_equal(pair[0].image, pair[1].image)

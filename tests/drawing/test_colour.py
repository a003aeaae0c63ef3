"""The colour scale: order, centre and edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.drawing.colour import ColourScale, colour_table


def luminance(rgb: np.ndarray) -> np.ndarray:
    """CIE relative luminance of sRGB, from the standard's own definition."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def test_luminance_rises_with_every_step() -> None:
    table = colour_table()
    assert table.shape == (256, 3)
    assert (np.diff(luminance(table)) > 0).all()
    assert luminance(table[0]) < 0.01
    assert luminance(table[-1]) > 0.85


def test_steps_are_perceptually_even() -> None:
    """CIE lightness L*, another model than the table is made with, must rise nearly in a straight line."""
    lightness = 116 * np.cbrt(luminance(colour_table()).clip(0.008856)) - 16
    straight = np.linspace(lightness[0], lightness[-1], 256)
    assert np.abs(lightness - straight).max() < 8


def test_high_is_hot_and_low_is_cold() -> None:
    cold, hot = colour_table()[64].astype(int), colour_table()[192].astype(int)
    assert cold[2] > cold[0]  # bluer than red
    assert hot[0] > hot[2] + 100


def test_threshold_sits_at_the_centre() -> None:
    scale = ColourScale(low=-2.0, threshold=7.0, high=8.0)
    assert scale.position([-2.0, 2.5, 7.0, 7.5, 8.0]).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert scale.position([-100.0, 100.0]).tolist() == [0.0, 1.0]
    assert np.array_equal(scale.colours([7.0])[0], colour_table()[128])
    assert np.array_equal(scale.colours([7.0]), ColourScale(0.0, 0.1, 9.0).colours([0.1]))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).map(sorted), st.data())
def test_position_never_falls_as_the_map_rises(ends: list[float], data: st.DataObject) -> None:
    scale = ColourScale(*ends)
    values = np.sort(data.draw(st.lists(st.floats(-2e6, 2e6, width=32), min_size=2, max_size=9)))
    position = scale.position(values)
    assert (np.diff(position) >= 0).all()
    assert position.min() >= 0
    assert position.max() <= 1


def test_a_scale_without_room_on_one_side_is_a_step() -> None:
    assert ColourScale(1.0, 1.0, 2.0).position([0.5, 1.0, 1.5]).tolist() == [0.0, 0.0, 0.75]
    assert ColourScale(0.0, 2.0, 2.0).position([1.0, 2.0, 2.5]).tolist() == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("ends", [(1.0, 0.5, 2.0), (0.0, 3.0, 2.0), (0.0, float("nan"), 1.0), (0.0, 1.0, float("inf"))])
def test_a_scale_out_of_order_is_refused(ends: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="low <= threshold <= high"):
        ColourScale(*ends)


def test_colours_keep_the_shape_and_the_map() -> None:
    anomaly_map = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    before = anomaly_map.copy()
    colours = ColourScale(0.0, 0.5, 1.0).colours(anomaly_map)
    assert colours.shape == (3, 4, 3)
    assert colours.dtype == np.uint8
    assert np.array_equal(anomaly_map, before)


def test_table_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        colour_table()[0] = 0

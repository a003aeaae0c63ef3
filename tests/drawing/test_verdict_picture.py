"""The picture that detect saves: the image where it was, an outline that is seen on any surface, and the words."""

import io

import numpy as np
import pytest
from PIL import Image

from flawmap.detect.detection import Detection
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.verdict_picture import (
    BADGES,
    HALO,
    NARROWEST_PX,
    OUTLINE,
    PAPER,
    as_png,
    caption,
    outline,
    verdict_picture,
)

SCALE = ColourScale(0.0, 1.0, 2.0)


def detection(anomaly_map: np.ndarray, score: float = 2.0, threshold: float | None = 1.5) -> Detection:
    return Detection(
        score, threshold is not None and score > threshold, threshold, anomaly_map, (), {"mean_logit": score}
    )


@pytest.mark.parametrize(("height", "width"), [(7, 5), (100, NARROWEST_PX), (64, 900), (2000, 10)])
def test_a_calm_image_lies_unchanged_at_the_top_in_the_middle(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = verdict_picture(image, detection(np.zeros((height, width), np.float32)), SCALE)
    assert picture.shape[1] == max(width, NARROWEST_PX) and picture.shape[0] > height
    left = (picture.shape[1] - width) // 2
    assert np.array_equal(picture[:height, left : left + width], image)
    assert (picture[:height, :left] == PAPER).all()


def test_the_outline_is_white_inside_and_black_around_on_any_surface() -> None:
    mask = np.zeros((9, 12), bool)
    mask[3:7, 4:9] = True
    for gray in (0, 128, 255):
        pixels = np.full((9, 12, 3), gray, np.uint8)
        outline(pixels, mask)
        assert (pixels[3, 4:9] == OUTLINE).all() and (pixels[2, 4:9] == HALO).all()
        assert (pixels[5, 6] == gray).all() and (pixels[0, 0] == gray).all()


def test_without_a_threshold_nothing_is_outlined() -> None:
    anomaly_map = np.zeros((50, 500), np.float32)
    anomaly_map[10:30, 100:300] = 2.0
    image = np.full((50, 500, 3), 90, np.uint8)
    picture = verdict_picture(image, detection(anomaly_map, threshold=None), SCALE)
    assert not (picture[:50] == OUTLINE).all(axis=-1).any()
    assert (verdict_picture(image, detection(anomaly_map), SCALE)[:50] == OUTLINE).all(axis=-1).any()


@pytest.mark.parametrize(
    ("score", "threshold", "word"), [(2.0, 1.5, "ANOMALY"), (1.5, 1.5, "ok"), (9.0, None, "no threshold")]
)
def test_the_badge_has_the_colour_of_the_verdict(score: float, threshold: float | None, word: str) -> None:
    strip = caption(detection(np.zeros((1, 1), np.float32), score, threshold), SCALE, 800)
    others = [colour for name, colour in BADGES.items() if name != word]
    assert (strip == BADGES[word]).all(axis=-1).sum() > 200
    assert not any((strip == colour).all(axis=-1).sum() > 20 for colour in others)


def test_the_legend_shows_the_scale_where_there_is_room() -> None:
    calm = detection(np.zeros((1, 1), np.float32))
    for colour in SCALE.colours(np.array([0.05, 1.95], np.float32)):
        near = np.abs(caption(calm, SCALE, 900).astype(int) - colour).max(axis=-1) < 12
        assert near.any()
    wide, narrow = caption(calm, SCALE, 900), caption(calm, SCALE, NARROWEST_PX)
    assert wide.shape[1] == 900 and narrow.shape[1] == NARROWEST_PX


def test_a_picture_packed_as_png_is_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(as_png(picture))) as opened:
        assert opened.format == "PNG" and np.array_equal(np.asarray(opened), picture)

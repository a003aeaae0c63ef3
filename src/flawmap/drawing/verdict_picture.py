"""The picture that ``flawmap detect`` saves of an image: map and outline over it, and below it the verdict in words."""

import io
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flawmap.drawing.colour import ColourScale
from flawmap.drawing.overlay import contour, dim_outside, overlay
from flawmap.metrics.defect_regions import above_threshold

NARROWEST_PX = 420  # of the picture: a narrower image is put in its middle, so that the words below have room
PAPER, INK, QUIET = (28, 31, 35), (240, 242, 244), (168, 175, 184)
RED, ORANGE, GREEN, GREY = (196, 43, 33), (176, 84, 0), (27, 110, 60), (92, 100, 110)
BADGES = {"ANOMALY": RED, "ok": GREEN, "no threshold": GREY, "UNKNOWN PRODUCT": ORANGE}
OUTLINE, HALO = (255, 255, 255), (0, 0, 0)  # one of the two stands out from any surface
PX_PER_LINE_WIDTH = 700  # of the longer side
FASTEST = 1  # of zlib's levels; its files are a fifth larger than those of the default, which takes four times as long


@runtime_checkable
class Verdict(Protocol):
    """What is drawn of a :class:`flawmap.Detection`, which has these attributes with the same meaning."""

    @property
    def score(self) -> float: ...  # noqa: D102

    @property
    def threshold(self) -> float | None: ...  # noqa: D102

    @property
    def is_anomalous(self) -> bool: ...  # noqa: D102

    @property
    def is_tolerated(self) -> bool: ...  # noqa: D102

    @property
    def product(self) -> str | None: ...  # noqa: D102

    @property
    def is_unknown_product(self) -> bool: ...  # noqa: D102

    @property
    def anomaly_map(self) -> NDArray[np.float32]: ...  # noqa: D102

    @property
    def inside(self) -> NDArray[np.bool_] | None: ...  # noqa: D102


def verdict_picture(
    image: NDArray[np.uint8], detection: Verdict, scale: ColourScale, min_area_px: float = 0.0
) -> NDArray[np.uint8]:
    """The overlay, the outline of the regions above the map's threshold, and a strip with verdict, score and legend.

    Args:
        image: uint8 (h, w, 3).
        detection: of this image.
        scale: the model's colour scale; its middle is the map's threshold.
        min_area_px: regions with fewer pixels have no outline.

    Returns:
        uint8 (h + strip, max(w, 420), 3); the image is at the top, in the middle.
    """
    pixels = marked(image, detection, scale, min_area_px)
    height, width = image.shape[:2]
    strip = caption(detection, scale, max(width, NARROWEST_PX))
    picture = np.empty((height + strip.shape[0], strip.shape[1], 3), np.uint8)
    picture[:height] = PAPER
    left = (picture.shape[1] - width) // 2
    picture[:height, left : left + width] = pixels
    picture[height:] = strip
    return picture


def marked(
    image: NDArray[np.uint8], detection: Verdict, scale: ColourScale, min_area_px: float = 0.0
) -> NDArray[np.uint8]:
    """The overlay and the outlines alone, uint8 (h, w, 3); arguments as in :func:`verdict_picture`."""
    pixels = overlay(image, detection.anomaly_map, scale)
    if detection.threshold is not None:
        outline(pixels, above_threshold(detection.anomaly_map, scale.threshold, min_area_px, detection.inside))
    return pixels if detection.inside is None else dim_outside(pixels, detection.inside)


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, 3) as a PNG file, packed fast rather than small."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=FASTEST)
    return file.getvalue()


def outline(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Draw the rim of a mask into an image: white inside, black around it.

    Args:
        pixels: uint8 (h, w, 3), is changed.
        mask: bool (h, w).
    """
    if not mask.any():
        return
    inside, outside = mask, ~mask
    for _ in range(1 + max(mask.shape) // PX_PER_LINE_WIDTH):
        for rest, colour in ((inside, OUTLINE), (outside, HALO)):
            pixels[contour(rest)] = colour
        inside, outside = inside & ~contour(inside), outside & ~contour(outside)


def verdict_of(detection: Verdict) -> str:
    """The verdict in a word or two: a key of :data:`BADGES`."""
    if detection.is_unknown_product:
        return "UNKNOWN PRODUCT"
    if detection.threshold is None:
        return "no threshold"
    return "ANOMALY" if detection.is_anomalous else "ok"


def score_words(detection: Verdict) -> str:
    """Score and threshold in words."""
    words = f"{detection.product}: " if detection.product else ""
    words += f"score {detection.score:.3f}"
    words += f", threshold {detection.threshold:.3f}" if detection.threshold is not None else ""
    return words + (", small regions only" if detection.is_tolerated else "")


def caption(detection: Verdict, scale: ColourScale, width_px: int) -> NDArray[np.uint8]:
    """The strip below the image, uint8 (h, width_px, 3): verdict, score and threshold, and the colours of the map."""
    size = max(13, width_px // 60)
    height, gap = 2 * size, size // 2
    strip = Image.new("RGB", (width_px, height), PAPER)
    draw, font = ImageDraw.Draw(strip), _font(size)
    word = verdict_of(detection)
    badge = draw.textlength(word, font) + 2 * gap
    draw.rectangle((gap, size // 4, gap + badge, height - size // 4), BADGES[word])
    draw.text((2 * gap, height // 2), word, (255, 255, 255), font, anchor="lm")
    words = score_words(detection)
    draw.text((badge + 2 * gap, height // 2), words, INK, font, anchor="lm")
    _draw_legend(strip, scale, size, left_px=int(badge + 3 * gap + draw.textlength(words, font)))
    return np.asarray(strip)


def _draw_legend(strip: Image.Image, scale: ColourScale, size: int, left_px: int) -> None:
    """The colour scale, from normal to anomalous, at the right end; left out where there is no room."""
    draw, font = ImageDraw.Draw(strip), _font(max(11, size * 4 // 5))
    texts = ("normal", "anomalous")
    widths = [int(draw.textlength(text, font)) for text in texts]
    bar, gap = 5 * size, size // 2
    left = strip.width - bar - sum(widths) - 3 * gap
    if left < left_px:
        return
    middle, at = strip.height // 2, left + widths[0] + gap
    draw.text((left, middle), texts[0], QUIET, font, anchor="lm")
    values = np.linspace(scale.low, scale.high, bar, dtype=np.float32)
    colours = np.repeat(scale.colours(values)[None], size * 2 // 3, axis=0)  # (h, bar, 3)
    strip.paste(Image.fromarray(colours), (at, middle - colours.shape[0] // 2))
    tick = at + bar // 2
    draw.line((tick, middle - size * 2 // 3, tick, middle + size * 2 // 3), INK)
    draw.text((at + bar + gap, middle), texts[1], QUIET, font, anchor="lm")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

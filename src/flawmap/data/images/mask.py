"""How a file becomes a mask: which of its pixels are anomalous, and what a person should know of it.

Black is background, and every other pixel is anomalous. Masks come in many forms, though; what can be decided is
decided, and what cannot is remarked:

- The shape is in the alpha channel if all visible pixels have one colour.
- Palettes are read by colour; in a palette of one colour the indices count.
- Without a black pixel the darkest or most frequent colour is the background.
- Values between black and the brightest are labels if they form areas. Otherwise they come from resizing, compression
  or soft brushes, and half of the brightest value divides background from defect.
- A picture is no mask.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import UnreadableImageError, decode_upright, read_file
from flawmap.data.images.orientation import exif_orientation

MAX_COLOURS = 64  # more are no labels: a background is not looked for among them
SMALL_LABEL = 32  # values below it are labels in any case; data sets for segmentation have no more classes
ONE_COLOUR = 16  # of 255: visible pixels that differ by less have one colour, even after compression
EXTREME = 8  # the lowest and the highest eighth of the values; a mask has most of its pixels there, a picture has not
Levels = NDArray[Any]  # (h, w): how far each pixel is from black


@dataclass(frozen=True)
class DecodedMask:
    """What a mask file says.

    Attributes:
        pixels: bool (h, w), True = anomalous; turned by the file's own EXIF orientation.
        orientation: that EXIF orientation, 1 to 8.
        remarks: what is odd about the file, in words.
    """

    pixels: NDArray[np.bool_]
    orientation: int
    remarks: tuple[str, ...]


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a mask as bool (h, w), True = anomalous.

    Raises:
        UnreadableImageError: as :func:`flawmap.data.images.files.read_image`.
    """
    return decode_mask(read_file(path), str(path)).pixels


def decode_mask(data: bytes, place: str = "") -> DecodedMask:
    """As :func:`read_mask`, with remarks, from the bytes of a file.

    Args:
        data: the whole file.
        place: where the file comes from, for errors.

    Raises:
        UnreadableImageError: as :func:`flawmap.data.images.files.read_image`; or a value is not finite.
    """
    image = decode_upright(data, place=place)
    levels, colours = _levels(image)
    if levels.dtype.kind == "f" and not np.isfinite(levels).all():
        problem = "the mask holds values that are not finite (NaN or infinity)"
        raise UnreadableImageError(problem, place, "replace these pixels by 0")
    pixels, remarks = _anomalous(levels, colours, _is_lossy(image, data))
    return DecodedMask(pixels, exif_orientation(data), (*remarks, *_remarks_on_area(pixels, has_remark=bool(remarks))))


def _anomalous(levels: Levels, colours: Levels, is_lossy: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The anomalous pixels, and remarks on how they were found.

    Args:
        levels: 0 = black.
        colours: a number for each colour.
        is_lossy: the file's compression changes values.
    """
    brightest, is_black = levels.max(), levels == 0
    if brightest == 0:
        return ~is_black, ()
    if is_lossy:
        return _by_half(levels, is_lossy)
    if not is_black.any():
        return _without_black(levels, colours)
    if (is_black | (levels == brightest)).all():
        return ~is_black, ()
    if _are_labels(levels):
        return ~is_black, _remark_on_void(levels)
    return _by_half(levels, is_lossy)


def _levels(image: Image.Image) -> tuple[Levels, Levels]:
    """How far each pixel is from black, (h, w), and a number for its colour, (h, w); the same array for gray."""
    if image.mode in ("P", "PA") and (indices := _labels_of_one_colour(image)) is not None:
        return indices, indices
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info
    ):
        premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgba = np.asarray((image.convert(premultiplied) if premultiplied else image).convert("RGBA"))
        rgb, alpha = rgba[..., :3], rgba[..., 3]
        if alpha.min() == alpha.max():
            return _levels_of_colours(rgb)
        visible = rgb[alpha >= alpha.max() / 2]
        if (visible.max(axis=0).astype(int) - visible.min(axis=0) < ONE_COLOUR).all():
            return alpha, alpha
        return _levels_of_colours((rgb.astype(np.uint16) * alpha[..., None] // 255).astype(np.uint8))  # over black
    if image.mode in ("P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"):  # black is not zero in some of these
        return _levels_of_colours(np.asarray(image.convert("RGB")))
    values = np.asarray(image)
    values = np.abs(values) if values.dtype.kind in "if" else values
    return values, values


def _labels_of_one_colour(image: Image.Image) -> Levels | None:
    """The indices of an image whose palette gives one colour to all of them, so that only the labels tell."""
    indices = np.asarray(image.getchannel(0))
    palette = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    known = palette[used[used < len(palette)]]
    return indices if len(np.unique(known, axis=0)) <= 1 else None


def _levels_of_colours(rgb: NDArray[np.uint8]) -> tuple[Levels, Levels]:
    levels = rgb.max(axis=2)
    if (levels == rgb.min(axis=2)).all():
        return levels, levels
    wide = rgb.astype(np.uint32)
    return levels, (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    """Whether the compression of the file changes values."""
    return (
        image.format in ("JPEG", "MPO")
        or (image.format == "WEBP" and b"VP8L" not in data[:1024])  # the chunk of lossless images
        or (image.format == "TIFF" and image.info.get("compression") == "jpeg")
    )


def _without_black(levels: Levels, colours: Levels) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """One colour is the background: a dark one beside bright ones, or else the most frequent one."""
    found, counts = np.unique(colours, return_counts=True)
    if len(found) == 1:
        return np.ones(levels.shape, bool), ()
    if len(found) > MAX_COLOURS:
        return _by_half(levels, is_lossy=False)
    darkest, brightest = levels.min(), levels.max()
    dark = levels == darkest
    if darkest <= brightest / 4 and (levels[~dark] >= brightest / 2).all():
        background, word = colours[dark][0], "darkest"
    else:
        background, word = found[counts.argmax()], "most frequent"
    pixels = colours != background
    named = f"value {background}" if colours is levels else f"colour {_rgb(int(background))}"
    remark = f"no pixel is black: the {word} {named} is taken for the background, {_percent(pixels)} are anomalous"
    return pixels, (remark,)


def _by_half(levels: Levels, is_lossy: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Half of the brightest value divides background from defect.

    It is remarked unless compression explains the values between, and another border would change little.
    """
    brightest = levels.max()
    is_extreme = (levels <= brightest / EXTREME) | (levels >= brightest * (1 - 1 / EXTREME))
    if is_extreme.mean() < 0.5:
        problem = f"{_percent(~is_extreme)} are neither near black nor near the brightest value, as in a picture"
        return np.zeros(levels.shape, bool), (f"this is no mask: {problem}; the place of the defect is unknown",)
    pixels = levels >= brightest / 2
    if is_lossy and brightest < SMALL_LABEL:
        remark = f"the largest value is {brightest} of 255, and lossy compression changes values by as much"
        return pixels, (f"{remark}: save the mask as PNG, with 255 for anomalous pixels",)
    wider, narrower = levels >= brightest / 4, levels >= brightest * 0.75
    if is_lossy and wider.sum() - narrower.sum() <= 0.1 * pixels.sum():
        return pixels, ()
    of = f"{brightest / 2:.4g} of {brightest:.4g}"
    remark = (
        f"{len(np.unique(levels))} different values: those of at least half the largest ({of}) count as anomalous, "
        f"{_percent(pixels)}; {_percent(levels > 0)} are not black"
    )
    return pixels, (remark,)


def _are_labels(levels: Levels) -> bool:
    """Whether the values between black and the brightest are labels of areas, not of edges or noise.

    A pixel of a soft edge or of noise lies between a darker and a brighter neighbour. A label has areas whose pixels
    are like all of their neighbours.
    """
    brightest = levels.max()
    if levels.dtype.kind != "f" and brightest < SMALL_LABEL:
        return True
    inner = (levels > 0) & (levels < brightest)
    lowest, highest = _of_neighbours(np.minimum, levels)[inner], _of_neighbours(np.maximum, levels)[inner]
    values, label, counts = np.unique(levels[inner], return_inverse=True, return_counts=True)
    is_between = (lowest < levels[inner]) & (highest > levels[inner])
    flat = np.bincount(label.ravel(), weights=lowest == highest, minlength=len(values))
    return bool(is_between.mean() <= 0.1 and (flat >= 0.1 * counts).mean() >= 0.9)


def _of_neighbours(extreme: np.ufunc, levels: Levels) -> Levels:
    """The least or largest value among a pixel and its eight neighbours, (h, w)."""
    padded = np.pad(levels, 1, mode="edge")
    rows = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    return extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _remark_on_void(levels: Levels) -> tuple[str, ...]:
    """A remark on 255 beside small labels, which some data sets give to pixels that do not count."""
    others = levels[(levels > 0) & (levels < 255)]
    if levels.max() != 255 or others.max() >= SMALL_LABEL:
        return ()
    remark = (
        f"255 ({_percent(levels == 255)}) beside labels up to {others.max()} ({_percent((levels > 0) & (levels < 255))}"
        ") counts as anomalous, too; if it marks a border to be ignored, as in Pascal VOC, set it to 0"
    )
    return (remark,)


def _remarks_on_area(pixels: NDArray[np.bool_], has_remark: bool) -> tuple[str, ...]:
    if not pixels.any():
        return () if has_remark else ("the mask of a defect is empty: the place of the defect is unknown",)
    if pixels.all():
        return ("every pixel is anomalous; in a mask, black is background",)
    if pixels.mean() > 0.5:
        return (f"{_percent(pixels)} are anomalous; if black marks the defect in this mask, invert it",)
    return ()


def _percent(pixels: NDArray[np.bool_]) -> str:
    return f"{100 * pixels.mean():.3g} % of the pixels"


def _rgb(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255

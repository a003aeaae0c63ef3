"""How a file becomes a mask: which of its pixels are anomalous, and what a person should know of it.

Black is background, and every other pixel is anomalous. Masks come in many forms, though; what can be decided is
decided, and what cannot is remarked:

- The shape is in the alpha channel if all visible pixels have one colour, or show a picture.
- Palettes are read by colour; where all entries in use have one colour the indices count.
- Without a black pixel the most frequent colour is the background.
- Values between the background and the highest value are labels if they form areas. Otherwise they come from resizing,
  compression or soft brushes, and half of the highest value divides background from defect.
- A picture is no mask.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import MAX_PIXELS, UnreadableImageError, decode_stored, read_file

MAX_COLOURS = 64  # more are no labels: a background is not looked for among them
SMALL_LABEL = 32  # values below it are labels in any case; data sets for segmentation have no more classes
ONE_COLOUR = 16  # of 255: visible pixels that differ by less have one colour, even after compression
EXTREME = 8  # in the lowest and the highest eighth of the values a mask has most of its pixels, and a picture has not
Shades = NDArray[Any]  # (h, w) or (h, w, 3)


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


def decode_mask(data: bytes, place: str = "", max_pixels: int = MAX_PIXELS) -> DecodedMask:
    """As :func:`read_mask`, with remarks, from the bytes of a file.

    Args:
        data: the whole file.
        place: where the file comes from, for errors.
        max_pixels: a mask with more is refused before it is decoded.

    Raises:
        UnreadableImageError: as :func:`flawmap.data.images.files.read_image`; or a value is not finite.
    """
    stored = decode_stored(data, max_pixels, place)
    image, found = stored.image, stored.remarks
    shades, remarks = _shades(image)
    if shades.dtype.kind == "f" and not np.isfinite(shades).all():
        problem = "the mask holds values that are not finite (NaN or infinity)"
        raise UnreadableImageError(problem, place, "replace these pixels by 0")
    pixels, more = _anomalous(shades, _is_lossy(image, data))
    found += (*remarks, *more, *_remarks_on_void(image, pixels), *_remarks_on_area(pixels, has_remark=bool(more)))
    return DecodedMask(pixels, stored.orientation, found)


def _anomalous(shades: Shades, is_lossy: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The anomalous pixels, and remarks on how they were found.

    Args:
        shades: gray (h, w) or colours (h, w, 3); 0 = black.
        is_lossy: the file's compression changes values.
    """
    levels, remarks = _largest(shades), ()
    if not levels.any():
        return np.zeros(levels.shape, bool), ()
    if not (levels <= levels.max() / EXTREME).any():
        levels, remarks = _distance_from_background(shades, levels, is_lossy)
    is_background, highest = levels == 0, levels.max()
    if highest == 0:
        return np.ones(levels.shape, bool), remarks
    has_two_values = (is_background | (levels == highest)).all()
    if not is_lossy and is_background.any() and (has_two_values or _are_labels(levels)):
        return ~is_background, remarks
    pixels, more = _by_half(levels, is_lossy)
    return pixels, (*remarks, *more)


def _shades(image: Image.Image) -> tuple[Shades, tuple[str, ...]]:
    """Gray values (h, w) or colours (h, w, 3) in which black is background, and remarks."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info
    ):
        return _shades_of_alpha(image)
    if image.mode == "P" and (indices := _labels_of_one_colour(image)) is not None:
        return indices, ()
    if image.mode in ("P", "RGB", "CMYK", "YCbCr", "LAB"):  # black is not zero in some of these
        return _gray_if_gray(np.asarray(image.convert("RGB"))), ()
    values = np.asarray(image)
    if values.dtype.kind not in "if" or not (values < 0).any():
        return values, ()
    return np.abs(values), (f"negative values, down to {values.min():.6g}, count as anomalous, too",)


def _shades_of_alpha(image: Image.Image) -> tuple[Shades, tuple[str, ...]]:
    """The alpha channel if the shape is in it, or else the colours over black."""
    premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    rgba = np.asarray((image.convert(premultiplied) if premultiplied else image).convert("RGBA"))
    rgb, alpha = rgba[..., :3], rgba[..., 3]
    if alpha.min() == alpha.max():
        return _gray_if_gray(rgb), ()
    visible = rgb[alpha >= alpha.max() / 2].astype(int)  # (n, 3)
    if (visible.max(axis=0) - visible.min(axis=0) < ONE_COLOUR).all():
        return alpha, ()
    if _are_of_a_picture(visible.max(axis=1)):
        return alpha, ("the visible pixels show a picture; its alpha channel is taken for the mask",)
    return _gray_if_gray((rgb.astype(np.uint16) * alpha[..., None] // 255).astype(np.uint8)), ()


def _labels_of_one_colour(image: Image.Image) -> Shades | None:
    """The indices of an image whose palette gives one colour to several of them, so that only the labels tell."""
    indices = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.flatnonzero(image.histogram())
    known = palette[used[used < len(palette)]]
    return indices if len(used) > 1 and len(np.unique(known, axis=0)) <= 1 else None


def _gray_if_gray(rgb: NDArray[np.uint8]) -> Shades:
    """One channel of colours whose three channels are equal."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return red if np.array_equal(red, green) and np.array_equal(red, blue) else rgb


def _largest(shades: Shades) -> Shades:
    """Of the three channels, (h, w); gray as it is. Much faster than a maximum over so short an axis."""
    if shades.ndim == 2:
        return shades
    return np.maximum(np.maximum(shades[..., 0], shades[..., 1]), shades[..., 2])


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    """Whether the compression of the file changes values."""
    return (
        image.format in ("JPEG", "MPO")
        or (image.format == "WEBP" and b"VP8L" not in data[:1024])  # the chunk of lossless images
        or (image.format == "TIFF" and image.info.get("compression") == "jpeg")
    )


def _distance_from_background(shades: Shades, levels: Shades, is_lossy: bool) -> tuple[Shades, tuple[str, ...]]:
    """How far each pixel is from the most frequent colour, (h, w), in a mask without black; and a remark.

    0 everywhere if there is one colour only. Among many colours one that is not half of the mask is no background: then
    the levels, how far pixels are from black, are returned as they are.
    """
    background, num_colours = _most_frequent(shades)
    distance = _largest(np.abs(shades.astype(np.int16 if shades.dtype == np.uint8 else np.float64) - background))
    if distance.max() < ONE_COLOUR if is_lossy else not distance.any():
        return np.zeros(levels.shape), ()
    if num_colours > MAX_COLOURS and (distance <= distance.max() / EXTREME).mean() < 0.5:
        return levels, ()
    named = f"value {background.item():.6g}" if shades.ndim == 2 else f"colour ({', '.join(map(str, background))})"
    return distance, (f"no pixel is black: the most frequent {named} is taken for the background",)


def _most_frequent(shades: Shades) -> tuple[NDArray[Any], int]:
    """The most frequent gray value () or colour (3), and how many different ones there are."""
    if shades.ndim == 2:
        values, counts = np.unique(shades, return_counts=True)
        return np.asarray(values[counts.argmax()]), len(values)
    red, green, blue = (shades[..., channel].astype(np.int64) for channel in range(3))
    counts = np.bincount((red << 16 | green << 8 | blue).ravel())  # faster than sorting
    number = int(counts.argmax())
    return np.array([number >> 16, number >> 8 & 255, number & 255], np.uint8), int(np.count_nonzero(counts))


def _by_half(levels: Shades, is_lossy: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Half of the highest level divides background from defect.

    It is remarked unless compression explains the values between, and another border would change little.
    """
    highest = levels.max()
    if _are_of_a_picture(levels):
        remark = "this is no mask: most values are neither near black nor near the brightest one, as in a picture"
        return np.zeros(levels.shape, bool), (f"{remark}; the place of the defect is unknown",)
    pixels = levels >= highest / 2
    if is_lossy and highest < SMALL_LABEL:
        remark = f"the largest value is {highest:.4g} of 255, and lossy compression changes values by as much"
        return pixels, (f"{remark}: save the mask as PNG, with 255 for anomalous pixels",)
    wider, narrower = levels >= highest / 4, levels >= highest * 0.75
    if is_lossy and wider.sum() - narrower.sum() <= 0.1 * pixels.sum():
        return pixels, ()
    remark = (
        f"{len(np.unique(levels))} different values: those of at least half the largest ({highest / 2:.4g} of "
        f"{highest:.4g}) count as anomalous, {_percent(pixels)}; {_percent(levels > 0)} are above 0"
    )
    return pixels, (remark,)


def _are_of_a_picture(levels: Shades) -> bool:
    """Whether most values are neither near black nor near the brightest one."""
    is_dark, is_bright = levels <= levels.max() / EXTREME, levels >= levels.max() * (1 - 1 / EXTREME)
    return bool((is_dark | is_bright).mean() < 0.5)


def _are_labels(levels: Shades) -> bool:
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


def _of_neighbours(extreme: np.ufunc, levels: Shades) -> Shades:
    """The least or largest value among a pixel and its eight neighbours, (h, w)."""
    padded = np.pad(levels, 1, mode="edge")
    rows = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    return extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _remarks_on_void(image: Image.Image, pixels: NDArray[np.bool_]) -> tuple[str, ...]:
    """A remark on 255 beside small labels, which some data sets give to pixels that do not count."""
    labels = np.asarray(image)
    if image.mode not in ("L", "P") or labels.max() < 255 or not np.array_equal(labels > 0, pixels):
        return ()
    classes = (labels > 0) & (labels < 255)
    if not classes.any() or (largest := labels[classes].max()) >= SMALL_LABEL:
        return ()
    remark = (
        f"255 ({_percent(labels == 255)}) beside labels up to {largest} ({_percent(classes)}) counts as anomalous, "
        "too; if it marks a border to be ignored, as in Pascal VOC, set it to 0"
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

"""The region of interest (ROI): the part of an image that counts. A PNG mask, or polygons and rectangles in JSON.

Coordinates are shares of the image, or pixels of an image of a stated size, so that an image of another size has the
same region. How cameras have regions of their own: :mod:`flawmap.data.rois`.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.annotations.shapes import Box, Polygons, Shape
from flawmap.errors import UserError

OUTSIDE_COLOUR = (124, 116, 104)  # the encoder's mean colour, 0 after normalisation
MIN_COVER = 0.5  # a patch is inside if the region covers this share of it
SAMPLES = 16  # points along a patch's side, by which its cover is measured
ASPECT_TOLERANCE = 0.02  # by which an image's width over height may differ from that of the region's image
MAX_GRAY_SHARE = 0.05  # of a mask's pixels that are neither dark nor bright; a picture has more
FIELDS = ("image_size_px", "inside", "outside", "mask_png")
SETTING = "data.roi"
SHAPES = ("polygon", "rectangle")
EXAMPLE = '{"image_size_px": [640, 480], "inside": [{"rectangle": [100, 50, 540, 430]}]}'


@dataclass(frozen=True, eq=False)
class RegionOfInterest:
    """The part of an image that counts: what lies in a shape of ``inside`` and in none of ``outside``.

    Attributes:
        size_px: width and height of the image that the coordinates are of; (1, 1) where they are shares of the image.
        inside: shapes; empty for the whole image.
        outside: shapes that are cut out of it.
        mask: bool (height, width) of ``size_px``, True inside, instead of shapes.
        text: the same as JSON in one line; equal texts are equal regions.
        camera: whose images have this region; None where it is that of all, or of all others.
    """

    size_px: tuple[float, float]
    inside: tuple[Shape, ...]
    outside: tuple[Shape, ...]
    mask: NDArray[np.bool_] | None
    text: str
    camera: str | None = None

    def at(self, height_px: int, width_px: int) -> NDArray[np.bool_]:
        """Of an image of this size, bool (height, width): True where a pixel's centre lies inside."""
        return _drawn(self, height_px, width_px)

    def patches(self, grid: tuple[int, int]) -> NDArray[np.bool_]:
        """Which patches of an image's grid count, bool (rows, columns): those of which half or more lies inside.

        Raises:
            UserError: none does.
        """
        inside = _patches(self, *grid).copy()  # for torch, which takes no array that cannot be written to
        if not inside.any():
            problem = f"{self.name} is too small: of {grid[0]} x {grid[1]} patches, it covers no half of any"
            remedy = "draw a larger region, or cut the images to the part that counts and train on those"
            raise UserError(problem, SETTING, remedy)
        return inside

    def with_grey_outside(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (h, w, 3) with one colour outside, so that nothing there can change what is found inside."""
        return np.where(self.at(*image.shape[:2])[..., None], image, np.array(OUTSIDE_COLOUR, np.uint8))

    def only_inside(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (h, w) whose pixels outside have the lowest value of those inside."""
        inside = self.at(*anomaly_map.shape)
        return np.where(inside, anomaly_map, anomaly_map[inside].min(initial=anomaly_map.max()))

    @property
    def name(self) -> str:
        """For errors."""
        return "the region of interest" + (f" of camera {self.camera}" if self.camera else "")

    @property
    def share(self) -> float:
        """Of the image that lies inside, measured at 512 x 512 points."""
        return float(self.at(512, 512).mean())

    def fits(self, height_px: int, width_px: int) -> bool:
        """Whether an image has the shape of the image that the region was drawn on; any does for shares."""
        width, height = self.size_px
        return self.size_px == (1, 1) or abs(width_px / height_px * height / width - 1) <= ASPECT_TOLERANCE


@lru_cache(maxsize=8)
def _drawn(roi: RegionOfInterest, height_px: int, width_px: int) -> NDArray[np.bool_]:
    if roi.mask is not None:
        rows, columns = (
            (np.arange(length) + 0.5) * of_mask / length
            for length, of_mask in zip((height_px, width_px), roi.mask.shape, strict=True)
        )
        return roi.mask[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
    scale = width_px / roi.size_px[0], height_px / roi.size_px[1]
    pixels, cut = np.full((height_px, width_px), not roi.inside), np.zeros((height_px, width_px), bool)
    for shapes, drawn in ((roi.inside, pixels), (roi.outside, cut)):
        for shape in shapes:
            _scaled(shape, *scale).draw(drawn)
    inside = pixels & ~cut
    inside.flags.writeable = False  # it is shared
    return inside


@lru_cache(maxsize=64)  # training and a line ask for the grids of few cameras again and again
def _patches(roi: RegionOfInterest, rows: int, columns: int) -> NDArray[np.bool_]:
    points = roi.at(rows * SAMPLES, columns * SAMPLES).reshape(rows, SAMPLES, columns, SAMPLES)
    inside = points.mean(axis=(1, 3)) >= MIN_COVER
    inside.flags.writeable = False  # it is shared
    return inside


def _scaled(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Box):
        left, top, width, height = shape.xywh_px
        return Box((left * x, top * y, width * x, height * y))
    assert isinstance(shape, Polygons)
    return Polygons(tuple(tuple((a * x, b * y) for a, b in outline) for outline in shape.outlines))


# ---- from JSON


def roi_of_content(content: Mapping[str, Any], place: str = SETTING, camera: str | None = None) -> RegionOfInterest:
    """The region that a JSON object says.

    Args:
        content: ``inside`` and ``outside``, lists of shapes: ``{"polygon": [[x, y], ...]}`` or
            ``{"rectangle": [left, top, right, bottom]}``. With ``image_size_px``, [width, height], coordinates are
            pixels of an image of that size, else shares from 0 to 1. Instead of shapes, ``mask_png`` in a recipe.
        place: where it comes from, for errors.
        camera: whose images have it; None: all.

    Raises:
        UserError: unknown fields, a shape that covers nothing or leaves the image, or nothing is covered as a whole.
    """
    refuse_unknown_fields(content, FIELDS, place)
    if "mask_png" in content:
        return roi_of_mask(_unpacked(content["mask_png"], place), camera)
    size_px = _size(content.get("image_size_px"), place)
    shapes = {
        name: tuple(
            _shape(item, f"{name}[{number}]", size_px, place) for number, item in enumerate(_list(content, name, place))
        )
        for name in ("inside", "outside")
    }
    if not any(shapes.values()):
        problem = "the region of interest has no shapes"
        raise UserError(problem, place, f"add some to inside or to outside: {EXAMPLE}")
    of_shapes = shapes["inside"], shapes["outside"]
    roi = RegionOfInterest(size_px or (1.0, 1.0), *of_shapes, None, json.dumps(content), camera)
    if not roi.at(512, 512).any():
        problem = "the region of interest covers nothing"
        problem += ": its shapes in outside hide all that is inside" if roi.outside else ", it is too small"
        raise UserError(
            problem, place, "make the shapes of inside larger" + " or those of outside smaller" * bool(roi.outside)
        )
    return roi


def refuse_unknown_fields(content: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    """Raises: UserError: there is another field; with the one that was probably meant."""
    for name in content:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            shown = ", ".join(field for field in known if field != "mask_png")
            raise UserError(f"unknown field {name!r} in the region of interest{hint}", place, f"known are: {shown}")


def _size(value: Any, place: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not (_are_numbers(value, 2) and min(value) >= 1):
        problem = f"image_size_px is {json.dumps(value)}, must be [width, height] in pixels"
        raise UserError(problem, place, "give the size of the image that the region was drawn on")
    return float(value[0]), float(value[1])


def _list(content: Mapping[str, Any], name: str, place: str) -> Sequence[Any]:
    value = content.get(name, [])
    if not isinstance(value, list):
        raise UserError(f"{name} must be a list of shapes", place, f"write it like {EXAMPLE}")
    return value


def _shape(item: Any, name: str, size_px: tuple[float, float] | None, place: str) -> Shape:
    """A shape, whose coordinates lie in the image and which covers some of it."""
    if not isinstance(item, dict) or not item:
        problem = f"{name} must be an object with one of {' and '.join(SHAPES)}"
        raise UserError(problem, place, f"write it like {EXAMPLE}")
    refuse_unknown_fields(item, SHAPES, place)
    if len(item) != 1:
        raise UserError(f"{name} has a polygon and a rectangle", place, "make two shapes of them")
    ((kind, value),) = item.items()
    if kind == "rectangle":
        if not _are_numbers(value, 4) or value[0] >= value[2] or value[1] >= value[3]:
            problem = (
                f"{name} is {_shown(value)}, must be [left, top, right, bottom] with left < right and top < bottom"
            )
            raise UserError(problem, place, "put the four numbers in this order")
        left, top, right, bottom = map(float, value)
        corners = ((left, top), (right, bottom))
        shape: Shape = Box((left, top, right - left, bottom - top))
    else:
        if not isinstance(value, list) or not all(_are_numbers(corner, 2) for corner in value):
            raise UserError(f"{name} must be a list of corners [x, y]", place, '{"polygon": [[x, y], [x, y], [x, y]]}')
        corners = tuple((float(x), float(y)) for x, y in value)
        if len(set(corners)) < 3:
            problem = f"{name} has {len(set(corners))} different corners; a polygon needs 3 or more"
            raise UserError(problem, place, "add corners; a line covers nothing")
        if _area(corners) == 0:
            raise UserError(f"{name} covers no area: its corners lie on a line", place, "move a corner off the line")
        shape = Polygons((corners,))
    _refuse_beyond(corners, name, size_px, place)
    return shape


def _refuse_beyond(
    corners: Sequence[tuple[float, float]], name: str, size_px: tuple[float, float] | None, place: str
) -> None:
    width, height = size_px or (1.0, 1.0)
    beyond = [(x, y) for x, y in corners if not (0 <= x <= width and 0 <= y <= height)]
    if not beyond:
        return
    x, y = beyond[0]
    if size_px is None:
        problem = f"{name} has the corner ({x:g}, {y:g}); without image_size_px, coordinates are shares from 0 to 1"
        remedy = 'if these are pixels, say of which image: "image_size_px": [width, height]'
    else:
        problem = f"{name} has the corner ({x:g}, {y:g}), outside of the image of {width:g} x {height:g} px"
        remedy = "move the corner into the image, or correct image_size_px, which is [width, height]"
    raise UserError(problem, place, remedy)


def _area(corners: Sequence[tuple[float, float]]) -> float:
    """Of the hull's extent: 0 where all corners lie on a line."""
    (x0, y0), *others = corners
    directions = [(x - x0, y - y0) for x, y in others]
    longest = max(directions, key=lambda d: math.hypot(*d))
    return max(abs(longest[0] * y - longest[1] * x) for x, y in directions)


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


# ---- masks


def mask_of(image: NDArray[np.uint8], place: str) -> NDArray[np.bool_]:
    """Which pixels of a mask image (h, w, 3) are white.

    Raises:
        UserError: none is, or this is a picture.
    """
    gray = image.mean(axis=2)
    mask = gray > 127
    if not mask.any():
        problem = f"the region of interest is empty: no pixel of the mask is white (brightest: {gray.max():.0f} of 255)"
        raise UserError(problem, place, "paint what counts white (255), and the rest black (0)")
    if (between := float(((gray > 32) & (gray < 223)).mean())) > MAX_GRAY_SHARE:
        problem = f"{between:.0%} of the pixels are neither black nor white, so this is a picture, not a mask"
        raise UserError(problem, place, "give an image with white where the part counts and black elsewhere")
    return mask


def roi_of_mask(mask: NDArray[np.bool_], camera: str | None = None) -> RegionOfInterest:
    """The region that is True in a mask (h, w)."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", optimize=True)
    packed = base64.b64encode(file.getvalue()).decode("ascii")
    size_px, text = (float(mask.shape[1]), float(mask.shape[0])), json.dumps({"mask_png": packed})
    return RegionOfInterest(size_px, (), (), mask, text, camera)


def _unpacked(packed: Any, place: str) -> NDArray[np.bool_]:
    try:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(packed, validate=True))).convert("1"))
    except Exception as error:  # of base64, and whatever Pillow raises
        remedy = "give the mask's file itself: --roi FILE"
        raise UserError("the mask of the region of interest is damaged", place, remedy) from error

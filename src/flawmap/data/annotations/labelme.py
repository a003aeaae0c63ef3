"""labelme: a JSON file beside each image, with polygons, rectangles, circles and masks. The image in it is not read."""

import base64
import binascii
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat, Mark
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.json_content import EXPORT_AGAIN, read_content
from flawmap.data.annotations.recognise import LABELME
from flawmap.data.annotations.shapes import Bitmap, Box, Polygons, Shape
from flawmap.data.images.files import decode_upright
from flawmap.errors import UserError

CIRCLE_CORNERS = 72
WITHOUT_AREA = ("point", "points", "line", "linestrip")


class _Shape(msgspec.Struct):
    label: str | int | None = None
    points: list[list[float]] = []
    shape_type: str | None = None  # older versions knew polygons only
    mask: str | None = None  # a PNG file in base 64


class _Content(msgspec.Struct):
    shapes: list[_Shape]
    image_path: str | None = msgspec.field(default=None, name="imagePath")
    width: float | None = msgspec.field(default=None, name="imageWidth")
    height: float | None = msgspec.field(default=None, name="imageHeight")


class Labelme(AnnotationFormat):
    """Annotations of labelme, AnyLabeling and X-AnyLabeling."""

    takes = (LABELME,)

    def read(self, files: Sequence[Path], images: ImageNames) -> list[AnnotatedImage]:
        """One image for each file."""
        annotated = (_read_file(file, images) for file in files)
        return [image for image in annotated if image is not None]


def _read_file(file: Path, images: ImageNames) -> AnnotatedImage | None:
    content = read_content(file, _Content, LABELME.name)
    remedy = "put it beside the file, or give the folder that holds both"
    path = images.find_any([content.image_path or "", file.stem], file, remedy)
    if path is None:
        return None
    marks = tuple(_mark(shape, f"{file}: shapes[{number}]") for number, shape in enumerate(content.shapes))
    width, height = content.width, content.height
    return AnnotatedImage(path, file, marks, (round(width), round(height)) if width and height else None)


def _mark(shape: _Shape, place: str) -> Mark:
    kind = "" if shape.label is None else str(shape.label)
    if not all(len(point) == 2 and all(map(math.isfinite, point)) for point in shape.points):
        raise UserError("a point is not two numbers", place, EXPORT_AGAIN)
    points = [(point[0], point[1]) for point in shape.points]
    return Mark(kind, _area(shape, points, place), place)


def _area(shape: _Shape, points: list[tuple[float, float]], place: str) -> Shape | None:
    name = shape.shape_type or "polygon"
    if name in WITHOUT_AREA:
        return None
    if name == "polygon":
        return Polygons((tuple(points),)) if len(points) >= 3 else None
    if name not in ("rectangle", "circle", "mask"):
        known = "polygon, rectangle, circle and mask are"
        raise UserError(f"a shape of the type {name!r} is not read ({known})", place, "draw it as a polygon")
    if name == "rectangle" and len(points) == 4:  # some versions keep all corners
        return Polygons((tuple(points),))
    if len(points) != 2:
        raise UserError(f"a {name} has two points, and this one {len(points)}", place, EXPORT_AGAIN)
    (x1, y1), (x2, y2) = points
    if name == "circle":  # its centre, and a point on it
        radius = math.hypot(x2 - x1, y2 - y1)
        angles = np.arange(CIRCLE_CORNERS) * (2 * math.pi / CIRCLE_CORNERS)
        corners = zip((x1 + radius * np.cos(angles)).tolist(), (y1 + radius * np.sin(angles)).tolist(), strict=True)
        return Polygons((tuple(corners),)) if radius > 0 else None
    left, top, right, bottom = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if name == "rectangle":
        return Box((left, top, right - left, bottom - top)) if right > left and bottom > top else None
    return _mask(shape.mask or "", round(left), round(top), place)


def _mask(text: str, left: int, top: int, place: str) -> Bitmap | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"the mask is not in base 64 ({error})", place, EXPORT_AGAIN) from error
    pixels = np.asarray(decode_upright(data, place=place).convert("L")) > 0
    return Bitmap(pixels, left, top) if pixels.any() else None

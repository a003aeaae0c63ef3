"""COCO: one JSON file with images, categories, and annotations that have a box (x, y, width, height) and outlines.

An outline is a list of polygons (x1, y1, x2, y2, ...), or run lengths down the columns, as numbers or packed as text.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat, Mark
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.json_content import EXPORT_AGAIN, read_content
from flawmap.data.annotations.recognise import COCO
from flawmap.data.annotations.shapes import Box, Polygons, RunLengths, Shape
from flawmap.data.annotations.split_names import split_folder, split_named
from flawmap.errors import UserError

BOX_TOLERANCE = 0.5  # of intersection over union, between a box and its outline: tools round and cut off differently
MAX_PIXELS = 170_000_000  # of a packed mask, as of an image

Id = int | str


class _Image(msgspec.Struct):
    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None


class _RunLengths(msgspec.Struct):
    size: tuple[int, int]  # height, width
    counts: list[int] | str


class _Annotation(msgspec.Struct):
    image_id: Id
    category_id: Id | None = None
    bbox: list[float] | None = None
    segmentation: list[list[float]] | _RunLengths | None = None
    area: float | None = None


class _Category(msgspec.Struct):
    id: Id
    name: str | int


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


class Coco(AnnotationFormat):
    """Annotations of COCO and of the many tools that write it."""

    takes = (COCO,)

    def read(self, files: Sequence[Path], images: ImageNames) -> list[AnnotatedImage]:
        """Images of all files, in the order of their lists; also those without annotations."""
        return [image for file in files for image in _read_file(file, images)]


def _read_file(file: Path, images: ImageNames) -> list[AnnotatedImage]:
    content = read_content(file, _Content, COCO.name)
    names = {category.id: str(category.name) for category in content.categories}
    marks: dict[Id, list[Mark]] = {image.id: [] for image in content.images}
    if len(marks) < len(content.images):
        raise UserError("two images have the same id", str(file), EXPORT_AGAIN)
    for number, annotation in enumerate(content.annotations):
        place = f"{file}: annotations[{number}]"
        if annotation.image_id not in marks:
            raise UserError(f"there is no image with the id {annotation.image_id!r}", place, EXPORT_AGAIN)
        marks[annotation.image_id].append(_mark(annotation, names, place))
    folder = split_folder(file.stem)  # instances_train2017.json is about the images in train2017
    found, missing = [], []
    for image in content.images:
        name = image.file_name if folder is None or "/" in image.file_name else f"{folder}/{image.file_name}"
        path = images.find(name, file)
        if path is None:
            missing.append(image.file_name)
            continue
        size = _size(image, marks[image.id], file)
        found.append(AnnotatedImage(path, file, tuple(marks[image.id]), size, split=split_named(folder)))
    if missing and images.are_complete:
        problem = f"{len(missing)} of {len(content.images)} images are not there, first: {missing[0]}"
        raise UserError(problem, str(file), "put them beside the file, or give the folder that holds both")
    return found


def _size(image: _Image, marks: Sequence[Mark], file: Path) -> tuple[int, int] | None:
    """(width, height) of an image as the file has it; the masks of its marks have the same."""
    sizes = {(mark.shape.width, mark.shape.height) for mark in marks if isinstance(mark.shape, RunLengths)}
    if image.width and image.height:
        sizes.add((round(image.width), round(image.height)))
    if len(sizes) > 1:
        problem = f"{image.file_name} has marks for {' and for '.join(f'{w} x {h} px' for w, h in sorted(sizes))}"
        raise UserError(problem, str(file), EXPORT_AGAIN)
    return sizes.pop() if sizes else None


def _mark(annotation: _Annotation, names: Mapping[Id, str], place: str) -> Mark:
    category = annotation.category_id
    if category is not None and category not in names:
        raise UserError(f"there is no category with the id {category!r}", place, EXPORT_AGAIN)
    if category is None and not annotation.bbox and not annotation.segmentation:
        raise UserError("an annotation has no category, box or outline", place, "leave it out: it marks nothing")
    kind = "" if category is None else names[category]
    box, outline = _box(annotation, place), _outline(annotation.segmentation, place)
    if box is not None and outline is not None and _overlap(box.xywh_px, outline.bounds()) < BOX_TOLERANCE:
        problem = f"the box {_numbers(box.xywh_px)} is not around its outline, {_numbers(outline.bounds())}"
        raise UserError(problem, place, "a box is x, y, width and height: correct the box, or leave it out")
    return Mark(kind, outline or box, place)


def _box(annotation: _Annotation, place: str) -> Box | None:
    values = annotation.bbox or []
    if not values:
        return None
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise UserError(f"{values} is not a box", place, "a box is x, y, width and height in pixels")
    x, y, width, height = values
    if width <= 0 or height <= 0:
        return None
    area, as_corners = annotation.area or 0, (width - x) * (height - y)
    if area > 0 and not annotation.segmentation and _is_close(as_corners, area) and not _is_close(width * height, area):
        problem = f"the box {_numbers((x, y, width, height))} has the area {area:g} only if it is two corners"
        raise UserError(problem, place, "write x, y, width and height")
    return Box((x, y, width, height))


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=0.01)


def _outline(segmentation: list[list[float]] | _RunLengths | None, place: str) -> Shape | None:
    if isinstance(segmentation, _RunLengths):
        shape = _run_lengths(segmentation, place)
        return shape if sum(shape.counts[1::2]) else None
    outlines = []
    for values in segmentation or []:
        if len(values) % 2 or not all(math.isfinite(value) for value in values):
            raise UserError(f"a polygon of {len(values)} numbers", place, "a polygon is x1, y1, x2, y2, ...")
        if len(values) >= 6:
            outlines.append(tuple(zip(values[::2], values[1::2], strict=True)))
    return Polygons(tuple(outlines)) if outlines else None


def _run_lengths(packed: _RunLengths, place: str) -> RunLengths:
    height, width = packed.size
    counts = packed.counts if isinstance(packed.counts, list) else _unpacked(packed.counts, place)
    if min(height, width) < 1 or height * width > MAX_PIXELS or any(count < 0 for count in counts):
        raise UserError("the run lengths are damaged", place, EXPORT_AGAIN)
    if sum(counts) != height * width:
        problem = f"the run lengths cover {sum(counts)} pixels, and the mask has {width} x {height}"
        raise UserError(problem, place, EXPORT_AGAIN)
    return RunLengths(tuple(counts), height, width)


def _unpacked(text: str, place: str) -> list[int]:
    """Run lengths from text as pycocotools packs them: numbers in digits of base 32, from the third on as differences.

    Each character holds five bits, the lowest first, and in its sixth bit whether more follow; the highest bit of the
    last one is the sign.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UserError("the packed run lengths are damaged", place, EXPORT_AGAIN)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise UserError("the packed run lengths end within a number", place, EXPORT_AGAIN)
    return counts


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    sides = [
        max(0.0, min(first[i] + first[i + 2], second[i] + second[i + 2]) - max(first[i], second[i])) for i in (0, 1)
    ]
    common = sides[0] * sides[1]
    union = first[2] * first[3] + second[2] * second[3] - common
    return common / union if union > 0 else 1.0


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"

"""Pascal VOC: one XML file per image with boxes, and masks of classes in ``SegmentationClass``.

A box has its corners at the centres of its first and last pixel, counted from 1: xmin 1 and xmax 3 are three pixels.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat, Mark
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.json_content import EXPORT_AGAIN
from flawmap.data.annotations.recognise import VOC
from flawmap.data.annotations.shapes import Bitmap, Box
from flawmap.data.annotations.split_names import WORDS
from flawmap.data.images.files import decode_upright, read_file
from flawmap.errors import UserError

MAX_BYTES, MAX_DEPTH = 20_000_000, 50
MASKS, LISTS = "SegmentationClass", Path("ImageSets") / "Main"
VOID = 255  # the outline of objects, and what belongs to no class
REMEDY = "put it into the folder JPEGImages, or give the folder that holds both"


class PascalVoc(AnnotationFormat):
    """Annotations of Pascal VOC, LabelImg and the many tools that write them."""

    takes = (VOC,)

    def read(self, files: Sequence[Path], images: ImageNames) -> list[AnnotatedImage]:
        """One image for each file, and for each mask without one. A mask counts instead of the boxes of its image."""
        folders = sorted({file.parent.parent for file in files})
        splits = {stem: split for folder in folders for stem, split in _splits(folder / LISTS).items()}
        annotated = [_read_file(file, images, splits) for file in files]
        with_file = {(file.parent.parent, file.stem) for file in files}
        for mask in (mask for folder in folders for mask in sorted((folder / MASKS).glob("*.png"))):
            if (mask.parent.parent, mask.stem) not in with_file:
                path = images.find_any([mask.stem], mask, REMEDY)
                classes = _classes(mask)
                marks = tuple(_marks_of_mask(classes, mask, []))
                size = (classes.shape[1], classes.shape[0])
                annotated.append(path and AnnotatedImage(path, mask, marks, size, split=splits.get(mask.stem)))
        return [image for image in annotated if image is not None]


def _read_file(file: Path, images: ImageNames, splits: dict[str, str]) -> AnnotatedImage | None:
    root = _parsed(file)
    path = images.find_any([_text(root, "filename"), file.stem], file, REMEDY)
    if path is None:
        return None
    marks = [_mark(entry, file) for entry in root.iter("object")]
    width, height = (_whole_number(root, f"size/{side}", file) for side in ("width", "height"))
    size = (width, height) if width and height else None
    mask = file.parent.parent / MASKS / f"{file.stem}.png"
    if mask.is_file():
        classes = _classes(mask)
        marks = _marks_of_mask(classes, mask, marks)
        of_mask = (classes.shape[1], classes.shape[0])
        if size not in (None, of_mask):
            problem = f"the mask is {of_mask[0]} x {of_mask[1]} px, and the annotations are for {width} x {height} px"
            raise UserError(problem, str(mask), EXPORT_AGAIN)
        size = of_mask
    return AnnotatedImage(path, file, tuple(marks), size, split=splits.get(file.stem))


def _parsed(file: Path) -> ET.Element:
    """The document; entities are refused, because a few of them can stand for gigabytes of text."""
    depth = 0

    def enter(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise UserError("the annotations are nested too deeply", str(file), EXPORT_AGAIN)

    def leave(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*declaration: object) -> None:
        raise UserError("the annotations declare a document type, which may hold entities", str(file), "remove it")

    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"the annotations have more than {MAX_BYTES:,} bytes", str(file), EXPORT_AGAIN)
        data = file.read_bytes()
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = enter, leave
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
        parser.Parse(data, True)
        return ET.fromstring(data)
    except (OSError, expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        raise UserError(f"the annotations cannot be read: {error}", str(file), EXPORT_AGAIN) from error


def _mark(entry: ET.Element, file: Path) -> Mark:
    kind = _text(entry, "name") or ""
    box = entry.find("bndbox")
    if box is None:
        remedy = "draw a box along the image's sides; flawmap reads no others"
        raise UserError(f"the object {kind!r} has no bndbox", str(file), remedy)
    left, top, right, bottom = (_number(box, name, file) for name in ("xmin", "ymin", "xmax", "ymax"))
    if right < left or bottom < top:
        corners = f"({left:g}, {top:g}) and ({right:g}, {bottom:g})"
        raise UserError(f"the box of {kind!r} has its corners exchanged: {corners}", str(file), "exchange them")
    return Mark(kind, Box((left - 1, top - 1, right - left + 1, bottom - top + 1)), str(file))


def _classes(mask: Path) -> NDArray[np.uint8]:
    """The number of the class of each pixel, uint8 (height, width)."""
    image = decode_upright(read_file(mask), place=str(mask))
    if image.mode not in ("P", "L", "1"):
        problem = f"a mask of classes has one number for each pixel, and this one is {image.mode}"
        raise UserError(problem, str(mask), "save it as a PNG file with a palette, as Pascal VOC does")
    return np.asarray(image).astype(np.uint8)


def _marks_of_mask(classes: NDArray[np.uint8], mask: Path, marks: Sequence[Mark]) -> list[Mark]:
    """One mark for each class in the mask. A file does not say what its numbers are called."""
    names = sorted({mark.kind for mark in marks})
    present = [int(number) for number in np.unique(classes) if number not in (0, VOID)]
    if marks and not present:
        problem = "the mask marks nothing, and the boxes of its image do"
        raise UserError(problem, str(mask), "correct one of them, or remove the mask")
    kinds = names * len(present) if len(names) == 1 else names if len(names) == len(present) else [""] * len(present)
    return [Mark(kind, Bitmap(classes == number), str(mask)) for kind, number in zip(kinds, present, strict=True)]


def _splits(folder: Path) -> dict[str, str]:
    """The split of each name in the lists train.txt, val.txt and test.txt of a folder."""
    splits = {}
    for name in ("train", "val", "test"):
        try:
            lines = (folder / f"{name}.txt").read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError):
            continue
        splits |= {line.split()[0]: WORDS[name] for line in lines if line.strip()}
    return splits


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ET.Element, path: str, file: Path) -> float:
    text = _text(element, path)
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise UserError(f"{path} is {text or 'missing'}, must be a number", str(file), EXPORT_AGAIN)


def _whole_number(root: ET.Element, path: str, file: Path) -> int:
    """0 where it is missing or empty."""
    return round(_number(root, path, file)) if _text(root, path) else 0

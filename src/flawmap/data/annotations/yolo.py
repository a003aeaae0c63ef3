"""YOLO: one text file per image, one line per object, in shares of the image's width and height.

A line is a class number and a box (centre x, centre y, width, height), or a class number and the corners of a polygon.
Names of the classes are in ``data.yaml`` (or another YAML file with ``names``), ``classes.txt`` or ``obj.names``.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat, Mark
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.recognise import YOLO, YOLO_NAMES, recognised
from flawmap.data.annotations.shapes import Box, Polygons, Shape
from flawmap.data.annotations.split_names import split_named
from flawmap.errors import UserError

NAME_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")
MAX_BYTES = 20_000_000


class Yolo(AnnotationFormat):
    """Labels of YOLO for detection, oriented boxes and segmentation."""

    takes = (YOLO, YOLO_NAMES)

    def read(self, files: Sequence[Path], images: ImageNames) -> list[AnnotatedImage]:
        """One image for each file of labels; every text file beside one that is named like an image is such a file."""
        labels = [file for file in files if file.suffix.lower() not in (".yaml", ".yml")]
        names = _class_names(labels)
        recognised, folders = set(labels), sorted({file.parent for file in labels})
        beside = [file for folder in folders for file in sorted(folder.glob("*.txt")) if file not in recognised]
        labels += [file for file in beside if file.name not in NAME_LISTS and images.find(file.stem, file) is not None]
        annotated = (_read_file(file, images, names) for file in sorted(labels))
        return [image for image in annotated if image is not None]


def _read_file(file: Path, images: ImageNames, names: dict[int, str] | None) -> AnnotatedImage | None:
    remedy = "put it into the folder images, or give the folder that holds both"
    path = images.find_any([file.stem], file, remedy)
    if path is None:
        return None
    marks = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if line.strip():
            marks.append(_mark(line.split(), names, f"{file}: line {number}"))
    return AnnotatedImage(path, file, tuple(marks), are_shares=True)


def _mark(words: Sequence[str], names: dict[int, str] | None, place: str) -> Mark:
    try:
        number, *values = (float(word) for word in words)
    except ValueError as error:
        raise UserError(
            f"a line of labels holds numbers only ({error})", place, "correct or remove the line"
        ) from error
    if not all(map(math.isfinite, (number, *values))) or number < 0 or not number.is_integer():
        raise UserError(f"not a class number and shares of the image: {' '.join(words[:6])}", place, "correct the line")
    if names is not None and int(number) not in names:
        problem = f"there is no class {int(number)}: {len(names)} are named"
        raise UserError(problem, place, "correct the class, or the names in data.yaml or classes.txt")
    return Mark(names[int(number)] if names else f"class {int(number)}", _shape(values, place), place)


def _shape(values: Sequence[float], place: str) -> Shape | None:
    if len(values) < 4 or len(values) % 2:
        problem = f"a line has a class and {len(values)} numbers, but a box has 4 and a polygon 6, 8, ..."
        raise UserError(problem, place, "export labels without scores and key points")
    if max(map(abs, values)) > 2:
        problem = f"{max(values, key=abs):g} is not a share of the image"
        raise UserError(problem, place, "divide x and width by the image's width, y and height by its height")
    if len(values) > 4:
        return Polygons((tuple(zip(values[::2], values[1::2], strict=True)),))
    x, y, width, height = values
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UserError(f"the centre of a box is outside the image: {x:g}, {y:g}", place, "correct or remove the line")
    return Box((x - width / 2, y - height / 2, width, height)) if width > 0 and height > 0 else None


def _class_names(labels: Sequence[Path]) -> dict[int, str] | None:
    """Names by number, from files beside the labels or above their folders; None if no file gives any.

    Raises:
        UserError: a file is damaged, or two files disagree.
    """
    folders = {file.parent for file in labels}
    for folder in list(folders):
        while folder.name.lower() == "labels" or split_named(folder.name):  # labels/train, train/labels
            folder = folder.parent
            folders.add(folder)
    files = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    lists = [path for path in files if path.name.lower() in NAME_LISTS]
    tables = [path for path in files if path.suffix.lower() in (".yaml", ".yml") and recognised(path) == YOLO_NAMES]
    found = [(path, _names_in_yaml(path)) for path in tables]
    found += [(path, dict(enumerate(line.strip() for line in _text(path).strip().splitlines()))) for path in lists]
    for path, names in found[1:]:
        if names != found[0][1]:
            problem = f"the classes are named in two ways, here and in {found[0][0]}"
            raise UserError(problem, str(path), "remove one of the files, or give the folder that it belongs to")
    return found[0][1] if found else None


def _names_in_yaml(path: Path) -> dict[int, str]:
    try:
        content = yaml.safe_load(_text(path))
        if "kpt_shape" in content:
            raise UserError("these are labels of key points", str(path), "export boxes or polygons")
        names = content["names"]
        return {
            int(number): str(name) for number, name in (names.items() if isinstance(names, dict) else enumerate(names))
        }
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        remedy = "names: [scratch, hole], or a line such as 0: scratch for each class"
        raise UserError(f"the names of the classes cannot be read: {error}", str(path), remedy) from error


def _text(path: Path) -> str:
    remedy = "save it as text in UTF-8"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"the file has more than {MAX_BYTES:,} bytes", str(path), "split or remove it")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the labels cannot be read: {error}", str(path), remedy) from error

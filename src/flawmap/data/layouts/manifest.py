"""A CSV manifest: one row per image, with split, label, and masks or boxes.

Columns ``image`` (path relative to the manifest; it may lead out of its folder), ``split`` (train, test) and
``label`` (0 normal, 1 anomalous) are required. ``mask`` (path) or else ``boxes`` (JSON list of [finding, x, y, width,
height] in pixels of the upright image) give the place; ``kind`` names the defect; ``sex`` and ``view`` are groups that
are reported apart. Other columns are passed over. Commas separate columns, the encoding is UTF-8.
"""

import csv
import json
import math
import posixpath
from pathlib import Path

from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import EVERYTHING, Groups, is_chosen
from flawmap.errors import UserError

FILE_NAME = "manifest.csv"
LAYOUT = "CSV manifest"
REQUIRED = ("image", "split", "label")
GROUPS = ("sex", "view")


def read_training(manifest: Path, only: Groups = EVERYTHING) -> tuple[NormalImage, ...]:
    """Rows of split ``train`` with label 0, of all groups or ``only`` one. No other row's label, mask or box is kept.

    Raises:
        UserError: the manifest cannot be read, or a training row is labelled anomalous.
    """
    images = []
    for line, row in _rows(manifest):
        if row["split"] != "train":
            continue
        if row["label"] != "0":
            raise UserError(
                f"row {line} is in split train with label {row['label']!r}; training takes normal images only",
                str(manifest),
                "set its split to test, or its label to 0",
            )
        if is_chosen(_groups(row), only):
            images.append(NormalImage(row["image"], manifest.parent / row["image"]))
    return tuple(images)


def read_test(manifest: Path, only: Groups = EVERYTHING) -> tuple[LabelledImage, ...]:
    """Rows of split ``test``, of all groups or ``only`` one.

    An anomalous image without mask or box counts for image metrics only.

    Raises:
        UserError: the manifest cannot be read, a label is neither 0 nor 1, or a mask or box is wrong.
    """
    samples = []
    for line, row in _rows(manifest):
        if row["split"] != "test":
            continue
        if row["label"] not in ("0", "1"):
            raise UserError(f"row {line} has label {row['label']!r}", str(manifest), "0 is normal, 1 is anomalous")
        path, truth = manifest.parent / row["image"], _truth(row, line, manifest)
        groups = _groups(row)
        if row["label"] == "1":
            kind = row.get("kind") or "anomalous"
            samples.append(LabelledImage(row["image"], path, True, kind, truth, groups))
            continue
        if isinstance(truth, Boxes):
            remedy = "set its label to 1, or empty its boxes"
            raise UserError(f"row {line} has boxes and label 0", str(manifest), remedy)
        samples.append(LabelledImage(row["image"], path, False, "good", None, groups))
    return tuple(sample for sample in samples if is_chosen(sample.groups, only))


def protocol(manifest: Path) -> Protocol:
    """With boxes, pixels are pooled over the images that have one (chest X-rays); with masks, over all."""
    columns, _ = _table(manifest)
    pool = "truth_only" if "boxes" in columns else "all" if "mask" in columns else "none"
    name = manifest.resolve().parent.name if manifest.name == FILE_NAME else manifest.stem
    return Protocol(name, pool, tuple(group for group in GROUPS if group in columns))


def _table(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Names of the columns, and (line number, row) of every row that is not empty."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the manifest cannot be read: {error}", str(manifest), "save it as CSV in UTF-8") from error
    return columns, [(line, row) for line, row in rows if any(row.values())]


def _rows(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a manifest whose required columns and images are there, each image once."""
    columns, rows = _table(manifest)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"the manifest lacks the column {missing[0]!r} (it has {', '.join(columns) or 'none'})",
            str(manifest),
            "image, split and label are required, separated by commas",
        )
    seen: dict[str, int] = {}
    for line, row in rows:
        if row["split"] not in ("train", "test"):
            raise UserError(f"row {line} has split {row['split']!r}", str(manifest), "use train or test")
        row["image"] = posixpath.normpath(_slashes(row["image"]))  # else one image could have two names
        if row["image"] in seen:
            first = seen[row["image"]]
            raise UserError(
                f"row {line} names {row['image']} again (first in row {first})", str(manifest), "remove one row"
            )
        seen[row["image"]] = line
        if not (manifest.parent / row["image"]).is_file():
            raise UserError(
                f"row {line}: no such image: {row['image']}", str(manifest), "paths are relative to the manifest"
            )
    return rows


def _groups(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in GROUPS if row.get(name)}


def _slashes(path: str) -> str:
    """A path as written on Windows, for any system."""
    return path.replace("\\", "/")


def _truth(row: dict[str, str], line: int, manifest: Path) -> MaskFile | Boxes | None:
    if row.get("mask"):
        path = manifest.parent / _slashes(row["mask"])
        if not path.is_file():
            raise UserError(
                f"row {line}: no such mask: {row['mask']}", str(manifest), "paths are relative to the manifest"
            )
        return MaskFile(path)
    if not row.get("boxes"):
        return None
    try:
        boxes = tuple(_box(values) for values in json.loads(row["boxes"]))
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"row {line}: the boxes cannot be read ({error})",
            str(manifest),
            'write [["finding", x, y, width, height], ...]',
        ) from error
    return Boxes(boxes) if boxes else None


def _box(values: object) -> tuple[float, float, float, float]:
    if not isinstance(values, list) or len(values) not in (4, 5):
        raise ValueError(f"{json.dumps(values)} is no box")
    x, y, width, height = (float(value) for value in values[-4:])
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"{json.dumps(values)} has no width, no height or no place")
    return x, y, width, height

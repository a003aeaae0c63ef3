"""A CSV manifest: one row per image, with split, label, and masks or boxes.

Columns ``image`` (path relative to the manifest), ``split`` (train, test) and ``label`` (0 normal, 1 anomalous) are
required. ``mask`` (path) or ``boxes`` (JSON list of [finding, x, y, width, height] in pixels) give the place;
``kind`` names the defect; ``sex`` and ``view`` are groups that are reported apart. Other columns are passed over.
"""

import csv
import json
from pathlib import Path

from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.errors import UserError

FILE_NAME = "manifest.csv"
LAYOUT = "CSV manifest"
REQUIRED = ("image", "split", "label")
GROUPS = ("sex", "view")


def read_training(manifest: Path) -> tuple[NormalImage, ...]:
    """Rows of split ``train`` with label 0. No other row's label, mask or box is kept.

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
        images.append(NormalImage(row["image"], manifest.parent / row["image"]))
    return tuple(images)


def read_test(manifest: Path) -> tuple[LabelledImage, ...]:
    """Rows of split ``test``. An anomalous image without mask or box counts for image metrics only."""
    samples = []
    for line, row in _rows(manifest):
        if row["split"] != "test":
            continue
        if row["label"] not in ("0", "1"):
            raise UserError(f"row {line} has label {row['label']!r}", str(manifest), "0 is normal, 1 is anomalous")
        anomalous = row["label"] == "1"
        kind = (row.get("kind") or "anomalous") if anomalous else "good"
        truth = _truth(row, line, manifest) if anomalous else None
        groups = {name: row[name] for name in GROUPS if row.get(name)}
        samples.append(LabelledImage(row["image"], manifest.parent / row["image"], anomalous, kind, truth, groups))
    return tuple(samples)


def protocol(manifest: Path) -> Protocol:
    """With boxes, pixels are pooled over the images that have one (chest X-rays); with masks, over all."""
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        columns = csv.DictReader(file).fieldnames or []
    pool = "truth_only" if "boxes" in columns else "all" if "mask" in columns else "none"
    name = manifest.parent.name if manifest.name == FILE_NAME else manifest.stem
    return Protocol(name, pool, tuple(group for group in GROUPS if group in columns))


def _rows(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a manifest whose required columns are there."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the manifest cannot be read: {error}", str(manifest), "save it as CSV in UTF-8") from error
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"the manifest lacks the column {missing[0]!r} (it has {', '.join(columns) or 'none'})",
            str(manifest),
            "image, split and label are required",
        )
    seen: dict[str, int] = {}
    for line, row in rows:
        if row["split"] not in ("train", "test"):
            raise UserError(f"row {line} has split {row['split']!r}", str(manifest), "use train or test")
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


def _truth(row: dict[str, str], line: int, manifest: Path) -> MaskFile | Boxes | None:
    if row.get("mask"):
        path = manifest.parent / row["mask"]
        if not path.is_file():
            raise UserError(
                f"row {line}: no such mask: {row['mask']}", str(manifest), "paths are relative to the manifest"
            )
        return MaskFile(path)
    if not row.get("boxes"):
        return None
    try:
        boxes = json.loads(row["boxes"])
        numbers = tuple(tuple(float(value) for value in box[-4:]) for box in boxes)
        if any(len(box) != 4 for box in numbers):
            raise ValueError("a box needs x, y, width and height")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"row {line}: the boxes cannot be read ({error})",
            str(manifest),
            'write [["finding", x, y, width, height], ...]',
        ) from error
    return Boxes(numbers) if numbers else None  # pyright: ignore[reportArgumentType] - lengths were checked above

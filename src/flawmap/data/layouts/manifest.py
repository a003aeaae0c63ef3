"""A CSV manifest: one row per image, with split, label, and masks or boxes.

The columns ``image`` (path relative to the manifest; it may lead out of its folder), ``split`` (train, test) and
``label`` (0 normal, 1 anomalous) are required. ``mask`` (path) or ``boxes`` (JSON list of [finding, x, y, width,
height] in pixels of the upright image) say where the defect is. ``kind`` names the defect; ``sex`` and ``view`` are
strata that are reported separately. Other columns are ignored. Columns are separated by commas; the encoding is UTF-8.
"""

import json
import math
import posixpath
from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.tables import read_table
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Strata, is_chosen
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

FILE_NAME = "manifest.csv"
REQUIRED = ("image", "split", "label")


class CsvManifest(Layout):
    """A manifest, or a folder with a manifest.csv."""

    name = "CSV manifest"
    strata = ("sex", "view")
    yields_to_named_folders = False

    def is_at(self, path: Path) -> bool:
        return path.suffix.lower() == ".csv" if path.is_file() else (path / FILE_NAME).is_file()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> tuple[NormalImage, ...]:
        """Rows of split ``train``, which must have label 0. Labels, masks and boxes of other rows are not kept."""
        manifest, images = _file(path), []
        for line, row in _rows(manifest):
            if row["split"] != "train":
                continue
            if row["label"] != "0":
                wrong = f"row {line} is in split train with label {row['label']!r}"
                remedy = "set its split to test, or its label to 0"
                raise UserError(f"{wrong}; training takes normal images only", str(manifest), remedy)
            if is_chosen(_strata(row), only):
                images.append(NormalImage(row["image"], manifest.parent / row["image"]))
        return tuple(images)

    def test(self, path: Path, settings: DataSettings, only: Strata) -> tuple[LabelledImage, ...]:
        """Rows of split ``test``. An anomalous image without a mask or boxes counts for image metrics only."""
        manifest = _file(path)
        samples = (_labelled(row, line, manifest) for line, row in _rows(manifest) if row["split"] == "test")
        return tuple(sample for sample in samples if is_chosen(sample.strata, only))

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """With boxes, pixels are pooled over the images that have some (chest X-rays); with masks, over all."""
        manifest = _file(path)
        columns, _ = _table(manifest)
        pool = "truth_only" if "boxes" in columns else "all" if "mask" in columns else "none"
        name = manifest.resolve().parent.name if manifest.name == FILE_NAME else manifest.stem
        return Protocol(name, pool, tuple(stratum for stratum in self.strata if stratum in columns))


def _file(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _table(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    remedy = "save it as CSV in UTF-8; the columns image, split and label are required, separated by commas"
    return read_table(manifest, "manifest", REQUIRED, remedy)


def _rows(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row), after checking that each image exists and is named once."""
    _, rows = _table(manifest)
    first_line: dict[str, int] = {}
    for line, row in rows:
        if row["split"] not in ("train", "test"):
            raise UserError(f"row {line} has split {row['split']!r}", str(manifest), "use train or test")
        image = row["image"] = posixpath.normpath(_slashes(row["image"]))  # else one image could have two names
        if image in first_line:
            problem = f"row {line} names {image} again (first in row {first_line[image]})"
            raise UserError(problem, str(manifest), "remove one of the rows")
        first_line[image] = line
        _require_file(manifest.parent / image, f"row {line}: no such image: {image}", manifest)
    return rows


def _labelled(row: dict[str, str], line: int, manifest: Path) -> LabelledImage:
    if row["label"] not in ("0", "1"):
        raise UserError(f"row {line} has label {row['label']!r}", str(manifest), "0 is normal, 1 is anomalous")
    path, truth = manifest.parent / row["image"], _truth(row, line, manifest)
    if row["label"] == "1":
        return LabelledImage(row["image"], path, True, row.get("kind") or "anomalous", truth, _strata(row))
    if isinstance(truth, Boxes):
        remedy = "set its label to 1, or leave its boxes empty"
        raise UserError(f"row {line} has boxes and label 0", str(manifest), remedy)
    return LabelledImage(row["image"], path, False, "good", None, _strata(row))


def _strata(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in CsvManifest.strata if row.get(name)}


def _slashes(path: str) -> str:
    """A path that may have been written on Windows."""
    return path.replace("\\", "/")


def _require_file(path: Path, problem: str, manifest: Path) -> None:
    if not path.is_file():
        raise UserError(problem, str(manifest), "paths are relative to the manifest")


def _truth(row: dict[str, str], line: int, manifest: Path) -> MaskFile | Boxes | None:
    if row.get("mask"):
        path = manifest.parent / _slashes(row["mask"])
        _require_file(path, f"row {line}: no such mask: {row['mask']}", manifest)
        return MaskFile(path)
    if not row.get("boxes"):
        return None
    try:
        boxes = tuple(_box(values) for values in json.loads(row["boxes"]))
    except (ValueError, TypeError, OverflowError) as error:
        remedy = 'write [["finding", x, y, width, height], ...]'
        raise UserError(f"row {line}: the boxes cannot be read ({error})", str(manifest), remedy) from error
    return Boxes(boxes) if boxes else None


def _box(values: object) -> tuple[float, float, float, float]:
    if not isinstance(values, list) or len(values) not in (4, 5):
        raise ValueError(f"{json.dumps(values)} is not a box")
    x, y, width, height = (float(value) for value in values[-4:])
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"{json.dumps(values)} has no width, no height or no place")
    return x, y, width, height

"""A CSV manifest: one row per image, with split, label, and masks or boxes.

The columns ``image`` (path relative to the manifest; it may lead out of its folder), ``split`` (train, test) and
``label`` (0 or good, 1 or bad; :data:`LABELS` has further words) are required. ``mask`` (path) or ``boxes`` (JSON list
of [finding, x, y, width, height] in pixels of the upright image) say where the defect is. ``kind`` names the defect;
``sex`` and ``view`` are strata that are reported separately, and so are ``product`` and ``camera``, for each of which a
model has thresholds; ``group`` (or ``patient``, ``part``, ``board``, ``lot``)
names images that must not be split. Other columns are not read. How columns are separated and encoded:
:func:`flawmap.data.layouts.tables.read_table`.
"""

import json
import math
import os
import posixpath
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePosixPath

from flawmap.data.groups import GROUP_COLUMNS, alike, group_column, group_name
from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.tables import SHOWN, meant_by, read_table
from flawmap.data.products import CAMERA, PRODUCT, part_names
from flawmap.data.sample import Boxes, FileRemark, KnownDefect, LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Strata, is_chosen
from flawmap.data.walk import Listing
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

FILE_NAME = "manifest.csv"
REQUIRED = ("image", "split", "label")
STRATA = ("sex", "view", PRODUCT, CAMERA)
KNOWN = (*REQUIRED, "kind", "mask", "boxes", *GROUP_COLUMNS, *STRATA)
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
LABELS = {
    **dict.fromkeys(("0", "0.0", "false", "good", "normal", "ok"), False),
    **dict.fromkeys(("1", "1.0", "true", "bad", "anomalous", "anomaly", "abnormal", "defect", "defective"), True),
    **dict.fromkeys(("ng", "nok", "not ok"), True),
}
BOX_FORM = (
    'write [["finding", x, y, width, height], ...] or [[x, y, width, height], ...], in pixels and without a score'
)


class CsvManifest(Layout):
    """A manifest, or a folder with a manifest.csv."""

    name = "CSV manifest"
    strata = STRATA
    yields_to_named_folders = False

    def is_at(self, path: Path) -> bool:
        return path.suffix.lower() == ".csv" if path.is_file() else (path / FILE_NAME).is_file()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Rows of split ``train``, which must have label 0. Labels, masks and boxes of other rows are not kept."""
        manifest, images, column = _file(path), [], self.grouped_by(path)
        rows = [(line, row) for line, row in _rows(manifest) if row["split"] == "train"]
        if not rows:
            remedy = "set the split of the good images to learn from to train"
            raise UserError("no row of the manifest has split train", str(manifest), remedy)
        for line, row in rows:
            if _is_anomalous(row, line, manifest):
                wrong = f"row {line} is in split train with label {row['label']!r}"
                remedy = "set its split to test, or its label to 0"
                raise UserError(f"{wrong}; training takes normal images only", str(manifest), remedy)
            if is_chosen(_strata(row), only):
                group = group_name(row.get(column or ""))
                of_part = part_names(row.get(PRODUCT), row.get(CAMERA), f"row {line}", str(manifest))
                images.append(NormalImage(row["image"], manifest.parent / row["image"], None, group, *of_part))
        return Listing(tuple(images), remarks=(*_unread_columns(manifest), *_groups_alike(manifest, column)))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Rows of split ``test``. An anomalous image without a mask or boxes counts for image metrics only."""
        manifest, samples, column = _file(path), [], self.grouped_by(path)
        for line, row in _rows(manifest):
            if row["split"] == "test" and is_chosen(_strata(row), only):
                sample = _labelled(row, line, manifest)
                part_names(row.get(PRODUCT), row.get(CAMERA), f"row {line}", str(manifest))
                samples.append(replace(sample, group=group_name(row.get(column or ""))))
        return Listing(tuple(samples), remarks=(*_unread_columns(manifest), *_groups_alike(manifest, column)))

    def known_defects(self, path: Path) -> Listing[KnownDefect]:
        """Rows with label 1, for a manifest that was given as one of known defects; rows of good images are not read.

        Raises:
            UserError: a row cannot be read.
        """
        manifest, defects, column = _file(path), [], self.grouped_by(path)
        for line, row in _rows(manifest):
            if _is_anomalous(row, line, manifest):
                group, truth = group_name(row.get(column or "")), _truth(row, line, manifest)
                _, camera = part_names(row.get(PRODUCT), row.get(CAMERA), f"row {line}", str(manifest))
                path_of = manifest.parent / row["image"]
                defects.append(KnownDefect(row["image"], path_of, truth, None, group, camera))
        return Listing(tuple(defects), remarks=(*_unread_columns(manifest), *_groups_alike(manifest, column)))

    def grouped_by(self, path: Path) -> str | None:
        """The column that names groups."""
        columns, _ = _table(_file(path))
        return group_column(columns, str(_file(path)))

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """With boxes, pixels are pooled over the images that have some (chest X-rays); with masks, over all."""
        manifest = _file(path)
        columns, rows = _table(manifest)
        filled = {name for _, row in rows for name in ("boxes", "mask") if row.get(name)}
        pool = "truth_only" if "boxes" in filled else "all" if "mask" in filled else "none"
        name = manifest.resolve().parent.name if manifest.name == FILE_NAME else manifest.stem
        return Protocol(name, pool, tuple(stratum for stratum in self.strata if stratum in columns))


def _file(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _table(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    remedy = "let its first line be image,split,label (and mask or boxes, kind); save it as CSV in UTF-8"
    return read_table(manifest, "manifest", REQUIRED, remedy, KNOWN)


def _unread_columns(manifest: Path) -> tuple[FileRemark, ...]:
    """A remark on columns that nobody reads, with those that were probably meant."""
    columns, _ = _table(manifest)
    unread = [name for name in columns if name and name not in KNOWN]
    if not unread:
        return ()
    free = [name for name in KNOWN if name not in columns]
    if set(columns) & set(GROUP_COLUMNS):  # there can be only one
        free = [name for name in free if name not in GROUP_COLUMNS]
    near = {name: meant_by(name, free) for name in unread}
    meant = "".join(f"; is {name!r} meant to be {other}?" for name, other in near.items() if other)
    text = f"the {'column' if len(unread) == 1 else 'columns'} {', '.join(map(repr, unread))} "
    text += f"{'is' if len(unread) == 1 else 'are'} not read ({', '.join(KNOWN)} are){meant}"
    return (FileRemark(manifest.name, text),)


def _groups_alike(manifest: Path, column: str | None) -> tuple[FileRemark, ...]:
    """A remark on groups that are probably one, in training and test together."""
    if column is None:
        return ()
    _, rows = _table(manifest)
    pairs = alike(row[column] for _, row in rows if row.get(column))
    if not pairs:
        return ()
    first, second = pairs[0]
    more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    text = (
        f"the column {column} has {first!r} and {second!r}{more}, which count as two: if they are one, write it alike"
    )
    return (FileRemark(manifest.name, text),)


def _rows(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row), after checking that each image exists and is named once."""
    _, rows = _table(manifest)
    if not rows:
        raise UserError("the manifest has no row below its header", str(manifest), "add one row for each image")
    first_line: dict[str, tuple[int, Path]] = {}
    for line, row in rows:
        row["split"] = _split(row, line, manifest)
        image = row["image"] = listed_file(row["image"], "image", line, manifest)
        path = Path(os.path.normpath(manifest.parent.absolute() / image))  # one file may be named in several ways
        earlier, same_path = first_line.setdefault(str(path).casefold(), (line, path))
        if earlier != line and (path == same_path or path.samefile(same_path)):  # some systems do not tell A from a
            problem = f"row {line} names {image} again (first in row {earlier})"
            raise UserError(problem, str(manifest), "remove one of the rows")
    return rows


def _split(row: dict[str, str], line: int, manifest: Path) -> str:
    if missing := next((name for name in ("image", "split") if not row[name]), None):
        raise UserError(f"row {line} has no {missing}", str(manifest), "fill it in, or remove the row")
    split = row["split"].casefold()
    if split not in SPLITS:
        remedy = "use train or test"
        if split.startswith("val") or split == "dev":
            remedy += ": flawmap needs no validation images, because it holds some of the good ones out itself"
        raise UserError(f"row {line} has split {row['split']!r}", str(manifest), remedy)
    return SPLITS[split]


def _is_anomalous(row: dict[str, str], line: int, manifest: Path) -> bool:
    """Raises: UserError: the label is missing or unknown, or contradicts the row's kind or boxes."""
    label = row["label"].casefold()
    if not label:
        raise UserError(f"row {line} has no label", str(manifest), "fill it in, or remove the row")
    if label not in LABELS:
        remedy = "0 or good is normal, 1 or bad is anomalous; the name of a defect goes into a column kind"
        raise UserError(f"row {line} has label {row['label']!r}", str(manifest), remedy)
    if LABELS[label] and LABELS.get(row.get("kind", "").casefold()) is False:
        problem = f"row {line} has label {row['label']!r} and kind {row['kind']!r}"
        raise UserError(problem, str(manifest), "set its label to 0, or its kind to the name of the defect")
    if not LABELS[label] and row.get("boxes", "").replace(" ", "") not in ("", "[]"):
        remedy = "set its label to 1 and its split to test, or leave its boxes empty"
        raise UserError(f"row {line} has boxes and label {row['label']}", str(manifest), remedy)
    return LABELS[label]


def _labelled(row: dict[str, str], line: int, manifest: Path) -> LabelledImage:
    """The image of a row. The mask of a good one is kept, too: whether it is empty is checked when it is read."""
    path, is_anomalous = manifest.parent / row["image"], _is_anomalous(row, line, manifest)
    kind = (row.get("kind") or "anomalous") if is_anomalous else "good"
    return LabelledImage(row["image"], path, is_anomalous, kind, _truth(row, line, manifest), _strata(row))


def _strata(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in CsvManifest.strata if row.get(name)}


def listed_file(listed: str, what: str, line: int, manifest: Path) -> str:
    """The path of a file as a key: relative to the manifest, with forward slashes, each folder named once.

    Raises:
        UserError: there is no such file; with the path that was probably meant.
    """
    key = posixpath.normpath(listed.replace("\\", "/"))  # it may have been written on Windows
    if os.path.isfile(manifest.parent / key):
        return key
    problem, remedy = f"row {line}: no such {what}: {key}", "paths are relative to the manifest"
    parts = PurePosixPath(key).parts
    inside = ("/".join(parts[start:]) for start in range(1, len(parts)))
    if other := _other_spelling(manifest.parent, key):
        if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", key):
            return other  # e with an accent is one character on some systems and two on others
        remedy = f"write {other}: upper and lower case differ"
    elif found := next((path for path in inside if os.path.isfile(manifest.parent / path)), None):
        remedy += f": write {found}, and leave out {key[: -len(found)]} in the other rows, too"
    raise UserError(problem, str(manifest), remedy)


def _other_spelling(folder: Path, key: str) -> str | None:
    """The only file whose path is that of ``key`` but for upper and lower case, or the way accents are written."""
    candidates = [""]
    for part in PurePosixPath(key).parts:
        wanted = unicodedata.normalize("NFC", part).casefold()
        candidates = [
            posixpath.join(place, name)
            for place in candidates
            for name in ([part] if part in ("..", "/") else _names_in(folder / place))
            if unicodedata.normalize("NFC", name).casefold() == wanted
        ]
    files = [key for key in candidates if os.path.isfile(folder / key)]
    return files[0] if len(files) == 1 else None


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _truth(row: dict[str, str], line: int, manifest: Path) -> MaskFile | Boxes | None:
    if row.get("mask") and row.get("boxes"):
        raise UserError(f"row {line} has a mask and boxes", str(manifest), "leave one of them empty")
    if row.get("mask"):
        return MaskFile(manifest.parent / listed_file(row["mask"], "mask", line, manifest))
    if not row.get("boxes"):
        return None
    try:
        values = json.loads(row["boxes"])
        if not isinstance(values, list):
            raise ValueError(f"{_shown(values)} is not a list")
        boxes = tuple(_box(box) for box in values)
    except RecursionError as error:
        raise UserError(f"row {line}: the boxes are nested too deeply", str(manifest), BOX_FORM) from error
    except (ValueError, TypeError, OverflowError) as error:
        reason = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else error
        raise UserError(f"row {line}: the boxes cannot be read ({reason})", str(manifest), BOX_FORM) from error
    return Boxes(boxes) if boxes else None


def _box(values: object) -> tuple[float, float, float, float]:
    if not isinstance(values, list) or len(values) not in (4, 5):
        raise ValueError(f"{_shown(values)} is not a box")
    if any(isinstance(value, bool) for value in values):
        raise ValueError(f"{_shown(values)} holds true or false")
    if len(values) == 5 and _is_number(values[0]):  # the box could as well end with a score
        raise ValueError(f"{_shown(values)} has five numbers, but a box is a name and four")
    x, y, width, height = (float(value) for value in values[-4:])
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"{_shown(values)} has no width, no height or no place")
    return x, y, width, height


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return value is None
    return True


def _shown(values: object) -> str:
    text = json.dumps(values)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

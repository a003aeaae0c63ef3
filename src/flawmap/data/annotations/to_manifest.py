"""Annotations of other tools become a manifest: defects are for the test, good images for training and test.

An annotated image is a defect, unless all its classes are called good. An image without annotations is good only if the
user says so. A group, such as a patient, is for training or for the test as a whole. Files of images are not copied;
paths in the manifest are relative to it.
"""

import csv
import io
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from flawmap.advice import command
from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat
from flawmap.data.annotations.find import FORMATS, AnnotationFiles, annotation_files
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.placed import Placed, placed
from flawmap.data.annotations.recognise import recognised
from flawmap.data.annotations.shapes import Box
from flawmap.data.annotations.split_names import split_named
from flawmap.data.checks import MIN_IMAGES, refuse_unwritable_names
from flawmap.data.groups import IMAGE, MIN_GROUPS, SETTING, are_too_few, grouped, groups_in_words, refuse_unmatched
from flawmap.data.images.boxes import ROUNDING_PX
from flawmap.data.left_out import counted
from flawmap.data.sample import NormalImage
from flawmap.data.split import split_normals
from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text

GOOD_TEST_SHARE = 0.2  # of the good images, where no folder says which are for the test
UNNAMED = "anomalous"


@dataclass(frozen=True)
class ManifestReport:
    """What became of the annotations.

    Attributes:
        format: of the annotation files, ``num_files`` of them.
        anomalous: images with a defect, all for the test; ``kinds`` counts those with each kind of it.
        good_train: good images to learn from.
        good_test: good images for the test.
        left_out: images without annotations of which nobody has said what they are.
        remarks: what a person should know, in words.
        groups: how many groups of images there are, in words; None where nobody has named any.
    """

    format: str
    num_files: int
    anomalous: int
    kinds: dict[str, int]
    good_train: int
    good_test: int
    left_out: int
    remarks: tuple[str, ...]
    groups: str | None = None


@dataclass(frozen=True)
class _Row:
    image: Path
    split: str
    placed: Placed | None  # None for a good image
    group: str | None


def write_manifest_of(
    location: Path,
    output: Path,
    unannotated_are_good: bool = False,
    masks: Path | None = None,
    group_by: str | None = None,
) -> ManifestReport:
    """Read the annotations at a location, and write the manifest.

    Args:
        location: a folder with images and annotation files, or one annotation file.
        output: the manifest; nothing is overwritten.
        unannotated_are_good: images without annotations are good ones; they are left out otherwise.
        masks: a new folder for one mask per image with a defect; the manifest has boxes without it.
        group_by: what must not be split, as in ``data.group_by``; the manifest then has a column ``group``.

    Raises:
        UserError: there are no annotations, or of several formats; a file is damaged, or does not fit its image; there
            are too few groups to split; or there is something at ``output`` or ``masks`` already.
    """
    _refuse_existing(output, "--output")
    if masks is not None:
        _refuse_existing(masks, "--masks")
    files = _files_at(location)
    format_ = _only_format(files, location, output)
    annotated = format_.read(files.by_format[format_], ImageNames(files.images))
    _refuse_twice(annotated)
    marked = {image.path: image for image in annotated if image.marks}
    defects = {path: image for path, image in marked.items() if image.has_defect}
    unmarked = [path for path in files.images if path not in marked]
    good = sorted({*marked, *(unmarked if unannotated_are_good else ())} - set(defects))
    if not defects and not good:
        remedy = "if all images are good, give their folder to flawmap train as it is, or add --unannotated good"
        raise UserError(f"no image of {len(files.images)} has annotations", str(location), remedy)
    hints = {image.path: image.split for image in annotated}
    images = _grouped_images(sorted({*good, *defects}), files.root, group_by)
    splits = _splits_of_good([images[path] for path in good], [images[path] for path in defects], hints, files.root)
    rows = [
        _Row(path, "test", placed(_without_good_marks(image)), images[path].group) for path, image in defects.items()
    ]
    rows += [_Row(path, splits[path], None, images[path].group) for path in good]
    rows.sort(key=lambda row: row.image)
    _write(rows, files.root, output, masks)
    kinds = Counter(kind or UNNAMED for row in rows if row.placed for kind in row.placed.kinds)
    return ManifestReport(
        format_.takes[0].name,
        len(files.by_format[format_]),
        len(defects),
        dict(sorted(kinds.items())),
        sum(split == "train" for split in splits.values()),
        sum(split == "test" for split in splits.values()),
        0 if unannotated_are_good else len(unmarked),
        tuple(_remarks(rows, annotated, files, masks is not None)),
        groups_in_words(tuple(images.values()), group_by),
    )


def _without_good_marks(image: AnnotatedImage) -> AnnotatedImage:
    return replace(image, marks=tuple(mark for mark in image.marks if mark.is_defect))


# ---- reading


def _files_at(location: Path) -> AnnotationFiles:
    """The annotation files at a location. Images may lie in a folder beside that of the annotations."""
    if not location.exists():
        raise UserError(f"no such file or folder: {location}", "", "give a folder with images and annotation files")
    folder = location if location.is_dir() else location.parent
    files = annotation_files(folder)
    if not files.images:
        above = Path(os.path.abspath(folder)).parent
        files = replace(files, root=above, images=annotation_files(above).images)
    if location.is_dir():
        return files
    known = recognised(location)
    taker = next((format_ for format_ in FORMATS if known in format_.takes), None)
    return replace(
        files,
        by_format={taker: [location]} if taker else {},
        others=((location, known),) if known and not taker else (),
    )


def _only_format(files: AnnotationFiles, location: Path, output: Path) -> AnnotationFormat:
    if len(files.by_format) == 1:
        return next(iter(files.by_format))
    if files.by_format:
        found = [f"{format_.takes[0].name} ({paths[0]})" for format_, paths in files.by_format.items()]
        remedy = "name a file or folder of one of them, or move the others away"
        if (place := _place_of_one_format(files)) is not None:
            remedy += f"; for example {command('flawmap', 'manifest', place, '--output', output)}"
        raise UserError(f"annotations of several formats: {', '.join(found)}", str(location), remedy)
    if files.others:
        path, known = files.others[0]
        raise UserError(f"{path.name}: {known.name}", str(path), known.advice)
    known_formats = ", ".join(format_.takes[0].name for format_ in FORMATS)
    raise UserError("no annotation files", str(location), f"{known_formats} are read")


def _place_of_one_format(files: AnnotationFiles) -> Path | None:
    """A file that has all annotations of its format, or a folder that has those of one format only."""
    for format_, paths in files.by_format.items():
        others = [path for other, paths in files.by_format.items() if other is not format_ for path in paths]
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        if len(paths) == 1:
            return paths[0]
        if not any(path.is_relative_to(folder) for path in others):
            return folder
    return None


def _refuse_twice(annotated: Sequence[AnnotatedImage]) -> None:
    first: dict[Path, AnnotatedImage] = {}
    for image in annotated:
        other = first.setdefault(image.path, image)
        if other is not image:
            where = f"twice in {image.file}" if image.file == other.file else f"in {other.file} and in {image.file}"
            remedy = "remove one of them, or give the file or folder that counts instead of the whole folder"
            raise UserError(f"{image.path} is annotated {where}", str(image.file), remedy)


# ---- splits


def _grouped_images(paths: Sequence[Path], root: Path, group_by: str | None) -> dict[Path, NormalImage]:
    """Every image of the manifest with its group.

    Raises:
        UserError: a pattern matches no image; or there are too few groups to split.
    """
    images = grouped([NormalImage(path.relative_to(root).as_posix(), path) for path in paths], group_by)
    refuse_unmatched(images, group_by, str(root))
    if are_too_few(images):
        problem = f"{SETTING}={group_by} makes fewer than {MIN_GROUPS} groups of {len(images)} images"
        remedy = f"name smaller groups, or leave it out (--set {SETTING}={IMAGE}), and each image is on its own"
        raise UserError(problem, str(root), remedy)
    return {image.path: image for image in images}


def _splits_of_good(
    good: Sequence[NormalImage], defects: Sequence[NormalImage], hints: Mapping[Path, str | None], root: Path
) -> dict[Path, str]:
    """Train or test for each good image: as files and folders say, where they give some to both.

    Otherwise one image in five is for the test, chosen by a hash of its name or group, but never so many that too few
    are left to train. A group that has an image in the test is there with all its good images.
    """
    said = {image.path: hints.get(image.path) or _split_of_folders(image.path, root) for image in good}
    splits = {path: "test" if split in ("val", "test") else "train" for path, split in said.items()}
    tested = {image.group for image in defects} - {None}
    if None in said.values() or len(set(splits.values())) < 2:
        splits = dict.fromkeys(splits, "train")
        free = [image for image in good if image.group not in tested]
        num_test = min(round(len(good) * GOOD_TEST_SHARE) - (len(good) - len(free)), len(free) - MIN_IMAGES)
        if num_test >= 1:
            splits |= {image.path: "test" for image in split_normals(free, num_test / len(free), seed=0)[1]}
    tested |= {image.group for image in good if splits[image.path] == "test"} - {None}
    return splits | {image.path: "test" for image in good if image.group in tested}


def _split_of_folders(path: Path, root: Path) -> str | None:
    folders = reversed(path.relative_to(root).parts[:-1])
    return next((split for split in map(split_named, folders) if split), None)


# ---- writing


def _refuse_existing(path: Path, option: str) -> None:
    if path.exists():
        raise UserError("it exists already; nothing is overwritten", str(path), f"{option} with another name")


def _write(rows: Sequence[_Row], root: Path, output: Path, masks: Path | None) -> None:
    """Write masks, if they are wanted, and then the manifest; after a failure neither is there."""
    for row in rows:
        name = _relative(row.image, output)
        if name != name.strip() or "\\" in name:
            problem = "a manifest cannot hold a name with a backslash, or with a space at its beginning or end"
            raise UserError(problem, str(row.image), "rename the image, and in its annotations, too")
    refuse_unwritable_names(_relative(row.image, output) for row in rows)
    mask_of = None if masks is None else _write_masks(rows, root, masks)
    try:
        text = _table(rows, output, mask_of)
        _refuse_existing(output, "--output")  # it may have come while images were read
        output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(output, text)
    except BaseException:
        if masks is not None:
            shutil.rmtree(masks)
        raise


def _write_masks(rows: Sequence[_Row], root: Path, folder: Path) -> dict[Path, Path]:
    """Write one mask for each image whose defects are all placed; the folder is there with all masks, or not at all."""
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    mask_of: dict[Path, Path] = {}
    taken: set[str] = set()
    beside.mkdir(parents=True)
    try:
        for row in rows:
            if row.placed is None or not row.placed.is_complete:
                continue
            name = row.image.relative_to(root).with_suffix(".png")
            if str(name).casefold() in taken:  # a.jpg and a.png
                name = row.image.relative_to(root).with_name(f"{row.image.name}.png")
            taken.add(str(name).casefold())
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(row.placed.mask().astype(np.uint8) * 255).save(beside / name)
            mask_of[row.image] = folder / name
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return mask_of


def _table(rows: Sequence[_Row], output: Path, mask_of: Mapping[Path, Path] | None) -> str:
    """The manifest's text, with masks, or with boxes where ``mask_of`` is None."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    has_groups = any(row.group for row in rows)
    header = ["image", "split", "label", "kind", "boxes" if mask_of is None else "mask"]
    table.writerow([*header, *(["group"] if has_groups else [])])
    for row in rows:
        truth = kind = ""
        if row.placed is not None:
            kind = "+".join(" ".join(name.split()) or UNNAMED for name in row.placed.kinds)
            if mask_of is not None:
                truth = _relative(mask_of[row.image], output) if row.image in mask_of else ""
            elif row.placed.is_complete:
                boxes = [[" ".join(mark.kind.split()) or UNNAMED, *mark.box] for mark in row.placed.marks]
                truth = json.dumps(boxes, ensure_ascii=False)
        cells = [_relative(row.image, output), row.split, int(row.placed is not None), kind, truth]
        table.writerow([*cells, *([row.group or ""] if has_groups else [])])
    return buffer.getvalue()


def _relative(path: Path, output: Path) -> str:
    try:
        return Path(os.path.relpath(path, output.parent)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


# ---- remarks


def _remarks(
    rows: Sequence[_Row], annotated: Sequence[AnnotatedImage], files: AnnotationFiles, has_masks: bool
) -> Iterator[str]:
    all_placed = [(row.image, row.placed) for row in rows if row.placed is not None]
    if kinds := sorted({mark.kind for image in annotated for mark in image.marks if not mark.is_defect}):
        yield f"the classes {', '.join(kinds)} mark good parts, not defects"
    outlined = [marks for _, marks in all_placed if any(not isinstance(mark.shape, Box) for mark in marks.marks)]
    if outlined and not has_masks:
        yield f"outlines became boxes in {_images(len(outlined))}: --masks FOLDER keeps them"
    if unplaced := [path for path, marks in all_placed if not marks.is_complete]:
        yield (
            f"{_images(len(unplaced))} with a point, a line or an empty box, first {unplaced[0]}: nobody knows which "
            "pixels are meant, so the place of the defect counts as unknown"
        )
    cut = [(marks.cut_px, path) for path, marks in all_placed if marks.cut_px > ROUNDING_PX]
    if cut:
        most, path = max(cut)
        yield (
            f"marks leave the image in {_images(len(cut))} and were cut off, by {most:.0f} px in {path}: "
            "are the coordinates in the order that the format has?"
        )
    if turned := [path for path, marks in all_placed if marks.is_turned]:
        yield (
            f"{_images(len(turned))} turned by EXIF, first {turned[0]}: the annotations are taken for those of the "
            "upright image; look at some, for example with flawmap evaluate"
        )
    for path, known in files.others:
        yield f"{path.name}: {known}"
    if files.left_out:
        yield counted(files.left_out)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"

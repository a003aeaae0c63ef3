"""Annotation files, and the images that they can be about, in a folder."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap.data.annotations.annotated import AnnotationFormat
from flawmap.data.annotations.coco import Coco
from flawmap.data.annotations.labelme import Labelme
from flawmap.data.annotations.recognise import Recognised, recognised
from flawmap.data.annotations.voc import PascalVoc
from flawmap.data.annotations.yolo import Yolo
from flawmap.data.sample import LeftOut
from flawmap.data.walk import walk, without_companions

FORMATS: tuple[AnnotationFormat, ...] = (Coco(), Yolo(), PascalVoc(), Labelme())
MASK_FOLDERS = {  # in lower case: images in them are no pictures of parts
    *("segmentationclass", "segmentationobject", "segmentationclasspng", "segmentationclassvisualization"),
    *("masks", "mask", "ground_truth", "gt"),
}


@dataclass(frozen=True)
class AnnotationFiles:
    """What a folder holds.

    Attributes:
        root: the folder.
        images: all images in it and below, sorted, without masks in folders of their own or beside them.
        by_format: annotation files, sorted.
        others: files of formats that are not read, sorted.
        left_out: what else is not read.
    """

    root: Path
    images: tuple[Path, ...]
    by_format: Mapping[AnnotationFormat, Sequence[Path]]
    others: tuple[tuple[Path, Recognised], ...]
    left_out: tuple[LeftOut, ...]


def annotation_files(root: Path) -> AnnotationFiles:
    """Look through a folder and all that is below it.

    Raises:
        UserError: the folder cannot be read.
    """
    found = without_companions(walk(root))
    images = tuple(path for path in found.images if not _is_in_masks(path, root))
    by_format: defaultdict[AnnotationFormat, list[Path]] = defaultdict(list)
    others: list[tuple[Path, Recognised]] = []
    unread: list[LeftOut] = []
    for item in found.left_out:
        known = recognised(item.path)
        taker = next((format_ for format_ in FORMATS if known in format_.takes), None)
        if taker is not None:
            by_format[taker].append(item.path)
        elif known is not None:
            others.append((item.path, known))
        else:
            unread.append(item)
    marking = {format_: paths for format_, paths in by_format.items() if not all(map(_are_names, paths))}
    return AnnotationFiles(root, images, marking, tuple(others), tuple(unread))


def _is_in_masks(path: Path, root: Path) -> bool:
    return any(folder.lower() in MASK_FOLDERS for folder in path.relative_to(root).parts[:-1])


def _are_names(path: Path) -> bool:
    """Whether a file names classes, and marks nothing."""
    return path.suffix.lower() in (".yaml", ".yml")

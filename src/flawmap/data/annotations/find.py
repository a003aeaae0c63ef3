"""Annotation files, and the images that they can be about, in a folder."""

import os
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
from flawmap.data.images.files import IMAGE_SUFFIXES

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
        images: all images in it and below, sorted, without those in folders of masks.
        by_format: annotation files, sorted.
        others: files of formats that are not read, sorted.
    """

    root: Path
    images: tuple[Path, ...]
    by_format: Mapping[AnnotationFormat, Sequence[Path]]
    others: tuple[tuple[Path, Recognised], ...]


def annotation_files(root: Path) -> AnnotationFiles:
    """Look through a folder and all that is below it."""
    images: list[Path] = []
    by_format: defaultdict[AnnotationFormat, list[Path]] = defaultdict(list)
    others: list[tuple[Path, Recognised]] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(folder) / name for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                if path.parent.name.lower() not in MASK_FOLDERS or path.parent == root:
                    images.append(path)
            elif (known := recognised(path)) is not None:
                taker = next((format_ for format_ in FORMATS if known in format_.takes), None)
                if taker is None:
                    others.append((path, known))
                else:
                    by_format[taker].append(path)
    marking = {format_: paths for format_, paths in by_format.items() if not all(map(_are_names, paths))}
    return AnnotationFiles(root, tuple(sorted(images)), marking, tuple(others))


def _are_names(path: Path) -> bool:
    """Whether a file names classes, and marks nothing."""
    return path.suffix.lower() in (".yaml", ".yml")

"""Good images that an annotation file or a mask marks a defect on: they must not be trained on without a word."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flawmap.advice import command
from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat
from flawmap.data.annotations.find import FORMATS, AnnotationFiles, annotation_files
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.recognise import EXPORT, LISTED, recognised
from flawmap.data.images.files import UnreadableImageError
from flawmap.data.images.mask import read_mask
from flawmap.data.sample import FileRemark, LeftOut
from flawmap.data.walk import MASK
from flawmap.errors import UserError

IMAGE_FOLDERS = ("images", "jpegimages")  # in lower case; annotations lie in folders beside these
ANNOTATION_FOLDERS = ("labels", "annotations")
LEARNED_AS_GOOD = "if they mark a defect on one of these images, it is learned as good"


def refuse_marked(folder: Path, images: Iterable[Path]) -> tuple[FileRemark, ...]:
    """Compare good images with the annotation files in their folder, below it, and where tools put them beside it.

    Args:
        folder: that was given as good images.
        images: those that were found in it.

    Returns:
        remarks on annotation files of formats that are not read.

    Raises:
        UserError: an annotation file marks a defect on one of the images, or is damaged.
    """
    wanted = {os.path.abspath(path): path for path in images}
    remarks: list[FileRemark] = []
    for files in _annotations_of(folder):
        names = ImageNames(files.images, are_complete=False)
        for format_, paths in files.by_format.items():
            annotated = (image for image in _read(format_, paths, names) if image.has_defect)
            defects = [image for image in annotated if os.path.abspath(image.path) in wanted]
            if defects:
                problem = (
                    f"{format_.takes[0].name} mark a defect on {len(defects)} of {len(wanted)} good images, first: "
                )
                problem += str(wanted[os.path.abspath(defects[0].path)])
                away = f"(or, if {defects[0].file.name} is about other images, move it away)"
                remedy = f"make a manifest and use it instead {away}: {_conversion(files)}"
                raise UserError(problem, str(defects[0].file), remedy)
        if files.root == folder:
            remarks += [
                FileRemark(path.relative_to(folder).as_posix(), f"{known.name} are not read: {LEARNED_AS_GOOD}")
                for path, known in files.others
                if known.advice in (EXPORT, LISTED)
            ]
    return tuple(remarks)


def marked_by_masks(folder: Path, left_out: Iterable[LeftOut]) -> tuple[FileRemark, ...]:
    """A remark on masks that lie beside good images and mark something.

    It is no error: a mask may as well show a part, or an organ.
    """
    masks = [item.path for item in left_out if item.kind == MASK]
    marking = [path for path in masks if _marks_something(path)]
    if not marking:
        return ()
    count = len(marking)
    some = "1 mask beside a good image marks" if count == 1 else f"{count} masks beside good images mark"
    text = (
        f"{some} something: if it is a defect, the image beside it is learned as good; move such images to another "
        "folder, or write a manifest.csv in which they have label 1, split test and their mask"
    )
    return (FileRemark(marking[0].relative_to(folder).as_posix(), text),)


def with_annotations_named(error: UserError, folder: Path) -> UserError:
    """The error that a folder cannot be read as good images; with the annotations that are in it, if there are any."""
    files = annotation_files(folder) if folder.is_dir() else None
    if files is None or len(files.by_format) != 1:
        return error
    name = next(iter(files.by_format)).takes[0].name
    remedy = f"turn the {name} into a manifest: {_conversion(files)}"
    return UserError(error.problem, error.place, f"{error.remedy}; or {remedy}" if error.remedy else remedy)


def _marks_something(mask: Path) -> bool:
    try:
        return bool(read_mask(mask).any())
    except UnreadableImageError:  # it is left out, whatever it is
        return False


def _conversion(files: AnnotationFiles) -> str:
    return command("flawmap", "manifest", files.root, "--output", "manifest.csv")


def _read(format_: AnnotationFormat, paths: Sequence[Path], names: ImageNames) -> list[AnnotatedImage]:
    try:
        return format_.read(paths, names)
    except UserError as error:
        remedy = f"{error.remedy}; or move the file away if it is not about these images"
        raise UserError(error.problem, error.place, remedy) from error


def _annotations_of(folder: Path) -> Iterator[AnnotationFiles]:
    """What is in the folder; and what is above it, if annotations are beside it or beside its folder ``images``."""
    yield annotation_files(folder)
    place = Path(os.path.abspath(folder))
    above, further = place.parent, place.parent.parent
    if any(_has_annotations(path) for path in _entries(above) if path != place):
        yield _beside(annotation_files(above))
    elif above.name.lower() in IMAGE_FOLDERS and any(map(_is_annotation_folder, _entries(further))):
        yield _beside(annotation_files(further))


def _beside(files: AnnotationFiles) -> AnnotationFiles:
    """Without annotation files in other folders, which are those of other data."""
    by_format: dict[AnnotationFormat, list[Path]] = {}
    for format_, paths in files.by_format.items():
        for path in paths:
            first, *inside = path.relative_to(files.root).parts
            if not inside or first.lower() in ANNOTATION_FOLDERS:
                by_format.setdefault(format_, []).append(path)
    return replace(files, by_format=by_format)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a folder above need not be readable
        return []


def _is_annotation_folder(path: Path) -> bool:
    return path.name.lower() in ANNOTATION_FOLDERS and path.is_dir()


def _has_annotations(path: Path) -> bool:
    if _is_annotation_folder(path):
        return True
    known = recognised(path) if path.suffix.lower() == ".json" and path.is_file() else None
    return any(known in format_.takes for format_ in FORMATS)

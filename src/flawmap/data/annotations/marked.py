"""Good images that an annotation file marks a defect on: they must not be trained on without a word."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flawmap.data.annotations.annotated import AnnotatedImage, AnnotationFormat
from flawmap.data.annotations.find import FORMATS, annotation_files
from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.recognise import recognised
from flawmap.data.annotations.to_manifest import is_good
from flawmap.errors import UserError

IMAGE_FOLDERS = ("images", "jpegimages")  # in lower case; annotations lie in folders beside these
ANNOTATION_FOLDERS = ("labels", "annotations")


def refuse_marked(folder: Path, images: Iterable[Path]) -> None:
    """Compare good images with the annotation files in their folder, below it, and where tools put them beside it.

    Args:
        folder: that was given as good images.
        images: those that were found in it.

    Raises:
        UserError: an annotation file marks a defect on one of the images, or is damaged.
    """
    wanted = {path.absolute(): path for path in images}
    for root in _roots(folder):
        files = annotation_files(root)
        names = ImageNames(files.images, are_complete=False)
        for format_, paths in files.by_format.items():
            annotated = _read(format_, paths, names)
            marked = [image for image in annotated if not all(map(is_good, image.marks))]
            defects = [(image, wanted[image.path.absolute()]) for image in marked if image.path.absolute() in wanted]
            if defects:
                image, path = defects[0]
                those = (
                    f"1 of {len(wanted)} good images"
                    if len(defects) == 1
                    else (f"{len(defects)} of {len(wanted)} good images")
                )
                problem = f"{format_.takes[0].name} mark a defect on {those}, first: {path}"
                command = shlex.join(["flawmap", "manifest", str(root), "--output", "manifest.csv"])
                remedy = f"{command}, then use manifest.csv; or move {image.file.name} away if it is about other images"
                raise UserError(problem, str(image.file), remedy)


def _read(format_: AnnotationFormat, paths: Sequence[Path], names: ImageNames) -> list[AnnotatedImage]:
    try:
        return format_.read(paths, names)
    except UserError as error:
        remedy = f"{error.remedy}; or move the file away if it is not about these images"
        raise UserError(error.problem, error.place, remedy) from error


def _roots(folder: Path) -> Iterator[Path]:
    """The folder, and those above it that hold annotations of it: beside its name, or beside its folder ``images``."""
    yield folder
    place = folder.absolute()
    above, further = place.parent, place.parent.parent
    if any(_has_annotations(path) for path in above.iterdir() if path != place):
        yield above
    elif above.name.lower() in IMAGE_FOLDERS and any(_is_annotation_folder(path) for path in further.iterdir()):
        yield further


def _is_annotation_folder(path: Path) -> bool:
    return path.name.lower() in ANNOTATION_FOLDERS and path.is_dir()


def _has_annotations(path: Path) -> bool:
    if _is_annotation_folder(path):
        return True
    known = recognised(path) if path.suffix.lower() == ".json" and path.is_file() else None
    return any(known in format_.takes for format_ in FORMATS)

"""The region of interest of each camera's images: from files and recipes, and what images it does not fit.

A recipe and a model hold the content of the file, never its path alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flawmap.data.images.files import read_image
from flawmap.data.part_names import is_part_name, usable_name, wrong_with
from flawmap.data.roi import (
    EXAMPLE,
    FIELDS,
    SETTING,
    RegionOfInterest,
    mask_of,
    refuse_unknown_fields,
    roi_of_content,
    roi_of_mask,
)
from flawmap.data.sample import KnownDefect, NormalImage
from flawmap.data.similar_name import similar_beside
from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe

CAMERAS = "cameras"
WHOLE_IMAGE = '"inside": [{"rectangle": [0, 0, 1, 1]}]'


@runtime_checkable
class FromCamera(Protocol):
    """An image of which may be known which camera took it."""

    @property
    def camera(self) -> str | None:
        """Its name; None where nobody has said which one."""
        ...


@dataclass(frozen=True, eq=False)
class RegionsOfInterest:
    """The region of each camera's images.

    Attributes:
        default: of images of all other cameras, and of those whose camera nobody has named; None where these have none.
        cameras: by name; empty where all images have one region.
        text: the same as JSON in one line; equal texts are equal regions.
    """

    default: RegionOfInterest | None
    cameras: Mapping[str, RegionOfInterest]
    text: str

    def of(self, camera: str | None) -> RegionOfInterest:
        """The region of a camera's images; None stands for images whose camera nobody has named.

        Raises:
            UserError: neither the camera nor the default has one. The whole image would be wrong: what lies outside of
                the regions of other cameras was never learned, and another camera's region may hide defects.
        """
        found = self.default if camera is None else self.cameras.get(camera, self.default)
        if found is None:
            known = ", ".join(self.cameras)
            problem = "nobody has named the camera of this image" if camera is None else f"none is for camera {camera}"
            problem = f"each region of interest is for one camera ({known}), and {problem}"
            remedy = "name one of these: in training by a manifest's column camera, in detection by --camera"
            remedy += f"; or give a default beside {CAMERAS}, such as {WHOLE_IMAGE}, and train again"
            raise UserError(problem, SETTING, remedy)
        return found

    def of_each(self, images: Iterable[FromCamera]) -> list[RegionOfInterest]:
        """The region of each image; as :meth:`of`."""
        return [self.of(image.camera) for image in images]

    @property
    def all(self) -> tuple[RegionOfInterest, ...]:
        """The default, where there is one, and those of the cameras."""
        return (*(() if self.default is None else (self.default,)), *self.cameras.values())

    @property
    def camera_of_self_test(self) -> str | None:
        """Whose region an image of no camera has, so that a model gives the same for it everywhere."""
        return None if self.default is not None else next(iter(self.cameras))


def rois_of(recipe: Recipe) -> RegionsOfInterest | None:
    """The regions of a recipe whose content was taken in by :func:`with_roi_content`; None for whole images.

    Raises:
        UserError: the text is damaged.
    """
    return None if recipe.data.roi is None else rois_of_text(recipe.data.roi)


def roi_of_each(rois: RegionsOfInterest | None, images: Iterable[FromCamera]) -> list[RegionOfInterest] | None:
    """The region of each image; None for whole images.

    Raises:
        UserError: as :meth:`RegionsOfInterest.of`.
    """
    return None if rois is None else rois.of_each(images)


def depends_on(rois: RegionsOfInterest | None, images: Iterable[FromCamera]) -> dict[str, Any]:
    """What determines the region of each image, for keys of results."""
    if rois is None:
        return {}
    return {"roi": rois.text} | ({CAMERAS: [image.camera for image in images]} if rois.cameras else {})


# ---- what regions mean for images


def refuse_unfit(
    recipe: Recipe, images: Sequence[NormalImage | KnownDefect], sizes_px: Mapping[str, tuple[int, int]], root: str
) -> None:
    """Refuse images on which the region of interest would lie elsewhere than where it was drawn.

    Args:
        recipe: with the regions.
        images: to learn from, good ones or known defects.
        sizes_px: height and width of each by its key.
        root: of the images.

    Raises:
        UserError: an image has another shape than the image that its camera's region was drawn on, or no region.
    """
    found = roi_of_each(rois_of(recipe), images)
    if found is None:
        return
    unfit = [
        (image.key, sizes_px[image.key], roi)
        for image, roi in zip(images, found, strict=True)
        if not roi.fits(*sizes_px[image.key])
    ]
    if unfit:
        key, (height, width), roi = unfit[0]
        of_width, of_height = roi.size_px
        problem = (
            f"{roi.name} is for images of {of_width:g} x {of_height:g} px or of the same shape, "
            f"but {len(unfit)} of {len(images)} images have another one, first: {key} with {width} x {height} px"
        )
        if roi.camera is None:
            remedy = "draw the region on one of these images; give images of another camera a region of their own"
        else:
            remedy = "draw the region on one of these images"
        raise UserError(problem, root, remedy)


def refuse_too_small(recipe: Recipe, grid: tuple[int, int]) -> None:
    """Raises: UserError: a camera's region covers no half of any patch of an image's grid of rows and columns."""
    rois = rois_of(recipe)
    for roi in () if rois is None else rois.all:
        roi.patches(grid)


def in_words(recipe: Recipe) -> str | None:
    """How much of an image counts; None for the whole image."""
    rois = rois_of(recipe)
    if rois is None:
        return None
    rest = "nothing outside is learned or scored"
    if not rois.cameras:
        assert rois.default is not None
        return f"{rois.default.share:.1%} of each image counts; {rest}"
    shares = [f"camera {name} {roi.share:.1%}" for name, roi in rois.cameras.items()]
    shares += [] if rois.default is None else [f"all others {rois.default.share:.1%}"]
    return f"of each image counts: {', '.join(shares)}; {rest}"


# ---- from files and texts


def read_rois(path: str | Path) -> RegionsOfInterest:
    """Read regions: a mask (any image file; white is inside), which is that of all images, or JSON.

    In JSON, a camera may have the name of another file instead of shapes, beside the JSON.

    Raises:
        UserError: there is no such file, or it is neither a mask nor a region; the file is never changed.
    """
    path = Path(path)
    if not path.is_file():
        problem = f"{path} is a folder, not a file" if path.is_dir() else f"no such file: {path}"
        remedy = "give a PNG mask (white counts, black does not) or a JSON file"
        near = similar_beside(path)
        hint = f"; {near} exists" if near else ""
        raise UserError(f"{problem}  (you are in {Path.cwd()}{hint})", "--roi", remedy)
    if path.suffix.lower() != ".json":
        roi = roi_of_mask(mask_of(read_image(path), str(path)))
        return RegionsOfInterest(roi, {}, roi.text)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the region of interest cannot be read: {error}", str(path), "save it as UTF-8") from error
    return rois_of_text(_with_files_beside(text, path), str(path))


def _with_files_beside(text: str, path: Path) -> str:
    """The text of a JSON file, with the content of files that cameras name; it is not checked here."""
    try:
        content = json.loads(text)
        names = {camera: name for camera, name in content[CAMERAS].items() if isinstance(name, str)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return text
    for camera, name in names.items():
        found = read_rois(path.parent / name)
        if found.default is None or found.cameras:
            problem = f"camera {camera} has the file {name}, which is of several cameras itself"
            raise UserError(problem, str(path), "name a mask, or a file with one region")
        content[CAMERAS][camera] = json.loads(found.text)
    return json.dumps(content) if names else text


def with_roi_content(recipe: Recipe) -> Recipe:
    """The recipe with the content of the file that ``data.roi`` names, so that the recipe stays true without it.

    Raises:
        UserError: as :func:`read_rois` and :func:`rois_of_text`.
    """
    given = recipe.data.roi
    if given is None:
        return recipe
    rois = rois_of_text(given) if given.lstrip().startswith("{") else read_rois(given)
    return replace(recipe, data=replace(recipe.data, roi=rois.text))


@lru_cache(maxsize=16)
def rois_of_text(text: str, place: str = SETTING) -> RegionsOfInterest:
    """Read regions from JSON.

    Args:
        text: an object as :func:`flawmap.data.roi.roi_of_content` takes it; or one with ``cameras``, such objects by
            the names of cameras, and, for all other images, the default's own fields beside it.
        place: where it comes from, for errors.

    Raises:
        UserError: the text is not JSON, or a region is wrong.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"this is not JSON: {error}", place, f"write it like {EXAMPLE}") from error
    if not isinstance(content, dict):
        raise UserError("the region of interest must be a JSON object", place, f"write it like {EXAMPLE}")
    refuse_unknown_fields(content, (*FIELDS, CAMERAS), place)
    of_default = {name: value for name, value in content.items() if name != CAMERAS}
    cameras = _cameras(content[CAMERAS], place) if CAMERAS in content else {}
    if cameras and of_default.keys() == {"image_size_px"}:
        problem = (
            f"image_size_px stands beside {CAMERAS}, where it is that of a region for all others, which has no shapes"
        )
        raise UserError(problem, place, "write it into the region of each camera")
    default = roi_of_content(of_default, place) if of_default or not cameras else None
    return RegionsOfInterest(default, cameras, json.dumps(content))


def _cameras(value: Any, place: str) -> dict[str, RegionOfInterest]:
    if not isinstance(value, dict) or not value:
        problem, example = f"{CAMERAS} must be an object with the region of each camera", f'{{"left": {EXAMPLE}}}'
        raise UserError(problem, place, f'write it like {{"{CAMERAS}": {example}}}')
    regions = {}
    for camera, content in value.items():
        if not is_part_name(camera):
            problem = f"a camera cannot be named {camera!r}{wrong_with(camera)}"
            raise UserError(problem, place, f"write {usable_name(camera, 'camera')}")
        if not isinstance(content, dict):
            problem = f"the region of camera {camera} must be an object, or in a file the name of another file"
            raise UserError(problem, place, f"write it like {EXAMPLE}")
        regions[camera] = roi_of_content(content, f"{place}, camera {camera}", camera)
    return regions

"""Image files in folders, and the masks that belong to them by name."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.sample import MaskFile
from flawmap.errors import UserError

GOOD_NAMES = ("good", "normal", "ok", "io", "pass")  # common names of a folder of good images, in lower case


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Image files in ``folder``, sorted by name, without hidden files and folders.

    Broken links are listed too, so that they are reported as unreadable instead of being lost.

    Raises:
        UserError: the folder cannot be read.
    """
    places = folders_below(folder) if recursive else [folder]
    return sorted(
        path
        for place in places
        for path in visible(place)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
    )


def unsupported_files(images: Iterable[Path]) -> list[Path]:
    """Visible files in the folders of these images whose extension is not that of an image."""
    folders = sorted({image.parent for image in images})
    files = (path for folder in folders for path in visible(folder))
    return [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES and path.is_file()]


def folders_below(folder: Path, above: frozenset[Path] = frozenset()) -> list[Path]:
    """``folder`` and all visible folders below it, in order. Links are followed, except back to a folder ``above``.

    Raises:
        UserError: a folder cannot be read.
    """
    real = folder.resolve()
    if real in above:
        return []
    inside = [path for path in visible(folder) if path.is_dir()]
    return [folder, *(below for child in inside for below in folders_below(child, above | {real}))]


def visible(folder: Path) -> list[Path]:
    """Everything in a folder whose name does not begin with a dot, sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        remedy = "check its name and your permissions"
        raise UserError(f"the folder cannot be read: {error.strerror}", str(folder), remedy) from error


def key_of(path: Path, root: Path) -> str:
    """Path relative to the data root, with forward slashes."""
    return path.relative_to(root).as_posix()


def images_with_masks(folder: Path, mask_folder: Path | None, pattern: str) -> list[tuple[Path, MaskFile | None]]:
    """Images in ``folder`` and below it, each with its mask from the same place in ``mask_folder``, if it has one.

    Raises:
        UserError: as :func:`pair_masks`; or a folder of masks has no folder of images.
    """
    pairs: list[tuple[Path, MaskFile | None]] = []
    for place in folders_below(folder):
        images = list_images(place)
        masks = pair_masks(images, mask_folder / place.relative_to(folder), pattern) if mask_folder else {}
        pairs += [(image, masks.get(image)) for image in images]
    if mask_folder is None or not mask_folder.is_dir():
        return pairs
    for place in folders_below(mask_folder):
        expected = folder / place.relative_to(mask_folder)
        if not expected.is_dir() and (masks_here := list_images(place)):
            problem = f"masks without images, first: {masks_here[0].name}"
            remedy = f"put masks into the same sub-folders as their images; there is no folder {expected}"
            raise UserError(problem, str(place), remedy)
    return pairs


def pair_masks(images: list[Path], mask_folder: Path, pattern: str) -> dict[Path, MaskFile]:
    """Masks of ``images`` by name: the mask of STEM.EXT is ``pattern`` with {stem} = STEM and any image extension.

    A mask with the name of its image counts too, unless the pattern makes it another image's. Masks are never paired
    by order: one missing file would shift all others.

    Args:
        images: of one folder, in any order.
        mask_folder: where the masks are; there are no masks if it does not exist.
        pattern: ``{stem}_mask`` in MVTec AD.

    Raises:
        UserError: masks without an image, two masks for one image, or two images for one mask.
    """
    if not mask_folder.is_dir():
        return {}
    masks = list_images(mask_folder)
    owners: dict[Path, Path] = {}
    for names in (pattern, "{stem}"):
        unpaired: dict[str, list[Path]] = {}
        for mask in masks:
            if mask not in owners:
                unpaired.setdefault(_stem(mask), []).append(mask)
        for image in sorted(set(images) - set(owners.values())):
            candidates = unpaired.get(names.replace("{stem}", _stem(image)), [])
            if len(candidates) > 1:
                problem = f"{image.name} has {len(candidates)} masks: {' and '.join(mask.name for mask in candidates)}"
                raise UserError(problem, str(mask_folder), "remove one of them")
            for mask in candidates:
                if mask in owners:
                    problem = f"{mask.name} is the mask of two images: {owners[mask].name} and {image.name}"
                    remedy = "rename one of the images and give it a mask of its own"
                    raise UserError(problem, str(mask_folder), remedy)
                owners[mask] = image
    if orphans := [mask for mask in masks if mask not in owners]:
        first = f"{orphans[0].name} (images are named like {min(images).name if images else 'none'})"
        remedy = f'rename them to {pattern.replace("{stem}", "STEM")}, or --set data.mask_pattern="{{stem}}_label" if '
        problem = f"{len(orphans)} of {len(masks)} masks match no image, first: {first}"
        raise UserError(problem, str(mask_folder), f"{remedy}they are named so")
    return {image: MaskFile(mask) for mask, image in owners.items()}


def _stem(path: Path) -> str:
    """Name without extension, normalised: some systems write é as one character, others as two."""
    return unicodedata.normalize("NFC", path.stem)

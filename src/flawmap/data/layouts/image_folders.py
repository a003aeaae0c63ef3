"""Image files in folders, and the masks that belong to them by name."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.sample import LeftOut, MaskFile, NormalImage
from flawmap.data.walk import Listing, visible_folders, walk, without_companions
from flawmap.errors import UserError

NOT_GOOD = "by its name the folder does not hold good images to learn from"


def images_in(folder: Path, recursive: bool = True) -> Listing[Path]:
    """Images in ``folder`` and below it, sorted, without masks beside them; and what is passed over.

    Raises:
        UserError: the folder cannot be read.
    """
    return without_companions(walk(folder, recursive))


def good_images_in(folder: Path) -> Listing[Path]:
    """As :func:`images_in`, but sub-folders that are named after defects, masks or a test are left out.

    Raises:
        UserError: the folder cannot be read.
    """
    return without_companions(walk(folder, passes_over=_why_not_good))


def _why_not_good(folder: Path) -> LeftOut | bool:
    meaning = meaning_of(folder.name)
    if meaning in ("bad", "masks") or (meaning == "split" and folder.name.casefold() != "train"):
        return LeftOut(folder, NOT_GOOD, "folder")
    return False


def normal_images(listing: Listing[Path], root: Path) -> Listing[NormalImage]:
    """The images as such to learn from, with keys relative to ``root``."""
    return Listing(tuple(NormalImage(key_of(path, root), path) for path in listing.images), listing.left_out)


def unread_in(folder: Path, read: Iterable[Path]) -> tuple[LeftOut, ...]:
    """What lies directly in ``folder`` and is read by nobody: everything but the sub-folders ``read``."""
    listing = walk(folder, recursive=False)
    direct = tuple(LeftOut(path, "no image is expected here", "image") for path in listing.images)
    folders = [path for path in visible_folders(folder) if path not in set(read)]
    unread = tuple(LeftOut(path, "no folder that this layout reads", "folder") for path in folders)
    return direct + unread + listing.left_out


def sub_folder(folder: Path, name: str) -> Path:
    """The sub-folder of this name, in any case; ``folder / name`` where there is none."""
    exact = folder / name
    if exact.is_dir() or not folder.is_dir():
        return exact
    alike = [path for path in visible_folders(folder) if path.name.casefold() == name.casefold()]
    return alike[0] if alike else exact


def key_of(path: Path, root: Path) -> str:
    """Path relative to the data root, with forward slashes."""
    return path.relative_to(root).as_posix()


def images_with_masks(folder: Path, mask_folder: Path | None, pattern: str) -> Listing[tuple[Path, MaskFile | None]]:
    """Images in ``folder`` and below it, each with its mask from the same place in ``mask_folder``, if it has one.

    Raises:
        UserError: as :func:`pair_masks`; or a folder of masks has no folder of images.
    """
    listing = images_in(folder)
    by_place: defaultdict[Path, list[Path]] = defaultdict(list)
    for image in listing.images:
        by_place[image.parent].append(image)
    masks: dict[Path, MaskFile] = {}
    left_out = listing.left_out
    if mask_folder is not None and mask_folder.is_dir():
        found = walk(mask_folder)
        left_out += found.left_out
        for mask in found.images:
            place = folder / mask.parent.relative_to(mask_folder)
            if not place.is_dir():
                problem = f"masks without images, first: {mask.name}"
                remedy = f"put masks into the same sub-folders as their images; there is no folder {place}"
                raise UserError(problem, str(mask.parent), remedy)
            by_place.setdefault(place, [])
        for place, images in by_place.items():
            masks |= pair_masks(images, mask_folder / place.relative_to(folder), pattern)
    return Listing(tuple((image, masks.get(image)) for image in listing.images), left_out)


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
    masks = walk(mask_folder, recursive=False).images
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

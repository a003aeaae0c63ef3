"""Image files in folders, and masks paired with them by name."""

from pathlib import Path

from flawmap.data.image_files import IMAGE_SUFFIXES
from flawmap.data.sample import MaskFile
from flawmap.errors import UserError


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Image files in ``folder``, sorted by name; hidden files are passed over."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def key_of(path: Path, root: Path) -> str:
    """Path relative to the data root, with forward slashes."""
    return path.relative_to(root).as_posix()


def pair_masks(images: list[Path], mask_folder: Path, pattern: str) -> dict[Path, MaskFile]:
    """Masks of ``images`` by name: the mask of STEM.EXT is ``pattern`` with {stem} = STEM, with any image ending.

    A mask named exactly as its image counts too. Never paired by order: a missing file would shift all others.

    Args:
        images: of one folder.
        mask_folder: where the masks lie; no masks when it does not exist.
        pattern: ``{stem}_mask`` in MVTec AD.

    Raises:
        UserError: masks that belong to no image, or two masks for one image.
    """
    if not mask_folder.is_dir():
        return {}
    masks = list_images(mask_folder)
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.stem, []).append(mask)
    pairs: dict[Path, MaskFile] = {}
    used: set[Path] = set()
    for image in images:
        candidates = by_stem.get(pattern.format(stem=image.stem)) or by_stem.get(image.stem) or []
        if len(candidates) > 1:
            names = " and ".join(mask.name for mask in candidates)
            raise UserError(
                f"{image.name} has {len(candidates)} masks: {names}", str(mask_folder), "remove one of them"
            )
        if candidates:
            pairs[image] = MaskFile(candidates[0])
            used.add(candidates[0])
    orphans = [mask for mask in masks if mask not in used]
    if orphans:
        first_image = images[0].name if images else "none"
        raise UserError(
            f"{len(orphans)} of {len(masks)} masks match no image, first: {orphans[0].name} (images are named like "
            f"{first_image})",
            str(mask_folder),
            f'rename them to {pattern.format(stem="STEM")}, or --set data.mask_pattern="{{stem}}_label" if they are '
            "named so",
        )
    return pairs

"""A folder of one's own: good images directly inside, or sub-folders that the recipe names."""

from pathlib import Path

from flawmap.data.layouts.image_folders import images_with_masks, key_of, list_images, visible
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

LAYOUT = "plain folder of good images"
LAYOUT_NAMED = "folders named by the recipe"


def read_training(root: Path, settings: DataSettings) -> tuple[NormalImage, ...]:
    """Good images of ``root``, or of its sub-folder ``data.normal`` and below it.

    Raises:
        UserError: no such folder, or the folder of good images holds another one that the recipe names.
    """
    _keep_apart(root, settings)
    return tuple(NormalImage(key_of(path, root), path) for path in _good_images(root, settings))


def read_test(root: Path, settings: DataSettings) -> tuple[LabelledImage, ...]:
    """Good images of ``data.normal`` (not those of the training split: name another folder) and ``data.anomalous``.

    Sub-folders of ``data.anomalous`` are kinds of defects; their masks lie in the same sub-folders of ``data.masks``.

    Raises:
        UserError: the recipe does not name the folder of anomalous images, a named folder does not exist or lies in
            another one, or masks match no image.
    """
    if settings.anomalous is None and not any(root.iterdir()):
        raise UserError("this folder is empty", str(root), "give the folder with the labelled test images")
    if settings.anomalous is None:
        raise UserError(
            "there are no labels: which images are anomalous?",
            str(root),
            "--set data.normal=GOOD --set data.anomalous=BAD (folders inside), or use the MVTec AD layout",
        )
    _keep_apart(root, settings)
    samples = [LabelledImage(key_of(path, root), path, False, "good") for path in _good_images(root, settings)]
    bad = _named(root, "anomalous", settings.anomalous)
    masks = _named(root, "masks", settings.masks) if settings.masks else None
    for path, mask in images_with_masks(bad, masks, settings.mask_pattern):
        kind = bad.name if path.parent == bad else key_of(path.parent, bad)
        samples.append(LabelledImage(key_of(path, root), path, True, kind, mask))
    return tuple(samples)


def protocol(root: Path, settings: DataSettings) -> Protocol:
    """Pixel metrics only where the recipe names a folder of masks."""
    return Protocol(root.resolve().name, pixel_pool="all" if settings.masks else "none")


def folder_names(root: Path) -> str:
    """Names of the folders inside, for an error message."""
    names = [path.name for path in visible(root) if path.is_dir()]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"folders {shown}" if names else "no folders"


def _good_images(root: Path, settings: DataSettings) -> list[Path]:
    if settings.normal:
        return list_images(_named(root, "normal", settings.normal), recursive=True)
    return list_images(root)


def _named(root: Path, setting: str, name: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}", f"data.{setting}", f"{root} has {folder_names(root)}: name one")
    if not folder.is_relative_to(root):
        raise UserError(f"{name} is not relative to {root}", f"data.{setting}", "name a folder inside, or ../OTHER")
    return folder


def _keep_apart(root: Path, settings: DataSettings) -> None:
    """No folder may hold another one: defects or masks would be taken for good images, or masks for defects."""
    names = {"normal": settings.normal, "anomalous": settings.anomalous, "masks": settings.masks}
    folders = {setting: (root / name).resolve() for setting, name in names.items() if name}
    for outer, inner in (("normal", "anomalous"), ("anomalous", "normal"), ("normal", "masks"), ("anomalous", "masks")):
        if outer in folders and inner in folders and folders[inner].is_relative_to(folders[outer]):
            raise UserError(
                f"data.{inner} {names[inner]} lies in data.{outer} {names[outer]}",
                str(root),
                "name folders that lie beside each other, or list the images in a manifest.csv",
            )

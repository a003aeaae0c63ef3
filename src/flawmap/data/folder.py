"""A folder of one's own: good images directly inside, or sub-folders that the recipe names."""

from pathlib import Path

from flawmap.data.image_folders import key_of, list_images, pair_masks
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.errors import UserError
from flawmap.recipe import DataSettings

LAYOUT = "plain folder of good images"
LAYOUT_NAMED = "folders named by the recipe"


def read_training(root: Path, settings: DataSettings) -> tuple[NormalImage, ...]:
    """Good images of ``root``, or of its sub-folder ``data.normal``."""
    folder = _named(root, "normal", settings.normal) if settings.normal else root
    return tuple(NormalImage(key_of(path, root), path) for path in list_images(folder, recursive=bool(settings.normal)))


def read_test(root: Path, settings: DataSettings) -> tuple[LabelledImage, ...]:
    """Good images of ``data.normal`` (not those of the training split: name another folder) and ``data.anomalous``.

    Sub-folders of ``data.anomalous`` are kinds of defects.

    Raises:
        UserError: the recipe does not name the folder of anomalous images, or a named folder does not exist.
    """
    if settings.anomalous is None:
        raise UserError(
            "there are no labels: which images are anomalous?",
            str(root),
            "--set data.normal=GOOD --set data.anomalous=BAD (folders inside), or use the MVTec AD layout",
        )
    good_folder = _named(root, "normal", settings.normal) if settings.normal else root
    bad_folder = _named(root, "anomalous", settings.anomalous)
    good = list_images(good_folder, recursive=bool(settings.normal))
    samples = [LabelledImage(key_of(path, root), path, False, "good") for path in good]
    for folder in [bad_folder, *sorted(path for path in bad_folder.rglob("*") if path.is_dir())]:
        images = list_images(folder)
        inside = folder.relative_to(bad_folder)
        masks = {}
        if settings.masks:
            masks = pair_masks(images, _named(root, "masks", settings.masks) / inside, settings.mask_pattern)
        kind = inside.as_posix() if folder != bad_folder else bad_folder.name
        samples += [LabelledImage(key_of(p, root), p, True, kind, masks.get(p)) for p in images]
    return tuple(samples)


def protocol(root: Path, settings: DataSettings) -> Protocol:
    """Pixel metrics only where the recipe names a folder of masks."""
    return Protocol(root.name, pixel_pool="all" if settings.masks else "none")


def _named(root: Path, setting: str, name: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}", f"data.{setting}", f"it has {folder_names(root)}")
    return folder


def folder_names(root: Path) -> str:
    """Names of the folders inside, for an error message."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"folders {shown}" if names else "no folders"

"""A folder of one's own: good images directly inside, or in sub-folders that the recipe names."""

from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import GOOD_NAMES, images_with_masks, key_of, list_images, visible
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

MASK_NAMES = ("masks", "mask", "ground_truth", "gt")  # common names of a folder of masks, in lower case


class PlainFolder(MvtecAd):
    """Good images directly inside a folder; test images, if any, as in MVTec AD."""

    name = "plain folder of good images"

    def is_at(self, path: Path) -> bool:
        return path.is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> tuple[NormalImage, ...]:
        """Images directly inside; if there are none, the error names what is there instead."""
        images = list_images(path)
        if not images:
            raise _no_images_inside(path)
        return tuple(NormalImage(key_of(image, path), image) for image in images)


class NamedFolders(Layout):
    """Sub-folders that the recipe names: ``data.normal``, ``data.anomalous`` and ``data.masks``."""

    name = "folders named by the recipe"
    reads_whole_folders = True

    def is_at(self, path: Path) -> bool:
        return path.is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> tuple[NormalImage, ...]:
        """Images in ``data.normal`` and below it."""
        _keep_apart(path, settings)
        images = _good_images(path, settings)
        if not images:
            raise UserError(f"no images in {settings.normal}", str(path), "give it PNG, JPEG, BMP or TIFF files")
        return tuple(NormalImage(key_of(image, path), image) for image in images)

    def test(self, path: Path, settings: DataSettings, only: Strata) -> tuple[LabelledImage, ...]:
        """Images in ``data.normal``, which must not be those of the training, and in ``data.anomalous``.

        Sub-folders of ``data.anomalous`` are kinds of defects; masks lie in the same sub-folders of ``data.masks``.
        """
        _keep_apart(path, settings)
        samples = [LabelledImage(key_of(image, path), image, False, "good") for image in _good_images(path, settings)]
        bad = _named(path, "anomalous", settings)
        masks = _named(path, "masks", settings) if settings.masks else None
        for image, mask in images_with_masks(bad, masks, settings.mask_pattern):
            kind = bad.name if image.parent == bad else key_of(image.parent, bad)
            samples.append(LabelledImage(key_of(image, path), image, True, kind, mask))
        return tuple(samples)

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """Pixel metrics only if the recipe names a folder of masks."""
        return Protocol(self.data_name(path), pixel_pool="all" if settings.masks else "none")


def categories_in(path: Path) -> list[Path]:
    """Folders directly inside that each hold a category in the layout of MVTec AD."""
    return [child for child in visible(path) if (child / "train" / "good").is_dir()]


def _good_images(path: Path, settings: DataSettings) -> list[Path]:
    if settings.normal:
        return list_images(_named(path, "normal", settings), recursive=True)
    return list_images(path)


def _named(path: Path, setting: str, settings: DataSettings) -> Path:
    name = getattr(settings, setting)
    folder = path / name
    if not folder.is_dir():
        problem = f"no such folder: {folder}"
        raise UserError(problem, f"data.{setting}", f"{path} has {_folder_names(path)}: name one of them")
    if not folder.is_relative_to(path):
        raise UserError(f"{name} is not relative to {path}", f"data.{setting}", "name a folder inside, or ../OTHER")
    return folder


def _folder_names(path: Path) -> str:
    names = [child.name for child in visible(path) if child.is_dir()]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"folders {shown}" if names else "no folders"


def _keep_apart(path: Path, settings: DataSettings) -> None:
    """No named folder may hold another one: defects or masks would be taken for good images, or masks for defects."""
    names = {"normal": settings.normal, "anomalous": settings.anomalous, "masks": settings.masks}
    folders = {setting: (path / name).resolve() for setting, name in names.items() if name}
    for outer, inner in (("normal", "anomalous"), ("anomalous", "normal"), ("normal", "masks"), ("anomalous", "masks")):
        if outer in folders and inner in folders and folders[inner].is_relative_to(folders[outer]):
            problem = f"data.{inner} {names[inner]} lies in data.{outer} {names[outer]}"
            remedy = "name folders that do not contain each other, or list the images in a manifest.csv"
            raise UserError(problem, str(path), remedy)


def _no_images_inside(path: Path) -> UserError:
    """What is wrong, and a command for the folders that are there.

    The folder of good images is guessed from common names only: defects must not be trained on.
    """
    if categories := categories_in(path):
        problem = f"{path.name}/ holds {len(categories)} data sets: {', '.join(child.name for child in categories[:6])}"
        return UserError(problem, str(path), f"flawmap train {categories[0]}: each of them gets a model of its own")
    names = [child.name for child in visible(path) if child.is_dir() and list_images(child, recursive=True)]
    if not names:
        remedy = "give a folder with PNG, JPEG, BMP or TIFF files"
        return UserError(f"no images here ({_folder_names(path)})", str(path), remedy)
    expected = "expected train/good (MVTec AD), a manifest.csv, or images directly inside"
    good = next((name for name in names if name.lower() in GOOD_NAMES), None)
    masks = next((name for name in names if name.lower() in MASK_NAMES), None)
    bad = next((name for name in names if name not in (good, masks)), None)
    remedy = f"flawmap train {path}/GOOD, or --set data.normal=GOOD with GOOD one of {', '.join(names[:6])}"
    if good is not None:
        remedy = f"flawmap train {path / good}, or --set data.normal={good}"
        remedy += f" --set data.anomalous={bad}" if bad else ""
        remedy += f" --set data.masks={masks}" if bad and masks else ""
    return UserError(f"{path.name}/ has {_folder_names(path)}; {expected}", str(path), remedy)

"""A folder of one's own: good images in it and below it, or in sub-folders that the recipe names."""

from pathlib import Path

from flawmap.advice import command
from flawmap.data.images.formats import READ_FORMATS
from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.layouts.image_folders import (
    good_images_in,
    images_in,
    images_with_masks,
    key_of,
    normal_images,
    sub_folder,
)
from flawmap.data.layouts.mvtec import MvtecAd, good_folder
from flawmap.data.layouts.other_folders import OtherFolders
from flawmap.data.left_out import counted
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing, visible_folders, walk, without_companions
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")
GIVE_IMAGES = f"give a folder with images ({', '.join(READ_FORMATS)})"


class PlainFolder(MvtecAd):
    """Good images in a folder and below it; test images, if any, as in MVTec AD.

    Sub-folders are read if their names are harmless: days, lots, shifts, cameras, numbers. Defects must not be trained
    on, so a sub-folder such as ``bad``, ``masks`` or ``test``, or of a name that is not known, is never read as good.
    Beside images that lie directly in the folder it is left out; without any, nothing is read. A sub-folder ``good``
    says that the other images are not, so nothing is read either. In a folder that is called ``good`` itself, unknown
    names are read, too.
    """

    name = "plain folder of good images"

    def is_at(self, path: Path) -> bool:
        return path.is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Images in the folder and in its days, lots and the like.

        Raises:
            UserError: there are none, or it cannot be told which images are good; the error names what is there.
        """
        if (categories := categories_in(path)) and not walk(path, recursive=False).images:
            problem = (
                f"{path.resolve().name}/ holds {len(categories)} data sets: {', '.join(c.name for c in categories[:6])}"
            )
            first = command("flawmap", "train", categories[0])
            raise UserError(problem, str(path), f"each of them gets a model of its own: {first}")
        if meaning_of(path.resolve().name) == "good":
            found, others = good_images_in(path), OtherFolders(path, ())
        else:
            test = [sub_folder(path, name) for name in ("test", "ground_truth") if sub_folder(path, "test").is_dir()]
            found = without_companions(walk(path, passes_over=lambda place: place in test))
            others = OtherFolders(path, found.images)
        if not found.images:
            raise _no_images(path, found)
        if others.folders and (others.good or not any(image.parent == path for image in found.images)):
            raise others.not_told_apart()
        read = tuple(image for image in found.images if not others.has(image))
        return normal_images(Listing(read, found.left_out + others.left_out), path)


class NamedFolders(Layout):
    """Sub-folders that the recipe names: ``data.normal``, ``data.anomalous`` and ``data.masks``."""

    name = "folders named by the recipe"
    takes_folders_as_good = True

    def is_at(self, path: Path) -> bool:
        return path.is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Images in ``data.normal`` and below it."""
        _keep_apart(path, settings)
        found = _good_images(path, settings)
        if not found.images:
            raise UserError(f"no images in {settings.normal}", str(path), GIVE_IMAGES)
        return normal_images(found, path)

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Images in ``data.normal``, which must not be those of the training, and in ``data.anomalous``.

        Sub-folders of ``data.anomalous`` are kinds of defects; masks lie in the same sub-folders of ``data.masks``.
        """
        _keep_apart(path, settings)
        good = _good_images(path, settings)
        samples = [LabelledImage(key_of(image, path), image, False, "good") for image in good.images]
        bad = _named(path, "anomalous", settings)
        masks = _named(path, "masks", settings) if settings.masks else None
        found = images_with_masks(bad, masks, settings.mask_pattern)
        for image, mask in found.images:
            kind = bad.name if image.parent == bad else key_of(image.parent, bad)
            samples.append(LabelledImage(key_of(image, path), image, True, kind, mask))
        return Listing(tuple(samples), good.left_out + found.left_out)

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """Pixel metrics only if the recipe names a folder of masks."""
        return Protocol(self.data_name(path), pixel_pool="all" if settings.masks else "none")


def categories_in(path: Path) -> list[Path]:
    """Folders directly inside that each hold a category in the layout of MVTec AD."""
    return [child for child in visible_folders(path) if good_folder(child).is_dir()]


def _good_images(path: Path, settings: DataSettings) -> Listing[Path]:
    return good_images_in(_named(path, "normal", settings)) if settings.normal else images_in(path, recursive=False)


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
    names = [child.name for child in visible_folders(path)]
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


def _no_images(path: Path, found: Listing[Path]) -> UserError:
    left_out = f"; {counted(found.left_out)}" if found.left_out else ""
    archives = [item.path for item in found.left_out if item.path.suffix.lower() in ARCHIVES]
    remedy = f"unpack {archives[0].name}, and give the folder that it makes" if archives else GIVE_IMAGES
    return UserError(f"no images here ({_folder_names(path)}{left_out})", str(path), remedy)

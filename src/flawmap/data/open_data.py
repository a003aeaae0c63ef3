"""Opens a data location: finds out its layout, and gives normal images for training or labelled ones for a test."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.layouts import elpv, folder, manifest, mtd, mvtec, mvtec_2, nih, visa
from flawmap.data.layouts.archive import Archive
from flawmap.data.layouts.image_folders import GOOD_NAMES, list_images, visible, with_other_endings
from flawmap.data.sample import LabelledImage, NormalImage, TestData, TrainingData
from flawmap.data.subset import Groups, split_location
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

# published data sets as their archives unpack; asked before the plain layouts, some of which they resemble
ARCHIVES = (mvtec_2.ARCHIVE, visa.ARCHIVE, mtd.ARCHIVE, nih.ARCHIVE)
MASK_NAMES = ("masks", "mask", "ground_truth", "gt")
T = TypeVar("T", NormalImage, LabelledImage)


def open_training_data(location: str | Path, settings: DataSettings) -> TrainingData:
    """Normal images of a data location.

    Args:
        location: a folder in a known layout (MVTec AD, MVTec AD 2, VisA, MTD, NIH), a plain folder of good images, a
            manifest (or its folder), or ``elpv``; with ``:NAME=VALUE`` behind it, the images of one group only.
        settings: names of sub-folders, and how many images to use.

    Raises:
        UserError: no such place, a layout that is not known, or a group that has no images.
    """
    place, only = split_location(location)
    if place == "elpv":
        root = elpv.elpv_root()
        return _training("elpv", root, elpv.LAYOUT, elpv.read_training(root, only), settings, only)
    path = existing(Path(place))
    if (found := _manifest_in(path)) is not None:
        images = manifest.read_training(found, only)
        return _training(_name(found.parent), found.parent, manifest.LAYOUT, images, settings, only)
    if not settings.normal and (archive := archive_at(path)) is not None:
        return _training(_name(path), path, archive.layout, archive.read_training(path, only), settings, only)
    if mvtec.is_mvtec(path) and not settings.normal:
        images = () if only else mvtec.read_training(path)
        return _training(_name(path), path, mvtec.LAYOUT, images, settings, only)
    layout = folder.LAYOUT_NAMED if settings.normal else folder.LAYOUT
    images = () if only else folder.read_training(path, settings)
    if not images and settings.normal:
        raise UserError(f"no images in {settings.normal}", str(path), "give it PNG, JPEG, BMP or TIFF files")
    if not images and not only:
        raise _unknown_layout(path)
    return _training(_name(path), path, layout, images, settings, only)


def open_test_data(location: str | Path, settings: DataSettings) -> TestData:
    """Labelled images of a data location; only ``flawmap.evaluate.evaluate`` and the leak check ask for them.

    Raises:
        UserError: as for training data; or there are no labels.
    """
    place, only = split_location(location)
    if place == "elpv":
        root = elpv.elpv_root()
        samples = _subset_per_label(elpv.read_test(root, only), settings)
        return TestData(_part_name("elpv", only), root, elpv.LAYOUT, samples, elpv.PROTOCOL)
    path = existing(Path(place))
    if (found := _manifest_in(path)) is not None:
        layout, samples, protocol = manifest.LAYOUT, manifest.read_test(found, only), manifest.protocol(found)
        path = found.parent
    elif not settings.anomalous and (archive := archive_at(path)) is not None:
        layout, samples, protocol = archive.layout, archive.read_test(path, only), archive.protocol(path)
    elif only:
        raise _empty_part(path, only)
    elif (path / "test").is_dir() and not settings.anomalous:
        layout, samples, protocol = mvtec.LAYOUT, mvtec.read_test(path, settings), mvtec.protocol(path)
    else:
        layout, samples, protocol = (
            folder.LAYOUT_NAMED,
            folder.read_test(path, settings),
            folder.protocol(path, settings),
        )
    if not samples and only:
        raise _empty_part(path, only)
    if not samples:
        remedy = "fill test/good and test/KIND, give a manifest.csv rows of split test, or --set data.anomalous=BAD"
        raise UserError("there are no test images", str(path), remedy)
    return TestData(_part_name(_name(path), only), path, layout, _subset_per_label(samples, settings), protocol)


def find_all_test_data(location: str | Path, settings: DataSettings) -> TestData | None:
    """All labelled images of a location, whatever ``data.test_subset`` is, for the leak check; None if it has none.

    Raises:
        UserError: they are laid out or listed wrongly.
    """
    if not has_test_data(location, settings):
        return None
    return open_test_data(location, replace(settings, test_subset=None))


def archive_at(path: Path) -> Archive | None:
    """The published data set that a folder is laid out like, if any."""
    return next((archive for archive in ARCHIVES if path.is_dir() and archive.is_at(path)), None)


def load_images(location: str | Path) -> TrainingData:
    """Good images for ``AnomalyDetector.fit`` and ``calibrate``: a folder, or anything that training reads."""
    return open_training_data(location, DataSettings())


def unread_beside(data: TrainingData) -> str | None:
    """What lies beside the good images and is not read, in words; None where nothing does, or a list names them."""
    if data.layout not in (mvtec.LAYOUT, folder.LAYOUT, folder.LAYOUT_NAMED):
        return None
    others = with_other_endings(image.path for image in data.images)
    if not others:
        return None
    files = "1 file with another ending" if len(others) == 1 else f"{len(others)} files with other endings"
    return f"{files}, first: {others[0].name} ({', '.join(IMAGE_SUFFIXES)} are read)"


def has_test_data(location: str | Path, settings: DataSettings) -> bool:
    """Whether a location has test images beside its training images.

    Raises:
        UserError: they are laid out or listed wrongly.
    """
    place, only = split_location(location)
    if place == "elpv":
        return True
    path = existing(Path(place))
    if (found := _manifest_in(path)) is not None:
        return bool(manifest.read_test(found, only))
    if settings.anomalous:
        return True
    if (archive := archive_at(path)) is not None:
        return archive.has_test(path, only) and bool(archive.read_test(path, only))
    return (path / "test").is_dir() and bool(mvtec.read_test(path, settings))


def existing(path: Path) -> Path:
    """The path itself.

    Raises:
        UserError: it does not exist; names what is nearest to it.
    """
    if path.exists():
        return path
    siblings = [other.name for other in visible(path.parent)] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    hint = f"; {path.parent / near[0]} exists" if near else ""
    kind = "file" if path.suffix == ".csv" else "folder"
    remedy = (
        f"flawmap check {path.parent / near[0]}" if near else "give a folder of good images, a manifest.csv, or elpv"
    )
    raise UserError(f"no such {kind}: {path}  (you are in {Path.cwd()}{hint})", "", remedy)


def _manifest_in(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return path
        raise UserError("a data location is a folder or a .csv manifest", str(path), f"give its folder: {path.parent}")
    return path / manifest.FILE_NAME if (path / manifest.FILE_NAME).is_file() else None


def _unknown_layout(path: Path) -> UserError:
    inside = [child for child in visible(path) if child.is_dir()]
    if categories := [child for child in inside if mvtec.is_mvtec(child)]:
        shown = ", ".join(child.name for child in categories[:6])
        return UserError(
            f"{path.name}/ holds {len(categories)} data sets: {shown}",
            str(path),
            f"flawmap train {categories[0]}: each part has a model of its own",
        )
    names = [child.name for child in inside if list_images(child, recursive=True)]
    if not names:
        return UserError(
            f"no images here ({folder.folder_names(path)})",
            str(path),
            "give a folder with PNG, JPEG, BMP or TIFF files",
        )
    return UserError(
        f"{path.name}/ has {folder.folder_names(path)}; expected train/good (MVTec AD), a manifest.csv, or images "
        "directly inside",
        str(path),
        _naming(path, names),
    )


def _naming(path: Path, names: list[str]) -> str:
    """How to say which folder is which; guessed from well-known names only, for defects must not be trained on."""
    good = next((name for name in names if name.lower() in GOOD_NAMES), None)
    if good is None:
        return f"flawmap train {path}/GOOD, or --set data.normal=GOOD with GOOD one of {', '.join(names[:6])}"
    masks = next((name for name in names if name.lower() in MASK_NAMES), None)
    bad = next((name for name in names if name not in (good, masks)), None)
    remedy = f"flawmap train {path / good}, or --set data.normal={good}"
    if bad is not None:
        remedy += f" --set data.anomalous={bad}" + (f" --set data.masks={masks}" if masks else "")
    return remedy


def _name(path: Path) -> str:
    return path.resolve().name or "data"


def _part_name(name: str, only: Groups) -> str:
    """The groups' values are free text: what a path cannot hold becomes a line."""
    return "-".join((name, *(re.sub(r"[^\w.-]", "_", value) for value in only.values())))


def _empty_part(path: Path, only: Groups) -> UserError:
    wanted = ", ".join(f"{name}={value}" for name, value in only.items())
    return UserError(f"no images with {wanted}", str(path), "groups are sex and view (NIH, manifest), cell (ELPV), ...")


def _training(
    name: str, root: Path, layout: str, images: Sequence[NormalImage], settings: DataSettings, only: Groups
) -> TrainingData:
    if only and not images:
        raise _empty_part(root, only)
    if not images:
        problem = f'no good image to train in the layout "{layout}"'
        raise UserError(problem, str(root), "fill train/good, or give the list rows of good images to train")
    chosen = evenly_spaced(images, settings.train_subset)
    unused = {image.key for image in images} - {image.key for image in chosen}
    return TrainingData(_part_name(name, only), root, layout, chosen, unused=tuple(sorted(unused)))


def _subset_per_label(samples: Sequence[LabelledImage], settings: DataSettings) -> tuple[LabelledImage, ...]:
    chosen: set[str] = set()
    for label in (False, True):
        of_label = [sample for sample in samples if sample.is_anomalous is label]
        chosen |= {sample.key for sample in evenly_spaced(of_label, settings.test_subset)}
    return tuple(sample for sample in samples if sample.key in chosen)


def evenly_spaced(images: Sequence[T], count: int | None) -> tuple[T, ...]:
    """``count`` of the images (all for None), evenly over their sorted keys; always the same ones."""
    ordered = sorted(images, key=lambda image: image.key)
    if count is None or count >= len(ordered):
        return tuple(ordered)
    return tuple(ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count))

"""Opens a data location: finds its layout, and returns good images for training or labelled images for a test."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from flawmap.data.groups import IMAGE, grouped
from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.layouts.base import Layout, folder_of
from flawmap.data.layouts.elpv import LOCATION as ELPV
from flawmap.data.layouts.elpv import Elpv, elpv_path
from flawmap.data.layouts.folder import NamedFolders, PlainFolder
from flawmap.data.layouts.image_folders import unsupported_files, visible
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.layouts.mtd import MagneticTiles
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.layouts.mvtec_2 import MvtecAd2
from flawmap.data.layouts.nih import ChestXray14
from flawmap.data.layouts.visa import Visa
from flawmap.data.sample import LabelledImage, NormalImage, TestData, TrainingData
from flawmap.data.subset import Strata, split_location
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

# The first that is at a location counts: MVTec AD 2 resembles MVTec AD, and any folder may be a plain one.
LAYOUTS: tuple[Layout, ...] = (
    Elpv(),
    CsvManifest(),
    MvtecAd2(),
    Visa(),
    MagneticTiles(),
    ChestXray14(),
    MvtecAd(),
    PlainFolder(),
)
NAMED_FOLDERS = NamedFolders()
ImageT = TypeVar("ImageT", NormalImage, LabelledImage)


def load_images(location: str | Path) -> TrainingData:
    """Good images for ``AnomalyDetector.fit`` and ``calibrate``: a folder, or anything else that training reads."""
    return open_training_data(location, DataSettings())


def open_training_data(location: str | Path, settings: DataSettings) -> TrainingData:
    """The good images of a data location that are for training.

    Args:
        location: a folder in one of the :data:`LAYOUTS`, a CSV manifest, or ``elpv``; ``:NAME=VALUE`` at its end
            restricts it to one stratum.
        settings: names of sub-folders, how many images to use, and what must not be split.

    Raises:
        UserError: the location does not exist, its layout is not known, or there are no such images.
    """
    path, only, layout = _locate(location, settings.normal)
    images = grouped(layout.training(path, settings, only), settings.group_by)
    if not images:
        problem = f'no good image to train in the layout "{layout.name}"'
        remedy = "fill train/good, or give the list rows of good images to train"
        raise _empty_stratum(path, only, layout) if only else UserError(problem, str(folder_of(path)), remedy)
    chosen = evenly_spaced(images, settings.train_subset)
    unused = tuple(sorted({image.key for image in images} - {image.key for image in chosen}))
    name = _name_with_strata(layout.data_name(path), only)
    grouped_by = _grouped_by(path, layout, settings)
    return TrainingData(name, folder_of(path), layout.name, chosen, unused=unused, grouped_by=grouped_by)


def open_test_data(location: str | Path, settings: DataSettings) -> TestData:
    """The labelled images of a data location, for an evaluation.

    Raises:
        UserError: as :func:`open_training_data`; or there are no labelled images.
    """
    path, only, layout = _locate(location, settings.anomalous)
    samples = layout.test(path, settings, only)
    if not samples:
        remedy = "add test/good and test/KIND folders, give a manifest.csv rows of split test, or name folders inside: "
        remedy += "--set data.normal=GOOD --set data.anomalous=BAD"
        error = UserError("there are no labelled test images", str(folder_of(path)), remedy)
        raise _empty_stratum(path, only, layout) if only else error
    chosen: set[str] = set()
    for label in (False, True):
        labelled = [sample for sample in samples if sample.is_anomalous is label]
        chosen |= {sample.key for sample in evenly_spaced(labelled, settings.test_subset)}
    return _test_data(path, only, layout, settings, tuple(sample for sample in samples if sample.key in chosen))


def find_all_test_data(location: str | Path, settings: DataSettings) -> TestData | None:
    """All labelled images, whatever ``data.test_subset`` is, for the leak check; None if the location has none.

    Raises:
        UserError: as :func:`open_test_data`.
    """
    path, only, layout = _locate(location, settings.anomalous)
    samples = layout.test(path, settings, only) if layout.has_test(path, only) else ()
    return _test_data(path, only, layout, settings, samples) if samples else None


def unread_files(data: TrainingData) -> str | None:
    """Files next to the good images that are not read, in words; None if there are none, or if a list names the images.

    They are not an error, but a user may have meant them.
    """
    layouts = [layout for layout in (*LAYOUTS, NAMED_FOLDERS) if layout.name == data.layout]
    files = unsupported_files(image.path for image in data.images)
    if not files or not any(layout.reads_whole_folders for layout in layouts):
        return None
    noun = "file" if len(files) == 1 else "files"
    return f"{len(files)} {noun} of another type, first: {files[0].name} ({', '.join(IMAGE_SUFFIXES)} are read)"


def find_layout(path: Path, named_folder: str | None = None) -> Layout:
    """The layout of the data at an existing path; ``named_folder`` is the recipe's for the images asked for, if any.

    Raises:
        UserError: a file that is not a manifest.
    """
    layout = next((layout for layout in LAYOUTS if layout.is_at(path)), None)
    if layout is None:
        problem = "a data location is a folder or a .csv manifest"
        raise UserError(problem, str(path), f"give its folder: {path.parent}")
    return NAMED_FOLDERS if named_folder and layout.yields_to_named_folders else layout


def place_of(name: str) -> Path:
    """The path of a location without its strata.

    Raises:
        UserError: it does not exist; names the most similar path.
    """
    if name == ELPV:
        return elpv_path()
    path = Path(name)
    if path.exists():
        return path
    siblings = [other.name for other in visible(path.parent)] if path.parent.is_dir() else []
    similar = get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    hint, remedy = "", "give a folder of good images, a manifest.csv, or elpv"
    if similar:
        hint, remedy = f"; {path.parent / similar[0]} exists", f"flawmap check {path.parent / similar[0]}"
    kind = "file" if path.suffix == ".csv" else "folder"
    raise UserError(f"no such {kind}: {path}  (you are in {Path.cwd()}{hint})", "", remedy)


def evenly_spaced(images: Sequence[ImageT], count: int | None) -> tuple[ImageT, ...]:
    """``count`` of the images (all for None), evenly over their sorted keys; always the same ones."""
    ordered = sorted(images, key=lambda image: image.key)
    if count is None or count >= len(ordered):
        return tuple(ordered)
    return tuple(ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count))


def _locate(location: str | Path, named_folder: str | None) -> tuple[Path, Strata, Layout]:
    name, only = split_location(location)
    path = place_of(name)
    layout = find_layout(path, named_folder)
    if not only.keys() <= set(layout.strata):
        raise _empty_stratum(path, only, layout)
    return path, only, layout


def _test_data(
    path: Path, only: Strata, layout: Layout, settings: DataSettings, samples: tuple[LabelledImage, ...]
) -> TestData:
    name = _name_with_strata(layout.data_name(path), only)
    samples, grouped_by = grouped(samples, settings.group_by), _grouped_by(path, layout, settings)
    protocol = layout.protocol(path, settings)
    return TestData(name, folder_of(path), layout.name, samples, protocol, grouped_by=grouped_by)


def _grouped_by(path: Path, layout: Layout, settings: DataSettings) -> str | None:
    if settings.group_by is None:
        return layout.grouped_by(path)
    return None if settings.group_by == IMAGE else settings.group_by


def _name_with_strata(name: str, only: Strata) -> str:
    """Values of strata are free text: characters that a path cannot hold become underscores."""
    return "-".join((name, *(re.sub(r"[^\w.-]", "_", value) for value in only.values())))


def _empty_stratum(path: Path, only: Strata, layout: Layout) -> UserError:
    wanted = ", ".join(f"{name}={value}" for name, value in only.items())
    remedy = (
        f"its strata are {', '.join(layout.strata)}" if layout.strata else "this layout has no strata: leave them out"
    )
    return UserError(f"no images with {wanted}", str(folder_of(path)), remedy)

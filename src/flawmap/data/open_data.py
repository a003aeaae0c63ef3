"""Opens a data location: finds its layout, and returns good images for training or labelled images for a test."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from flawmap.advice import command
from flawmap.data.annotations.marked import marked_by_masks, refuse_marked, with_annotations_named
from flawmap.data.groups import IMAGE, grouped
from flawmap.data.layouts.base import Layout, folder_of
from flawmap.data.layouts.elpv import LOCATION as ELPV
from flawmap.data.layouts.elpv import Elpv, elpv_path
from flawmap.data.layouts.folder import NamedFolders, PlainFolder
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.layouts.mtd import MagneticTiles
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.layouts.mvtec_2 import MvtecAd2
from flawmap.data.layouts.mvtec_loco import MvtecLoco
from flawmap.data.layouts.nih import ChestXray14
from flawmap.data.layouts.registered import registered_layout_at
from flawmap.data.layouts.visa import Visa
from flawmap.data.products import PRODUCT, with_products
from flawmap.data.sample import FileRemark, LabelledImage, NormalImage, Protocol, TestData, TrainingData
from flawmap.data.similar_name import similar_beside
from flawmap.data.subset import Strata, split_location
from flawmap.data.walk import Listing
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from flawmap.storage.address import is_address
from flawmap.storage.local_copy import local_copy

# The first that is at a location counts: MVTec AD 2 and LOCO resemble MVTec AD, and any folder may be a plain one.
LAYOUTS: tuple[Layout, ...] = (
    Elpv(),
    CsvManifest(),
    MvtecAd2(),
    MvtecLoco(),
    Visa(),
    MagneticTiles(),
    ChestXray14(),
    MvtecAd(),
    PlainFolder(),
)
NAMED_FOLDERS = NamedFolders()
ImageT = TypeVar("ImageT", NormalImage, LabelledImage)
Location = str | Path | Sequence[str | Path]  # of data: one, or several that count as one data set


@dataclass(frozen=True)
class Place:
    """Where data lies, and how it is read; keys of its images begin with ``prefix``."""

    name: str
    prefix: str
    path: Path
    only: Strata
    layout: Layout


def load_images(location: Location) -> TrainingData:
    """Good images for ``AnomalyDetector.fit`` and ``calibrate``: a folder, or anything else that training reads."""
    return open_training_data(location, DataSettings())


def open_training_data(location: Location, settings: DataSettings) -> TrainingData:
    """The good images of a data location that are for training.

    Args:
        location: a folder in one of the :data:`LAYOUTS`, a CSV manifest, or ``elpv``; ``:NAME=VALUE`` at its end
            restricts it to one stratum. Of several locations, keys begin with the name of theirs.
        settings: names of sub-folders, how many images to use, and what must not be split.

    Raises:
        UserError: a location does not exist, its layout is not known, or there are no such images; or an annotation
            file of another tool marks a defect on one of them.
    """
    places, images, left_out, remarks = _locate(location, settings.normal), [], (), ()
    for place in places:
        found = _training(place, settings)
        if not found.images:
            problem = f'no good image to train in the layout "{place.layout.name}"'
            remedy = "give the list rows of good images to train"
            error = UserError(problem, str(folder_of(place.path)), remedy)
            raise _empty_stratum(place.path, place.only, place.layout) if place.only else error
        images += [replace(image, key=place.prefix + image.key) for image in found.images]
        left_out, remarks = left_out + found.left_out, remarks + _prefixed(found.remarks, place)
    name, root, layout = _described(places)
    images = with_products(grouped(images, settings.group_by), settings.product_by, str(root))
    chosen = evenly_spaced(images, settings.train_subset)
    unused = tuple(sorted({image.key for image in images} - {image.key for image in chosen}))
    grouped_by = _grouped_by(places, settings)
    return TrainingData(
        name, root, layout, chosen, unused=unused, grouped_by=grouped_by, left_out=left_out, remarks=remarks
    )


def _training(place: Place, settings: DataSettings) -> Listing[NormalImage]:
    """The good images of one place; those of a folder are compared with the annotations of other tools in it."""
    if not place.layout.takes_folders_as_good:
        return place.layout.training(place.path, settings, place.only)
    try:
        found = place.layout.training(place.path, settings, place.only)
    except UserError as error:
        raise with_annotations_named(error, place.path) from error
    remarks = refuse_marked(place.path, [image.path for image in found.images])
    remarks += marked_by_masks(place.path, found.left_out)
    return replace(found, remarks=found.remarks + remarks)


def open_test_data(location: Location, settings: DataSettings) -> TestData:
    """The labelled images of a data location, for an evaluation.

    Raises:
        UserError: as :func:`open_training_data`; one of the locations has no labelled images, or several count pixels
            in different ways.
    """
    places = _locate(location, settings.anomalous)
    data, counts = _read_tests(places, settings)
    for place, count in zip(places, counts, strict=True):
        if not count:
            remedy = "add test/good and test/KIND folders, give a manifest.csv rows of split test, or name folders "
            remedy += f"inside: {_folders_of_a_test(folder_of(place.path))}"
            error = UserError("there are no labelled test images", str(folder_of(place.path)), remedy)
            raise _empty_stratum(place.path, place.only, place.layout) if place.only else error
    return subset_of_tests(data, settings.test_subset)


def _folders_of_a_test(path: Path) -> str:
    """The settings that make a test of a folder's sub-folders, with their names where it is plain which is which."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    good = [name for name in names if meaning_of(name) == "good"]
    bad = [name for name in names if meaning_of(name) not in ("good", "masks")]
    if len(good) != 1 or len(bad) != 1:
        return "--set data.normal=GOOD --set data.anomalous=BAD"
    return command("--set", f"data.normal={good[0]}", "--set", f"data.anomalous={bad[0]}")


def find_all_test_data(location: Location, settings: DataSettings) -> TestData | None:
    """All labelled images, whatever ``data.test_subset`` is, for the leak check.

    Returns:
        None if the location has no test. There may be no images but files that are left out.

    Raises:
        UserError: as :func:`open_test_data`, but a location may have no labelled images.
    """
    places = [place for place in _locate(location, settings.anomalous) if place.layout.has_test(place.path, place.only)]
    data, _ = _read_tests(places, settings) if places else (None, [])
    return data if data is not None and (data.samples or data.left_out) else None


def subset_of_tests(data: TestData, count: int | None) -> TestData:
    """At most ``count`` good and as many anomalous images of the data, evenly spaced; all for None."""
    chosen: set[str] = set()
    for label in (False, True):
        labelled = [sample for sample in data.samples if sample.is_anomalous is label]
        chosen |= {sample.key for sample in evenly_spaced(labelled, count)}
    return replace(data, samples=tuple(sample for sample in data.samples if sample.key in chosen))


def locations_of(location: Location) -> tuple[str | Path, ...]:
    """One location or several, as several."""
    return (location,) if isinstance(location, str | Path) else tuple(location)


def absolute_locations(location: Location) -> list[str]:
    """Each location for readers in another folder; a name such as elpv stays as it is, and so do strata."""
    found = []
    for one in locations_of(location):
        name, only = split_location(one)
        strata = ",".join(f"{key}={value}" for key, value in only.items())
        found.append((os.path.abspath(name) if Path(name).exists() else name) + (f":{strata}" if strata else ""))
    return found


def find_layout(path: Path, named_folder: str | None = None) -> Layout:
    """The layout of the data at an existing path; ``named_folder`` is the recipe's for the images asked for, if any.

    Raises:
        UserError: a file that is not a manifest; or a package that registers a layout is broken.
    """
    layout = next((layout for layout in LAYOUTS if layout.is_at(path)), None)
    if layout is None or isinstance(layout, PlainFolder):  # that any folder is; a plugin may know better
        layout = registered_layout_at(path) or layout
    if layout is None:
        problem = "a data location is a folder or a .csv manifest"
        raise UserError(problem, str(path), f"give its folder: {path.parent}")
    return NAMED_FOLDERS if named_folder and layout.yields_to_named_folders else layout


def place_of(name: str) -> Path:
    """The path of a location without its strata; of an address in a store, that of a copy.

    Raises:
        UserError: it does not exist; names the most similar path.
    """
    if is_address(name):
        return local_copy(name)
    if name == ELPV:
        return elpv_path()
    path = Path(name)
    if path.exists():
        return path
    hint, remedy = "", "give a folder of good images, a manifest.csv, or elpv"
    if near := similar_beside(path):
        hint, remedy = f"; {near} exists", command("flawmap", "check", near)
    kind = "file" if path.suffix == ".csv" else "folder"
    raise UserError(f"no such {kind}: {path}  (you are in {Path.cwd()}{hint})", "", remedy)


def evenly_spaced(images: Sequence[ImageT], count: int | None) -> tuple[ImageT, ...]:
    """``count`` of the images (all for None), evenly over their sorted keys; always the same ones."""
    ordered = sorted(images, key=lambda image: image.key)
    if count is None or count >= len(ordered):
        return tuple(ordered)
    return tuple(ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count))


def _locate(location: Location, named_folder: str | None) -> list[Place]:
    """Where the data is; of several locations, each with a prefix of its own."""
    places: list[Place] = []
    locations = locations_of(location)
    for one in locations:
        name, only = split_location(one)
        path = place_of(name)
        layout = find_layout(path, named_folder)
        if not only.keys() <= set(layout.strata):
            raise _empty_stratum(path, only, layout)
        name = _name_with_strata(layout.data_name(path), only)
        taken, prefix, number = {place.prefix for place in places}, f"{name}/", 2
        while prefix in taken:
            prefix, number = f"{name}-{number}/", number + 1
        places.append(Place(name, prefix if len(locations) > 1 else "", path, only, layout))
    return places


def _read_tests(places: Sequence[Place], settings: DataSettings) -> tuple[TestData, list[int]]:
    """All labelled images, and how many there are at each place."""
    samples, left_out, remarks, protocols, counts = [], (), (), [], []
    for place in places:
        found = place.layout.test(place.path, settings, place.only)
        samples += [replace(sample, key=place.prefix + sample.key) for sample in found.images]
        left_out, remarks = left_out + found.left_out, remarks + _prefixed(found.remarks, place)
        counts.append(len(found.images))
        if found.images:
            protocols.append(place.layout.protocol(place.path, settings))
    name, root, layout = _described(places)
    if len({protocol.pixel_pool for protocol in protocols}) > 1:
        problem = "these data sets count pixels differently: some have masks or boxes, others have none"
        raise UserError(problem, str(root), "evaluate them one by one, each with an --output of its own")
    protocol = protocols[0] if protocols else Protocol(name, "none")
    if len(places) > 1:
        strata = dict.fromkeys(stratum for protocol in protocols for stratum in protocol.strata)
        saturates = all(protocol.saturated_overlap for protocol in protocols)
        protocol = Protocol(name, protocol.pixel_pool, tuple(strata), saturated_overlap=saturates)
    images, grouped_by = grouped(samples, settings.group_by), _grouped_by(places, settings)
    images = with_products(images, settings.product_by, str(root))
    if PRODUCT not in protocol.strata and any(image.product for image in images):
        protocol = replace(protocol, strata=(*protocol.strata, PRODUCT))
    data = TestData(name, root, layout, images, protocol, grouped_by=grouped_by, left_out=left_out, remarks=remarks)
    return data, counts


def _prefixed(remarks: Sequence[FileRemark], place: Place) -> tuple[FileRemark, ...]:
    return tuple(replace(remark, key=place.prefix + remark.key) for remark in remarks)


def _grouped_by(places: Sequence[Place], settings: DataSettings) -> str | None:
    if settings.group_by is not None:
        return None if settings.group_by == IMAGE else settings.group_by
    names = dict.fromkeys(place.layout.grouped_by(place.path) for place in places)
    return " or ".join(name for name in names if name) or None


def _described(places: Sequence[Place]) -> tuple[str, Path, str]:
    """Name, root and layout of the data of all places."""
    first, roots = places[0], [folder_of(place.path) for place in places]
    if len(places) == 1:
        return first.name, roots[0], first.layout.name
    layouts = dict.fromkeys(place.layout.name for place in places)
    try:
        root = Path(os.path.commonpath([os.path.abspath(root) for root in roots]))
    except ValueError:  # on several drives
        root = roots[0]
    return f"{first.name}-and-{len(places) - 1}-more", root, "; ".join(layouts)


def _name_with_strata(name: str, only: Strata) -> str:
    """Values of strata are free text: characters that a path cannot hold become underscores."""
    return "-".join((name, *(re.sub(r"[^\w.-]", "_", value) for value in only.values())))


def _empty_stratum(path: Path, only: Strata, layout: Layout) -> UserError:
    wanted = ", ".join(f"{name}={value}" for name, value in only.items())
    remedy = (
        f"its strata are {', '.join(layout.strata)}" if layout.strata else "this layout has no strata: leave them out"
    )
    return UserError(f"no images with {wanted}", str(folder_of(path)), remedy)

"""NIH ChestX-ray14 as published: Data_Entry_2017*.csv, BBox_List_2017.csv, the official split, images*/ folders.

The location chooses one of three protocols:

- ``nih``: the paper's. Normal images ("No Finding") in train_val_list.txt are for training (50,500); test_list.txt is
  the test (9,861 normal, 15,735 abnormal). ``nih:sex=M`` restricts both to one sex, ``view=PA`` to one view.
- ``nih:list=adult_pa,sex=M``: the lists of PII (github.com/jemtan/PII): posterior-anterior images of adults, one sex
  at a time.
- ``nih:list=curated,sex=M``: the small curated lists of NSA (github.com/hmsch/natural-synthetic-anomalies), for image
  metrics: only 16 of their anomalies have boxes.

Lists that are not official must lie in the folder itself, or in ``chest_xray_lists``, ``train_lists`` or
``test_lists`` inside it. Boxes are in pixels of the 1024 px originals and are scaled to the images at hand; their
union is the ground truth.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from flawmap.data.groups import group_name
from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import key_of
from flawmap.data.layouts.tables import read_table
from flawmap.data.sample import Boxes, LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata, is_chosen
from flawmap.data.walk import Listing, visible_folders, walk
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

NORMAL = "No Finding"
BOX_SIDE_PX = 1024  # of the originals
SEX_IN_LISTS = {"M": "Male", "F": "Female"}
LISTS = {"curated": "_curated_list.txt", "adult_pa": "_list.txt"}
LIST_FOLDERS = (".", "chest_xray_lists", "train_lists", "test_lists")
REMEDY = "download it again from nihcc.app.box.com/v/ChestXray-NIHCC"

PATIENT = "Patient ID"


@dataclass(frozen=True)
class Entry:
    """A row of the table of images."""

    findings: str
    strata: dict[str, str]
    patient: str | None


Entries = dict[str, Entry]  # by file name


class ChestXray14(Layout):
    """The unpacked archives; sex and view are also reported separately, pixels count in images with boxes."""

    name = "NIH ChestX-ray14 (Data_Entry_2017, official split)"
    published = Protocol("NIH ChestX-ray14", "truth_only", ("sex", "view"))
    strata = ("list", "sex", "view")

    def is_at(self, path: Path) -> bool:
        return any(path.glob("Data_Entry_2017*.csv"))

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Normal images in the training list."""
        list_name, strata = _list_and_strata(only)
        entries = _entries(path)
        if list_name is None:
            listed = _lines(path / "train_val_list.txt")
            names = [name for name in listed if _entry(entries, name).findings == NORMAL]
        else:
            names = _unofficial(path, list_name, strata, "norm", "train")
            if wrong := [name for name in names if _entry(entries, name).findings != NORMAL]:
                problem = f"{len(wrong)} images of the training list have findings, first: {wrong[0]}"
                raise UserError(problem, "Data_Entry_2017", "training takes normal images only; copy the list again")
        images = _listed_images(names, entries, strata, path)
        normal = (NormalImage(key_of(image, path), image, group=entries[image.name].patient) for image in images)
        return Listing(tuple(normal))

    def has_test(self, path: Path, only: Strata) -> bool:
        """Whether the boxes were downloaded, and the test list unless another one is asked for."""
        list_name, _ = _list_and_strata(only)
        has_list = list_name is not None or (path / "test_list.txt").is_file()
        return has_list and (path / "BBox_List_2017.csv").is_file()

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Images in the test list with their findings, boxes, sex and view."""
        list_name, strata = _list_and_strata(only)
        entries, boxes = _entries(path), _boxes(path)
        if list_name is None:
            names = _lines(path / "test_list.txt")
        else:
            names = _unofficial(path, list_name, strata, "norm", "test")
            names += _unofficial(path, list_name, strata, "anomaly", "test")
        samples = []
        for image in _listed_images(names, entries, strata, path):
            entry = entries[image.name]
            findings = entry.findings
            is_anomalous = findings != NORMAL
            kind = "good" if not is_anomalous else "several findings" if "|" in findings else findings
            truth = Boxes(tuple(boxes[image.name]), BOX_SIDE_PX) if is_anomalous and image.name in boxes else None
            facts = is_anomalous, kind, truth, entry.strata, entry.patient
            samples.append(LabelledImage(key_of(image, path), image, *facts))
        return Listing(tuple(samples))

    def grouped_by(self, path: Path) -> str | None:
        """Patients, of whom many have several images."""
        columns, _ = _table(path)
        return "patient" if PATIENT in columns else None


def _list_and_strata(only: Strata) -> tuple[str | None, Strata]:
    """The name of the list that is asked for, None for the official one, and the other restrictions."""
    name = only.get("list")
    if name is not None and name not in LISTS:
        raise UserError(f"there is no list {name!r} of chest X-rays", "list", f"one of {', '.join(LISTS)}")
    return name, {stratum: value for stratum, value in only.items() if stratum != "list"}


def _entries(path: Path) -> Entries:
    """The table of images; the edition of 2017 has other columns than that of 2020."""
    columns, rows = _table(path)
    sex = "Patient Sex" if "Patient Sex" in columns else "Patient Gender"
    return {
        row["Image Index"]: Entry(
            row["Finding Labels"],
            {"sex": row.get(sex, ""), "view": row["View Position"]},
            group_name(row.get(PATIENT)),
        )
        for _, row in rows
    }


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    table = min(path.glob("Data_Entry_2017*.csv"))
    return read_table(table, "table of images", ("Image Index", "Finding Labels", "View Position"), REMEDY)


def _entry(entries: Entries, name: str) -> Entry:
    if name not in entries:
        raise UserError(f"the list names {name}, which is not in the table of images", "Data_Entry_2017", REMEDY)
    return entries[name]


def _boxes(path: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """Boxes by file name. The table's header is broken, so columns are taken by position."""
    table, boxes = path / "BBox_List_2017.csv", defaultdict(list)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            for row in list(csv.reader(file))[1:]:
                x, y, width, height = (float(value) for value in row[2:6])
                boxes[row[0]].append((x, y, width, height))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"the table of boxes cannot be read: {error}", str(table), REMEDY) from error
    return dict(boxes)


def _lines(path: Path) -> list[str]:
    try:
        return [Path(line).name for line in path.read_text(encoding="utf-8").split()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("a list of chest X-rays cannot be read", str(path), REMEDY) from error


def _unofficial(path: Path, list_name: str, strata: Strata, label: str, split: str) -> list[str]:
    """The names in PII's or NSA's list for the sex that is asked for, or for both."""
    names = []
    for sex, word in SEX_IN_LISTS.items():
        if strata.get("sex", sex) != sex:
            continue
        file = f"{label}_{word}AdultPA_{split}{LISTS[list_name]}"
        copies = [path / folder / file for folder in LIST_FOLDERS if (path / folder / file).is_file()]
        if not copies:
            raise UserError(f"the list {file} is missing", str(path), f"copy it into {path / LIST_FOLDERS[1]}")
        names += _lines(copies[0])
    return names


def _listed_images(names: list[str], entries: Entries, strata: Strata, path: Path) -> list[Path]:
    """Files of the listed images of these strata. The archives unpack into images_001/images, or into one folder."""
    names = [name for name in names if is_chosen(_entry(entries, name).strata, strata)]
    folders = [folder for folder in visible_folders(path) if folder.name.startswith("images")]
    files = {image.name: image for folder in folders for image in walk(folder).images}
    if missing := [name for name in names if name not in files]:
        problem = f"{len(missing)} of {len(names)} listed images are missing, first: {missing[0]}"
        remedy = "unpack all twelve archives of images, or list the images that you have in a manifest.csv"
        raise UserError(problem, str(path), remedy)
    return [files[name] for name in names]

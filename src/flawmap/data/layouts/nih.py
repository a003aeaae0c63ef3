"""NIH ChestX-ray14 as published: Data_Entry_2017*.csv, BBox_List_2017.csv, the official split, images*/ folders.

Three protocols, chosen by the location:

- ``nih``: normal images ("No Finding") of train_val_list.txt are trained on (50,500), test_list.txt is the test (9,861
  normal, 15,735 abnormal). This is the paper's; ``nih:sex=M`` restricts both to one sex, ``view=PA`` to one view.
- ``nih:list=adult_pa,sex=M``: the lists of PII (github.com/jemtan/PII), adults seen from behind, one sex at a time.
- ``nih:list=curated,sex=M``: the small curated lists of NSA (github.com/hmsch/natural-synthetic-anomalies), for image
  metrics: only 16 of their anomalies have boxes.

Lists that are not official must lie in the folder, in ``chest_xray_lists``, ``train_lists`` or ``test_lists`` below it.
Boxes are in pixels of the 1024 px originals and are scaled to the images that are there; their union is the truth.
"""

import csv
from collections import defaultdict
from pathlib import Path

from flawmap.data.images.files import image_size_px
from flawmap.data.layouts.archive import Archive
from flawmap.data.layouts.image_folders import key_of, list_images, visible
from flawmap.data.sample import Boxes, LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Groups, is_chosen
from flawmap.errors import UserError

NORMAL = "No Finding"
BOX_SIDE_PX = 1024  # of the originals
SEX_IN_LISTS = {"M": "Male", "F": "Female"}
LISTS = {"curated": "_curated_list.txt", "adult_pa": "_list.txt"}
LIST_FOLDERS = (".", "chest_xray_lists", "train_lists", "test_lists")
AGAIN = "download it again from nihcc.app.box.com/v/ChestXray-NIHCC"


def is_at(root: Path) -> bool:
    """Whether the table of all images is here."""
    return any(root.glob("Data_Entry_2017*.csv"))


def read_training(root: Path, only: Groups) -> tuple[NormalImage, ...]:
    """Normal images of the training list. Boxes and findings of the others are not kept.

    Raises:
        UserError: a table, list or image is missing, or a list of normal images names an abnormal one.
    """
    chosen, groups = _list_name(only), _without_list(only)
    entries, files = _entries(root), _files(root)
    if chosen is None:
        listed = [name for name in _lines(root / "train_val_list.txt") if _entry(entries, name)[0] == NORMAL]
    else:
        listed = _unofficial(root, chosen, groups, "norm", "train")
        _refuse_abnormal(listed, entries)
    names = [name for name in listed if is_chosen(_entry(entries, name)[1], groups)]
    return tuple(NormalImage(key_of(path, root), path) for path in _found(names, files, root))


def read_test(root: Path, only: Groups) -> tuple[LabelledImage, ...]:
    """Images of the test list with their findings, boxes, sex and view.

    Raises:
        UserError: a table, list or image is missing.
    """
    chosen, groups = _list_name(only), _without_list(only)
    entries, boxes, files = _entries(root), _boxes(root), _files(root)
    if chosen is None:
        listed = _lines(root / "test_list.txt")
    else:
        normal = _unofficial(root, chosen, groups, "norm", "test")
        listed = normal + _unofficial(root, chosen, groups, "anomaly", "test")
    names = [name for name in listed if is_chosen(_entry(entries, name)[1], groups)]
    samples = []
    for name, path in zip(names, _found(names, files, root), strict=True):
        findings, groups_of_image = _entry(entries, name)
        anomalous = findings != NORMAL
        kind = "good" if not anomalous else "several findings" if "|" in findings else findings
        truth = _scaled(boxes[name], path) if anomalous and name in boxes else None
        samples.append(LabelledImage(key_of(path, root), path, anomalous, kind, truth, groups_of_image))
    return tuple(samples)


def has_test(root: Path, only: Groups) -> bool:
    """Whether the boxes and, unless other lists are asked for, the test list were downloaded, too."""
    is_listed = _list_name(only) is not None or (root / "test_list.txt").is_file()
    return is_listed and (root / "BBox_List_2017.csv").is_file()


def protocol(root: Path) -> Protocol:
    """Pixels of the boxed images only; sex and view are also reported apart."""
    return Protocol(root.resolve().name, "truth_only", ("sex", "view"))


def _list_name(only: Groups) -> str | None:
    name = only.get("list")
    if name is not None and name not in LISTS:
        raise UserError(f"there is no list {name!r} of chest X-rays", "list", f"one of {', '.join(LISTS)}")
    return name


def _without_list(only: Groups) -> Groups:
    return {name: value for name, value in only.items() if name != "list"}


def _entries(root: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Findings and groups of each image by its file name; the columns are those of 2017 or of 2020."""
    path = min(root.glob("Data_Entry_2017*.csv"))
    entries = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                sex = row["Patient Sex"] if "Patient Sex" in row else row["Patient Gender"]
                entries[row["Image Index"]] = (row["Finding Labels"], {"sex": sex, "view": row["View Position"]})
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(f"the table of images cannot be read: {error}", str(path), AGAIN) from error
    return entries


def _entry(entries: dict[str, tuple[str, dict[str, str]]], name: str) -> tuple[str, dict[str, str]]:
    if name not in entries:
        raise UserError(f"the list names {name}, which the table of images does not know", "Data_Entry_2017", AGAIN)
    return entries[name]


def _boxes(root: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """Boxes by file name; the table's header has broken names, so that columns count by their place."""
    path = root / "BBox_List_2017.csv"
    boxes = defaultdict(list)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in list(csv.reader(file))[1:]:
                x, y, width, height = (float(value) for value in row[2:6])
                boxes[row[0]].append((x, y, width, height))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"the table of boxes cannot be read: {error}", str(path), AGAIN) from error
    return dict(boxes)


def _scaled(boxes: list[tuple[float, float, float, float]], path: Path) -> Boxes | None:
    try:
        width, height = image_size_px(path)
    except UserError:  # an unreadable image is reported when all are decoded
        return None
    across, down = width / BOX_SIDE_PX, height / BOX_SIDE_PX
    return Boxes(tuple((x * across, y * down, w * across, h * down) for x, y, w, h in boxes))


def _lines(path: Path) -> list[str]:
    try:
        return [Path(line).name for line in path.read_text(encoding="utf-8").split()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("a list of chest X-rays cannot be read", str(path), AGAIN) from error


def _unofficial(root: Path, chosen: str, groups: Groups, label: str, split: str) -> list[str]:
    """The names of PII's or NSA's list, of the sex that is asked for or of both."""
    names = []
    for sex, word in SEX_IN_LISTS.items():
        if groups.get("sex", sex) != sex:
            continue
        file = f"{label}_{word}AdultPA_{split}{LISTS[chosen]}"
        found = [root / folder / file for folder in LIST_FOLDERS if (root / folder / file).is_file()]
        if not found:
            raise UserError(f"the list {file} is missing", str(root), f"copy it into {root / LIST_FOLDERS[1]}")
        names += _lines(found[0])
    return names


def _refuse_abnormal(names: list[str], entries: dict[str, tuple[str, dict[str, str]]]) -> None:
    wrong = [name for name in names if _entry(entries, name)[0] != NORMAL]
    if wrong:
        raise UserError(
            f"{len(wrong)} images of the training list have findings, first: {wrong[0]}",
            "Data_Entry_2017",
            "training takes normal images only; copy the list again",
        )


def _files(root: Path) -> dict[str, Path]:
    """Every image below images*/ by its name: the archives unpack into images_001/images, or into one folder."""
    folders = [path for path in visible(root) if path.is_dir() and path.name.startswith("images")]
    return {path.name: path for folder in folders for path in list_images(folder, recursive=True)}


def _found(names: list[str], files: dict[str, Path], root: Path) -> list[Path]:
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} listed images are missing, first: {missing[0]}",
            str(root),
            "unpack all twelve archives of images, or list what you have in a manifest.csv",
        )
    return [files[name] for name in names]


LAYOUT = "NIH ChestX-ray14 (Data_Entry_2017, official split)"
ARCHIVE = Archive(LAYOUT, is_at, read_training, read_test, protocol, has_test)

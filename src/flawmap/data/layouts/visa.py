"""The VisA layout: ROOT/OBJECT/Data/{Images/{Normal,Anomaly},Masks/Anomaly}, split by ROOT/split_csv/1cls.csv.

The list has the columns object, split (train, test), label (normal, anomaly), image and mask, with paths relative to
ROOT. A data location is the folder of one object.
"""

import csv
from pathlib import Path

from flawmap.data.layouts.archive import Archive
from flawmap.data.sample import LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Groups
from flawmap.errors import UserError

SPLIT_FILE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def is_at(root: Path) -> bool:
    """Whether ``root`` is laid out like one object of VisA."""
    return (root / "Data" / "Images" / "Normal").is_dir()


def read_training(root: Path, only: Groups) -> tuple[NormalImage, ...]:
    """The normal images that the list puts into training; no mask is looked at.

    Raises:
        UserError: the list is missing or damaged, or puts an anomalous image into training.
    """
    rows = [] if only else [row for row in _rows(root) if row["split"] == "train"]
    if wrong := [row["image"] for row in rows if row["label"] != "normal"]:
        raise UserError(
            f"{wrong[0]} is in split train but not normal", str(_split_file(root)), "unpack the archive again"
        )
    return tuple(NormalImage(_key(row["image"], root), _file(row["image"], root)) for row in rows)


def read_test(root: Path, only: Groups) -> tuple[LabelledImage, ...]:
    """The images that the list puts into the test, anomalous ones with their masks.

    Raises:
        UserError: the list is missing or damaged.
    """
    samples = []
    for row in [] if only else _rows(root):
        if row["split"] != "test":
            continue
        path, anomalous = _file(row["image"], root), row["label"] != "normal"
        mask = MaskFile(_file(row["mask"], root)) if anomalous and row["mask"] else None
        kind = "anomaly" if anomalous else "good"
        samples.append(LabelledImage(_key(row["image"], root), path, anomalous, kind, mask))
    return tuple(samples)


def protocol(root: Path) -> Protocol:
    """All pixels of all test images."""
    return Protocol(root.resolve().name)


def _split_file(root: Path) -> Path:
    return root.resolve().parent / SPLIT_FILE


def _rows(root: Path) -> list[dict[str, str]]:
    path = _split_file(root)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {name: (value or "").strip() for name, value in row.items() if name} for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "VisA's archive has it; or list the images in a manifest.csv"
        raise UserError("VisA's list of splits cannot be read", str(path), remedy) from error
    if any(name not in row for row in rows for name in COLUMNS):
        raise UserError(f"the list has other columns than {', '.join(COLUMNS)}", str(path), "unpack the archive again")
    return [row for row in rows if row["object"] == root.resolve().name]


def _file(listed: str, root: Path) -> Path:
    return root / _key(listed, root)


def _key(listed: str, root: Path) -> str:
    """A path of the list, which begins with the object's name, relative to the object's folder."""
    return listed.removeprefix(f"{root.resolve().name}/")


ARCHIVE = Archive("VisA (split_csv/1cls.csv)", is_at, read_training, read_test, protocol)

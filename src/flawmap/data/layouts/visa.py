"""The VisA layout: ROOT/OBJECT/Data/{Images/{Normal,Anomaly},Masks/Anomaly}, split by ROOT/split_csv/1cls.csv.

The list has the columns object, split (train, test), label (normal, anomaly), image and mask, with paths relative to
ROOT. A data location is the folder of one object.
"""

from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.tables import read_table
from flawmap.data.sample import LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

SPLIT_FILE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


class Visa(Layout):
    """One object of VisA."""

    name = "VisA (split_csv/1cls.csv)"
    published = Protocol("VisA")

    def is_at(self, path: Path) -> bool:
        return (path / "Data" / "Images" / "Normal").is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """The images that the list puts into training; they must be labelled normal."""
        rows = _rows(path, "train")
        if wrong := [row["image"] for row in rows if row["label"] != "normal"]:
            problem = f"{wrong[0]} is in split train but not normal"
            raise UserError(problem, str(_split_file(path)), "unpack the archive again")
        keys = [_key(row["image"], path) for row in rows]
        return Listing(tuple(NormalImage(key, path / key) for key in keys))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """The images that the list puts into the test, anomalous ones with their masks."""
        samples = []
        for row in _rows(path, "test"):
            key, is_anomalous = _key(row["image"], path), row["label"] != "normal"
            mask = MaskFile(path / _key(row["mask"], path)) if is_anomalous and row["mask"] else None
            samples.append(LabelledImage(key, path / key, is_anomalous, "anomaly" if is_anomalous else "good", mask))
        return Listing(tuple(samples))


def _split_file(path: Path) -> Path:
    return path.resolve().parent / SPLIT_FILE


def _rows(path: Path, split: str) -> list[dict[str, str]]:
    """The object's rows of one split."""
    remedy = "unpack VisA's archive again, or list the images in a manifest.csv"
    _, rows = read_table(_split_file(path), "list of splits", COLUMNS, remedy)
    return [row for _, row in rows if row["object"] == path.resolve().name and row["split"] == split]


def _key(listed: str, path: Path) -> str:
    """A path from the list, which begins with the object's name, relative to the object's folder."""
    return listed.removeprefix(f"{path.resolve().name}/")

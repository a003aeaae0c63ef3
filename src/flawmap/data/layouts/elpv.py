"""ELPV: solar cells in electroluminescence, from the package elpv-dataset (CC BY-NC-SA 4.0).

The protocol is that of the DRA and InCTRL papers: cells with defect probability 0 are normal and split 75 / 25 by
scikit-learn's ``train_test_split(random_state=42)``; cells with probability 1 are anomalous; 1/3 and 2/3 are left out.
Mono- and polycrystalline cells are reported separately (``elpv``) or learned separately (``elpv:cell=mono``,
``elpv:cell=poly``).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from flawmap.advice import install
from flawmap.data.layouts.base import Layout
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata, is_chosen
from flawmap.data.walk import Listing
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

LOCATION = "elpv"  # what users write instead of the path of the package's data
TEST_SHARE = 0.25
SPLIT_SEED = 42


class Elpv(Layout):
    """The data of the installed package."""

    name = "ELPV, normal cells 75 / 25"
    published = Protocol("ELPV", pixel_pool="none", strata=("cell",))
    strata = ("cell",)
    yields_to_named_folders = False

    def is_at(self, path: Path) -> bool:
        return path == _package_data()

    def data_name(self, path: Path) -> str:
        return LOCATION

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """The 1,131 normal cells of the training split, or those of one cell type (mono, poly)."""
        normal = [(key, cell) for key, probability, cell in _rows(path) if probability == 0]
        train, _ = _split(len(normal))
        keys = [normal[i][0] for i in sorted(train) if is_chosen({"cell": normal[i][1]}, only)]
        return Listing(tuple(NormalImage(key, path / key) for key in keys))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """The other 377 normal cells and the 715 with defect probability 1, or those of one cell type."""
        rows = _rows(path)
        normal = [row for row in rows if row[1] == 0]
        _, test = _split(len(normal))
        labelled = [(*normal[i], False) for i in sorted(test)] + [(*row, True) for row in rows if row[1] == 1]
        samples = (
            LabelledImage(key, path / key, is_anomalous, "defective" if is_anomalous else "good", None, {"cell": cell})
            for key, _, cell, is_anomalous in labelled
            if is_chosen({"cell": cell}, only)
        )
        return Listing(tuple(samples))

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        return self.published


def elpv_path() -> Path:
    """Folder of the package's data.

    Raises:
        UserError: the package is not installed.
    """
    path = _package_data()
    if path is None:
        raise UserError("the data set elpv needs the package elpv-dataset", LOCATION, install("demo"))
    return path


def _package_data() -> Path | None:
    spec = find_spec("elpv_dataset")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"


def _rows(path: Path) -> list[tuple[str, float, str]]:
    """(key, defect probability, cell type) in the order of the package's list."""
    with (path / "labels.csv").open(encoding="utf-8", newline="") as file:
        lines = [line.split() for line in file]
    return [(key, round(float(probability), 2), cell) for key, probability, cell in lines]


def _split(num_normal: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), as scikit-learn's train_test_split draws them."""
    order = np.random.RandomState(SPLIT_SEED).permutation(num_normal)
    num_test = int(np.ceil(TEST_SHARE * num_normal))
    return order[num_test:], order[:num_test]

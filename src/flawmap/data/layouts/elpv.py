"""ELPV: solar cells in electroluminescence, from the package elpv-dataset (CC BY-NC-SA 4.0).

Protocol of the DRA and InCTRL papers: cells with defect probability 0 are normal, split 75 / 25 by scikit-learn's
``train_test_split(random_state=42)``; cells with probability 1 are anomalous; 1/3 and 2/3 are left out. Mono- and
polycrystalline cells are reported apart (``elpv``) or learned apart (``elpv:cell=mono``, ``elpv:cell=poly``).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import EVERYTHING, Groups, is_chosen
from flawmap.errors import UserError

PROTOCOL = Protocol("ELPV", pixel_pool="none", group_by=("cell",))
TEST_SHARE = 0.25
SPLIT_SEED = 42
LAYOUT = "ELPV, normal cells 75 / 25"


def elpv_root() -> Path:
    """Folder of the package's data.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError("the data set elpv needs the package elpv-dataset", "elpv", 'pip install "flawmap[demo]"')
    return Path(spec.origin).parent / "data"


def read_training(root: Path, only: Groups = EVERYTHING) -> tuple[NormalImage, ...]:
    """The 1,131 normal cells of the training split, or those of one cell type."""
    normal = [(key, cell) for key, probability, cell in _rows(root) if probability == 0]
    train, _ = _split(len(normal))
    chosen = [normal[i][0] for i in sorted(train) if is_chosen({"cell": normal[i][1]}, only)]
    return tuple(NormalImage(key, root / key) for key in chosen)


def read_test(root: Path, only: Groups = EVERYTHING) -> tuple[LabelledImage, ...]:
    """The other 377 normal cells and the 715 with defect probability 1, or those of one cell type (mono, poly)."""
    rows = _rows(root)
    normal = [row for row in rows if row[1] == 0]
    _, test = _split(len(normal))
    chosen = [(*normal[i], False) for i in sorted(test)] + [(*row, True) for row in rows if row[1] == 1]
    return tuple(
        LabelledImage(key, root / key, anomalous, "defective" if anomalous else "good", None, {"cell": cell})
        for key, _, cell, anomalous in chosen
        if is_chosen({"cell": cell}, only)
    )


def _rows(root: Path) -> list[tuple[str, float, str]]:
    """(key, defect probability, cell type) in the order of the package's list."""
    with (root / "labels.csv").open(encoding="utf-8", newline="") as file:
        lines = [line.split() for line in file]
    return [(path, round(float(probability), 2), cell) for path, probability, cell in lines]


def _split(num_normal: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), as scikit-learn's train_test_split draws them."""
    order = np.random.RandomState(SPLIT_SEED).permutation(num_normal)
    num_test = int(np.ceil(TEST_SHARE * num_normal))
    return order[num_test:], order[:num_test]

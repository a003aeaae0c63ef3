"""Which images a run was made from, as its data_manifest.csv says."""

import csv
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError

FILE_NAME = "data_manifest.csv"
ONLY_PRETRAINED = "pretrain_only"  # the split of images that stage 1 alone has seen


@dataclass(frozen=True)
class ManifestRow:
    """An image of a run: its path relative to the data, the hash of its bytes, and its split.

    The split is ``train``, ``held_out`` or ``pretrain_only``.
    """

    key: str
    sha256: str
    split: str


def read_run_manifest(run: Path) -> tuple[ManifestRow, ...]:
    """All images of a run; none where the folder has no manifest, as a model folder that was copied alone.

    Raises:
        UserError: the manifest is damaged.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(ManifestRow(row["path"], row["sha256"], row["split"]) for row in csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(f"the run's list of images cannot be read: {error}", str(path), "train again") from error

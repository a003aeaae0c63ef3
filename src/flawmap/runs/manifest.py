"""Which images a run was made from, as its data_manifest.csv says."""

import csv
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError

FILE_NAME = "data_manifest.csv"
ONLY_PRETRAINED = "pretrain_only"  # the split of images that stage 1 alone has seen


@dataclass(frozen=True)
class ManifestRow:
    """An image of a run.

    Attributes:
        key: its path relative to the data.
        sha256: of its bytes.
        split: ``train``, ``held_out`` or ``pretrain_only``.
        pixels_sha256: of what it decodes to; "" in a run of an earlier version.
    """

    key: str
    sha256: str
    split: str
    pixels_sha256: str = ""

    @property
    def hashes(self) -> tuple[str, ...]:
        """Those that are known."""
        return tuple(one for one in (self.sha256, self.pixels_sha256) if one)


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
            return tuple(
                ManifestRow(row["path"], row["sha256"], row["split"], row.get("pixels_sha256") or "")
                for row in csv.DictReader(file)
            )
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(f"the run's list of images cannot be read: {error}", str(path), "train again") from error

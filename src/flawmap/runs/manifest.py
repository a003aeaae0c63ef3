"""data_manifest.csv: the images that a run was made from."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text

ONLY_PRETRAINED = "pretrain_only"  # the split of images that stage 1 alone has seen


@dataclass(frozen=True)
class ManifestRow:
    """An image of a run.

    Attributes:
        key: its path relative to the data.
        sha256: of its bytes.
        split: ``train``, ``held_out`` or ``pretrain_only``.
        width_px: of the image.
        height_px: of the image.
        pixels_sha256: of what it decodes to.
    """

    key: str
    sha256: str
    split: str
    width_px: int
    height_px: int
    pixels_sha256: str

    @property
    def hashes(self) -> tuple[str, str]:
        """Of its bytes and of its pixels."""
        return self.sha256, self.pixels_sha256


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write data_manifest.csv."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
    table.writerow(["path", "sha256", "split", "width", "height", "pixels_sha256"])
    for row in rows:
        table.writerow([row.key, row.sha256, row.split, row.width_px, row.height_px, row.pixels_sha256])
    atomic_write_text(path, buffer.getvalue())


def read_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """All images of a run; none where there is no such file, as beside a model folder that was copied alone.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(
                ManifestRow(
                    key=row["path"],
                    sha256=row["sha256"],
                    split=row["split"],
                    width_px=int(row["width"]),
                    height_px=int(row["height"]),
                    pixels_sha256=row["pixels_sha256"],
                )
                for row in csv.DictReader(file)
            )
    except (UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path.name} is damaged: {error}", str(path), "train again") from error

"""data_manifest.csv: the images that a run was made from, and those that it was told to leave out."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from flawmap.runs.json_files import read_csv, write_csv

TRAIN, HELD_OUT = "train", "held_out"  # splits of images that training uses, and of those that set its threshold
ONLY_PRETRAINED = "pretrain_only"  # the split of images that stage 1 alone has seen
LEFT_OUT = "left_out"  # the split of good images that the user did not want to be learned from
KNOWN_DEFECT = "known_defect"  # the split of images that show a defect, which the head has learned from
REVIEWED = "reviewed"  # the split of good images that an update learned from, but that set no threshold


@dataclass(frozen=True)
class ManifestRow:
    """An image of a run.

    Attributes:
        key: its path relative to the data.
        sha256: of its bytes.
        split: ``train``, ``held_out``, ``pretrain_only``, ``left_out``, ``reviewed`` or ``known_defect``.
        pixels_sha256: of what it decodes to.
        group: its patient, part, board or lot; "" if it has none, and in runs of earlier versions.
        product, camera: "" where nobody has said which, and in runs of earlier versions.
    """

    key: str
    sha256: str
    split: str
    width_px: int
    height_px: int
    pixels_sha256: str
    group: str = ""
    product: str = ""
    camera: str = ""

    @property
    def hashes(self) -> tuple[str, str]:
        """Of its bytes and of its pixels."""
        return self.sha256, self.pixels_sha256


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write data_manifest.csv."""
    head = ("path", "sha256", "split", "width", "height", "pixels_sha256", "group", "product", "camera")
    write_csv(path, head, [astuple(row) for row in rows])


def read_used_images(path: Path) -> tuple[ManifestRow, ...]:
    """The images that a run has used, without those that it was told to leave out; see :func:`read_manifest`."""
    return tuple(row for row in read_manifest(path) if row.split != LEFT_OUT)


def read_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """All images of a run; none where there is no such file, as beside a model folder that was copied alone.

    Raises:
        UserError: the file is damaged.
    """

    def parse(row: dict[str, str]) -> ManifestRow:
        size = int(row["width"]), int(row["height"])
        of_part = (row.get(name) or "" for name in ("group", "product", "camera"))
        return ManifestRow(row["path"], row["sha256"], row["split"], *size, row["pixels_sha256"], *of_part)

    return read_csv(path, parse, "train again")

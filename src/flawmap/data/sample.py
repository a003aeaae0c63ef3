"""The kinds of images: a normal image and a known defect for training, and a labelled image for evaluation.

They are separate types on purpose. Training code takes :class:`NormalImage` and :class:`TrainingData`, which have no
field for a label or a mask, so no test label can reach it. :class:`KnownDefect` has a mask; it is made by
:mod:`flawmap.data.known_defects` alone, from what the user names as defects to learn from, and no reader of a test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flawmap.reproducibility import file_sha256, stable_hash


@dataclass(frozen=True)
class NormalImage:
    """One good image, without any label.

    Attributes:
        key: its path relative to the data root, with forward slashes.
        path: its file.
        sha256: of the file's bytes, 64 hex digits; None until the file has been checked.
        group: its patient, part, board or lot, whose images are never split; None if it belongs to none.
        product: what it shows; None where all images show one product.
        camera: that took it; None where nobody has said which one.
    """

    key: str
    path: Path
    sha256: str | None = field(default=None, compare=False)
    group: str | None = None
    product: str | None = None
    camera: str | None = None


@dataclass(frozen=True)
class MaskFile:
    """Ground truth in an image file; :mod:`flawmap.data.images.mask` says which of its pixels are anomalous."""

    path: Path


@dataclass(frozen=True)
class Boxes:
    """Ground truth as boxes ``(x, y, width, height)`` in pixels of the upright image; their union counts.

    ``original_px`` is the side of the square original if the boxes are in its pixels, and the image may be smaller.
    """

    xywh_px: tuple[tuple[float, float, float, float], ...]
    original_px: int | None = None


@dataclass(frozen=True)
class Saturation:
    """How much of a kind of defect must be found until it counts as found in full.

    Attributes:
        threshold: pixels of the original image, or a share of the defect's own pixels; above 0.
        is_relative: whether it is such a share, which is at most 1.
    """

    threshold: float
    is_relative: bool

    def area_px(self, defect_px: int) -> int:
        """The same for a defect of so many pixels: at least 1, at most all of them."""
        area_px = int(self.threshold * defect_px) if self.is_relative else round(self.threshold)
        return min(max(area_px, 1), defect_px)


@dataclass(frozen=True)
class DefectMasks:
    """Ground truth in several image files, one for each defect of the image; their union is anomalous.

    Attributes:
        paths: of the files. A file has one value above 0, which names the kind of its defect.
        saturations: of the kinds, by that value.
    """

    paths: tuple[Path, ...]
    saturations: Mapping[int, Saturation]


@dataclass(frozen=True)
class LabelledImage:
    """One test image; ``key``, ``path`` and ``group`` as in :class:`NormalImage`.

    Attributes:
        is_anomalous: its label.
        kind: kind of the defect, "good" for a normal image.
        truth: where the defect is; None if nobody has marked it. A mask of a normal image must be empty.
        strata: properties known for every image, normal or not, such as sex, view, product and camera.
    """

    key: str
    path: Path
    is_anomalous: bool
    kind: str
    truth: MaskFile | Boxes | DefectMasks | None = None
    strata: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None

    @property
    def product(self) -> str | None:
        """As in :class:`NormalImage`."""
        return self.strata.get("product")

    @property
    def camera(self) -> str | None:
        """As in :class:`NormalImage`."""
        return self.strata.get("camera")


@dataclass(frozen=True)
class KnownDefect:
    """One image of a defect that training may learn from.

    Attributes:
        key, sha256, group, camera: as in :class:`NormalImage`.
        truth: where the defect is; None if nobody has marked it.
    """

    key: str
    path: Path
    truth: MaskFile | Boxes | None = None
    sha256: str | None = field(default=None, compare=False)
    group: str | None = None
    camera: str | None = None

    def content(self) -> tuple[object, ...]:
        """What changes with the image or with what is marked in it; files are read where their hash is not known."""
        marked = file_sha256(self.truth.path) if isinstance(self.truth, MaskFile) else self.truth
        return self.sha256 or file_sha256(self.path), marked


@dataclass(frozen=True)
class SkippedFile:
    """A file that ``--skip-unreadable`` left out, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class FileRemark:
    """What a person should know of a file that was read: its name and the remark in words.

    ``key`` is that of an image, or likewise that of a mask.
    """

    key: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was passed over while images were looked for.

    Attributes:
        path: of the file or folder.
        reason: why, in words.
        kind: what it is in a count, such as ``.gif`` or ``thumbnails``.
    """

    path: Path
    reason: str
    kind: str


@dataclass(frozen=True)
class Protocol:
    """How a data set is scored by convention.

    Attributes:
        name: the data set's name in tables.
        pixel_pool: which images count for pixel metrics. ``all``: normal images and anomalous images with ground
            truth (MVTec AD, MTD). ``truth_only``: images with ground truth (NIH: the images with boxes). ``none``: no
            pixel metrics (ELPV). An anomalous image without ground truth never counts.
        strata: keys of ``LabelledImage.strata`` that are also reported separately.
        saturated_overlap: whether defects have an area at which they count as found in full (MVTec LOCO).
    """

    name: str
    pixel_pool: Literal["all", "truth_only", "none"] = "all"
    strata: tuple[str, ...] = ()
    saturated_overlap: bool = False


@dataclass(frozen=True)
class TrainingData:
    """Good images to learn from: all that training sees of a data set.

    Attributes:
        name: of the data, for people and for folder names.
        root: folder that keys are relative to.
        layout: its name, for people.
        images: sorted by key.
        skipped: files that could not be decoded.
        unused: keys of other good images: ``data.train_subset`` does not select them, or they repeat the pixels of
            an earlier image.
        grouped_by: what the images' groups are, such as ``patient``; None without groups.
        left_out: files and folders beside the images that are not read.
        remarks: on files that were read.
    """

    name: str
    root: Path
    layout: str
    images: tuple[NormalImage, ...]
    skipped: tuple[SkippedFile, ...] = ()
    unused: tuple[str, ...] = ()
    grouped_by: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[FileRemark, ...] = ()

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)

    def __iter__(self) -> Iterator[NormalImage]:
        """The images in order."""
        return iter(self.images)


@dataclass(frozen=True)
class TestData:
    """Labelled images to be scored, for the evaluation and the leak check only; fields as in :class:`TrainingData`."""

    name: str
    root: Path
    layout: str
    samples: tuple[LabelledImage, ...]
    protocol: Protocol
    skipped: tuple[SkippedFile, ...] = ()
    grouped_by: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[FileRemark, ...] = ()


def content_hash(images: Sequence[NormalImage]) -> str:
    """A hash that changes with the content, name or order of any image."""
    return stable_hash([(image.key, image.sha256 or file_sha256(image.path)) for image in images])

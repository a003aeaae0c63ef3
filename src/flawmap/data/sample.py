"""What one image is to flawmap: a normal image for training, or a labelled image for evaluation.

The two types are kept apart on purpose. Training code is written against :class:`NormalImage` and
:class:`TrainingData`, which have no place for a label or a mask, so that no test label can reach it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class NormalImage:
    """One defect-free image. ``key`` is its path relative to the data root, with forward slashes."""

    key: str
    path: Path


@dataclass(frozen=True)
class MaskFile:
    """Ground truth in an image file: every non-zero pixel is anomalous."""

    path: Path


@dataclass(frozen=True)
class Boxes:
    """Ground truth as boxes ``(x, y, width, height)`` in pixels of the upright image; their union counts."""

    xywh_px: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class LabelledImage:
    """One test image: its label, defect kind ("good" when normal), ground truth and groups (sex, view, ...)."""

    key: str
    path: Path
    is_anomalous: bool
    kind: str
    truth: MaskFile | Boxes | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out because of ``--skip-unreadable``, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Protocol:
    """Which images enter which pool when a data set is scored (the data set's custom, not an evaluator's choice).

    Attributes:
        name: the data set's name in tables.
        pixel_pool: ``all`` counts normal images and anomalous images with ground truth (MVTec AD, MTD);
            ``truth_only`` counts images with ground truth alone (NIH: pixels of the boxed images);
            ``none`` has no pixel metrics (ELPV). An anomalous image without a mask never enters a pixel pool.
        group_by: keys of ``LabelledImage.groups`` to report separately, beside all images together.
        classes: of a data set of several, each of which has a model of its own: their folders, in the order of the
            columns of published tables; a table's mean is over them, unweighted. Empty: the data set is one.
        n_seeds: how many trainings a published number is the mean of.
    """

    name: str
    pixel_pool: Literal["all", "truth_only", "none"] = "all"
    group_by: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    n_seeds: int = 1


@dataclass(frozen=True)
class TrainingData:
    """Normal images to learn from: all that training ever sees of a data set."""

    name: str
    root: Path
    layout: str
    images: tuple[NormalImage, ...]
    skipped: tuple[SkippedFile, ...] = ()


@dataclass(frozen=True)
class TestData:
    """Labelled images to be scored; only ``flawmap.evaluate.evaluate`` opens them."""

    name: str
    root: Path
    layout: str
    samples: tuple[LabelledImage, ...]
    protocol: Protocol
    skipped: tuple[SkippedFile, ...] = ()

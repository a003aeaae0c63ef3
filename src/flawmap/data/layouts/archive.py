"""What flawmap knows of a published data set as its archive unpacks: where its images, labels and masks lie."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Groups


@dataclass(frozen=True)
class Archive:
    """One layout.

    Attributes:
        layout: for people.
        is_at: whether a folder is laid out so; looks at names of folders and lists only.
        read_training: normal images of the training split; opens nothing that belongs to the test.
        read_test: labelled images of the test split.
        protocol: how a folder's images are pooled.
        has_test: whether the lists of the test are there at all, for the chosen groups; a download may lack them.
    """

    layout: str
    is_at: Callable[[Path], bool]
    read_training: Callable[[Path, Groups], tuple[NormalImage, ...]]
    read_test: Callable[[Path, Groups], tuple[LabelledImage, ...]]
    protocol: Callable[[Path], Protocol]
    has_test: Callable[[Path, Groups], bool] = lambda root, only: True

"""What a layout is: one way in which good images, test images and masks lie in a folder."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing
from flawmap.recipe.settings import DataSettings


class Layout(ABC):
    """One layout; :data:`flawmap.data.open_data.LAYOUTS` lists them all. ``only`` restricts images to some strata.

    Attributes:
        name: for people.
        published: how a published data set is scored by convention.
        strata: what a location can be restricted by (``nih:sex=M``).
        takes_folders_as_good: its good images are those in a folder; annotation files may say otherwise of some.
        yields_to_named_folders: ``data.normal`` and ``data.anomalous`` name folders to be read instead.
    """

    name: ClassVar[str]
    published: ClassVar[Protocol]
    strata: ClassVar[tuple[str, ...]] = ()
    takes_folders_as_good: ClassVar[bool] = False
    yields_to_named_folders: ClassVar[bool] = True

    @abstractmethod
    def is_at(self, path: Path) -> bool:
        """Whether data lies at ``path`` in this layout; looks at the names of files and folders only."""

    def data_name(self, path: Path) -> str:
        """What the data is called: as its folder."""
        return folder_of(path).resolve().name or "data"

    @abstractmethod
    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Good images to learn from, and what lies beside them. No file that belongs to the test is opened.

        Raises:
            UserError: a list or folder is missing or damaged.
        """

    def has_test(self, path: Path, only: Strata) -> bool:
        """Whether the lists of the test are there; a download may lack them."""
        return True

    @abstractmethod
    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Labelled images, with masks or boxes if they have some, and what lies beside them; empty without a test.

        Raises:
            UserError: a list or folder is missing or damaged, or masks match no image.
        """

    def grouped_by(self, path: Path) -> str | None:
        """What the groups of its images are, such as ``patient``; None if its images have none."""
        return None

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """How the test images are scored: as published, under the name of the data."""
        return replace(self.published, name=self.data_name(path))


def folder_of(path: Path) -> Path:
    """The folder that keys are relative to: a data location is this folder, or a manifest in it."""
    return path if path.is_dir() else path.parent

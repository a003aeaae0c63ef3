"""What a reader of annotation files returns: images, and the marks on them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flawmap.data.annotations.image_names import ImageNames
from flawmap.data.annotations.recognise import Recognised
from flawmap.data.annotations.shapes import Shape
from flawmap.data.layouts.folder_names import meaning_of


@dataclass(frozen=True)
class Mark:
    """One marked place.

    Attributes:
        kind: the name of its class; "" if it has none.
        shape: None for a point, a line, or anything else without an area.
        place: file and entry, for errors.
    """

    kind: str
    shape: Shape | None
    place: str

    @property
    def is_defect(self) -> bool:
        """Whether the class is not called good: a mark may as well be around a good part."""
        return meaning_of(self.kind) != "good"


@dataclass(frozen=True)
class AnnotatedImage:
    """An image that an annotation file names.

    Attributes:
        path: of the image.
        file: where it is annotated.
        marks: empty if nothing is marked, which need not mean that the image is good.
        size_px: (width, height) that the annotations are for; None if the file does not say.
        are_shares: coordinates are shares of the image's width and height, not pixels.
        split: train, val or test, as the file says; None if it does not.
    """

    path: Path
    file: Path
    marks: tuple[Mark, ...]
    size_px: tuple[int, int] | None = None
    are_shares: bool = False
    split: str | None = None

    @property
    def has_defect(self) -> bool:
        """Whether a defect is marked on it."""
        return any(mark.is_defect for mark in self.marks)


class AnnotationFormat(ABC):
    """How one tool writes annotations; :data:`flawmap.data.annotations.find.FORMATS` lists them all.

    Attributes:
        takes: what its files are recognised as; the first is its name.
    """

    takes: ClassVar[tuple[Recognised, ...]]

    @abstractmethod
    def read(self, files: Sequence[Path], images: ImageNames) -> list[AnnotatedImage]:
        """Read all files of this format.

        Args:
            files: recognised as ``takes`` says.
            images: the images that the files can name.

        Raises:
            UserError: a file is damaged, contradicts itself, or names an image that is not there.
        """

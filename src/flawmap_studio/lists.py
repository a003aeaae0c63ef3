"""Lists of images as flawmap's manifests, for commands about images that are not a whole folder.

A list is named by its content and never changed, so a command that was run with it can be run again.
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap_studio.image_list import StudioImage
from flawmap_studio.place import Place

PREFIX = ".flawmap-"  # hidden, and beside the images, whose names in reports are then those in the folder


@dataclass(frozen=True)
class PlannedFile:
    """A file that a command reads, and that is written only if the command is run."""

    name: str
    content: bytes

    def write(self, place: Place) -> None:
        """Write it, unless it is there."""
        path = place.root / self.name
        if not path.is_file():
            unfinished = path.with_name(f"{path.name}.tmp")
            unfinished.write_bytes(self.content)
            os.replace(unfinished, path)


def planned(stem: str, suffix: str, content: bytes) -> PlannedFile:
    """A file that is named by what is in it."""
    return PlannedFile(f"{PREFIX}{stem}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}", content)


def manifest(stem: str, learn: Iterable[StudioImage] = (), test: Iterable[StudioImage] = ()) -> PlannedFile:
    """Images to learn from, which must be good, and labelled images to test with."""
    text, listed = io.StringIO(), [*((image, "train", "good") for image in learn)]
    listed += [(image, "test", image.label) for image in test]
    has_cameras = any(image.camera for image, *_ in listed)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", "split", "label", *(["camera"] if has_cameras else [])))
    for image, split, label in listed:
        rows.writerow((image.path, split, label, *([image.camera or ""] if has_cameras else [])))
    return planned(stem, ".csv", text.getvalue().encode("utf-8", "surrogateescape"))


def places_of(chosen: Sequence[StudioImage], everything: Iterable[StudioImage]) -> list[str]:
    """The shortest list of folders and files that names the chosen images and no other image.

    >>> a, b, c = (StudioImage(path, 1, 1, "test", "") for path in ("t/1.png", "t/2.png", "u/3.png"))
    >>> places_of([a, b], [a, b, c]), places_of([a], [a, b, c])
    (['t'], ['t/1.png'])
    """
    wanted = {image.path for image in chosen}
    mixed: set[str] = set()  # folders with an image that is not meant
    for image in everything:
        if image.path not in wanted:
            mixed.update(str(parent) for parent in Path(image.path).parents)
    places: dict[str, None] = {}
    for path in sorted(wanted):
        above = [parent.as_posix() for parent in Path(path).parents if str(parent) not in mixed]
        whole = [parent for parent in above if parent != "."]  # the folder itself also has the studio's own files
        places[whole[-1] if whole else path] = None
    return list(places)

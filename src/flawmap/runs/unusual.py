"""unusual/ of a run: the good images that look unusual, and pictures of the most unusual ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flawmap.advice import command
from flawmap.runs.calibration import MapScale
from flawmap.runs.json_files import read_csv, read_json, write_csv, write_json
from flawmap.runs.run_folder import RunFolder

IMAGES, SCORING = "images.csv", "scoring.json"
NAMED = 3  # in a line for people
AGAIN = "train again"
DEFECTS = "defects.csv"  # what a person makes of the list
Picture = Literal["image", "map"]
PICTURES: tuple[Picture, ...] = get_args(Picture)
MOST_PICTURED = 24  # the others are in the list alone


@dataclass(frozen=True)
class UnusualImage:
    """A good image that looks unusual.

    Attributes:
        key: its path relative to the data.
        score: by a fit that has not seen it.
    """

    key: str
    score: float


@dataclass(frozen=True)
class Scoring:
    """How they were found.

    Attributes:
        n_scored: good images that were scored.
        limit: of the score, above which an image looks unusual; None where there are too few images for one.
        map_ends: the map values that 0 and 255 stand for in the pictures of maps.
    """

    n_scored: int
    limit: float | None
    map_ends: MapScale


@dataclass(frozen=True)
class Unusual:
    """The good images that look unusual, the most unusual one first."""

    images: tuple[UnusualImage, ...]
    scoring: Scoring

    @property
    def words(self) -> str:
        """How many there are, with the names of the first."""
        count, of_all = len(self.images), f"of {self.scoring.n_scored} good images"
        if not count:
            return f"none {of_all} looks unusual"
        named = ", ".join(image.key for image in self.images[:NAMED])
        more = f" and {count - NAMED} more" if count > NAMED else ""
        return f"{count} {of_all} {'looks' if count == 1 else 'look'} unusual: {named}{more}"

    @property
    def sentence(self) -> str:
        """The words with a capital at their beginning."""
        return self.words[0].upper() + self.words[1:]


def picture_file(folder: Path, number: int, picture: Picture) -> Path:
    """Where a picture of the image in a row of the list lies; rows count from 0."""
    return folder / f"{number:02d}_{picture}.png"


def list_file(folder: Path) -> Path:
    """The list of the images, which a copy of is given to ``flawmap train --leave-out``."""
    return folder / IMAGES


def write_unusual(folder: Path, found: Unusual) -> None:
    """Write the list and how it was made; the folder is there."""
    write_csv(list_file(folder), ("image", "score"), [(image.key, image.score) for image in found.images])
    write_json(folder / SCORING, found.scoring)


def read_unusual(folder: Path) -> Unusual | None:
    """What training found; None where it did not look, or where the folder was deleted.

    Raises:
        UserError: a file is damaged or missing.
    """
    if not list_file(folder).is_file():
        return None
    images = read_csv(list_file(folder), lambda row: UnusualImage(row["image"], float(row["score"])), AGAIN)
    return Unusual(images, read_json(folder / SCORING, Scoring, AGAIN))


def what_to_do(
    run: RunFolder, data: tuple[str | Path, ...], defects: str | None = None, skip_unreadable: bool = False
) -> tuple[str, str]:
    """How to look at the images, and how to train without those that show a defect.

    Args:
        run: that has found some.
        data: the locations that it was trained on.
        defects: where its known defects are; None where it knows none.
        skip_unreadable: whether it left out files that cannot be decoded, which are still among the data.
    """
    copy = command("cp", list_file(run.unusual), DEFECTS)
    known = ("--defects", Path(defects)) if defects is not None else ()
    skip = ("--skip-unreadable",) if skip_unreadable else ()
    again = command("flawmap", "train", *data, *known, *skip, "--recipe", run.recipe, "--leave-out", DEFECTS)
    return (
        f"they are learned as good; to see them: {command('flawmap', 'report', run.path)}",
        f"if some show defects: {copy}, delete the rows of those that show none, and {again}",
    )

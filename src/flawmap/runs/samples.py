"""samples/ of a run: images of what training saw, one row for each of some good images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flawmap.runs.calibration import MapScale
from flawmap.runs.json_files import read_json, write_json

MAP_ENDS = "map_ends.json"
DROPPED_GRAY = 118  # the gray of a patch that the student does not see, in samples and in the gallery
SampleColumn = Literal["input", "attention", "masked", "simulated", "footprint", "map"]
SAMPLE_COLUMNS: tuple[SampleColumn, ...] = get_args(SampleColumn)


@dataclass(frozen=True)
class SampleRow:
    """The images of one good image.

    Attributes:
        number: two digits, from "00".
        files: by column, without missing ones.
        map_ends: the map values that 0 and 255 stand for in its map.
    """

    number: str
    files: Mapping[str, Path]
    map_ends: MapScale


def sample_file(folder: Path, number: int, column: SampleColumn) -> Path:
    """Where an image of a row lies."""
    return folder / f"{number:02d}_{column}.png"


def write_map_ends(folder: Path, scale: MapScale) -> None:
    """Write the ends of the maps' scale: a later calibration changes the model's scale, but not these images."""
    write_json(folder / MAP_ENDS, scale)


def read_samples(folder: Path) -> tuple[SampleRow, ...]:
    """The rows that have at least their input image, by number; none where there is no such folder.

    Raises:
        UserError: the ends of the maps' scale are missing or damaged.
    """
    inputs = sorted(folder.glob("*_input.png"))
    if not inputs:
        return ()
    map_ends, rows = read_json(folder / MAP_ENDS, MapScale, "train again"), []
    for path in inputs:
        number = path.name.removesuffix("_input.png")
        files = {column: path.with_name(f"{number}_{column}.png") for column in SAMPLE_COLUMNS}
        present = {column: file for column, file in files.items() if file.is_file()}
        rows.append(SampleRow(number, present, map_ends))
    return tuple(rows)

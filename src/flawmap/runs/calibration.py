"""A calibration, and its file: thresholds, and the scores that they rest on."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from flawmap.errors import UserError
from flawmap.metrics.rates import Threshold, images_for_rate
from flawmap.runs.json_files import read_json


@dataclass(frozen=True)
class MapScale:
    """The map values at which a detector's colour scale begins and ends; its middle is the map's threshold."""

    low: float
    high: float


# ten times the evidence of evenly spread attention (the paper's head), or ten deviations of good images, is hot
UNCALIBRATED_MAP_SCALE = MapScale(0.0, 10.0)


@dataclass(frozen=True)
class Calibration:
    """The thresholds of a detector.

    Attributes:
        threshold: of the image score; an image above it is called anomalous.
        false_alarm_rate: the rate that the threshold was chosen for, in (0, 1).
        n_held_out: number of good images that it rests on.
        smallest_resolvable_rate: the smallest rate that so many images (or groups of them) can guarantee.
        map_threshold: of map values; a pixel above it belongs to a region. At most ``false_alarm_rate`` of good images
            are expected to have any such pixel.
        map_scale: ends of the colour scale.
        held_out_scores: image scores of the held-out good images, ascending.
        n_groups: how many patients, parts, boards or lots the images are of; None where each image is on its own.
        held_out_peaks: the highest map value of each of these images, in the order of the scores; empty in files of
            earlier versions.
        held_out_groups: a number for the group of each of these images; empty where each is on its own.
        is_estimate: whether the images were scored by fits to other folds of the training images. The rate is then
            estimated; from images that no training has seen it is guaranteed on average.
        appearance_distances: how unlike any image of the training these images look, ascending; of a threshold from
            reviews, those of the former one. Empty where the model does not know, and in files of earlier versions.
    """

    threshold: float
    false_alarm_rate: float
    n_held_out: int
    smallest_resolvable_rate: float
    map_threshold: float
    map_scale: MapScale
    held_out_scores: tuple[float, ...]
    n_groups: int | None = None
    is_estimate: bool = False
    held_out_peaks: tuple[float, ...] = ()
    held_out_groups: tuple[int, ...] = ()
    appearance_distances: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raises: ValueError: a number cannot be a threshold, a score or a colour scale; no reader lets it through."""
        scale, rates = self.map_scale, (self.false_alarm_rate, self.smallest_resolvable_rate)
        numbers = (self.threshold, self.map_threshold, scale.low, scale.high, *rates, *self.held_out_scores)
        numbers += self.held_out_peaks + self.appearance_distances
        if not all(math.isfinite(number) for number in numbers) or scale.low >= scale.high:
            raise ValueError("a threshold, a score or an end of the colour scale is not a usable number")
        if self.n_groups is not None and not 0 < self.n_groups <= self.n_held_out:
            raise ValueError(f"{self.n_held_out} images cannot be of {self.n_groups} groups")
        for beside in (self.held_out_peaks, self.held_out_groups):
            if beside and len(beside) != len(self.held_out_scores):
                raise ValueError("not every score has the peak of its map, or its group")

    @property
    def is_resolved(self) -> bool:
        """Whether so many images suffice for the rate; otherwise only ``smallest_resolvable_rate`` is guaranteed."""
        rates = self.false_alarm_rate, self.n_independent, self.smallest_resolvable_rate
        return Threshold(self.threshold, *rates).is_resolved

    @property
    def n_independent(self) -> int:
        """How many groups of images there are, or images where each is on its own."""
        return self.n_held_out if self.n_groups is None else self.n_groups

    @property
    def of_groups(self) -> str:
        """What follows the number of images, such as `` of 5 groups``; nothing where each image is on its own."""
        return "" if self.n_groups is None else f" of {self.n_groups} group{'' if self.n_groups == 1 else 's'}"

    @property
    def words(self) -> list[str]:
        """The threshold and what it can promise, in a line; and a second one where that is less than was wanted."""
        rate, smallest = f"{self.false_alarm_rate:.2%}", f"{self.smallest_resolvable_rate:.1%}"
        source = f"{'estimated ' if self.is_estimate else ''}from {self.n_held_out} images{self.of_groups}"
        promise = f"{self.threshold:.4g} for {rate} false alarms, {source}"
        lines = [f"{promise} (cannot resolve below {smallest})"]
        if not self.is_resolved:
            needed = images_for_rate(self.false_alarm_rate)
            what = "good images" if self.n_groups is None else "groups of good images"
            kept = "expected" if self.is_estimate else "guaranteed"
            lines.append(f"only {smallest} can be {kept}; {rate} needs {needed} {what}")
        return lines


def read_calibration(path: Path, remedy: str = "flawmap calibrate RUN GOOD_IMAGES") -> Calibration | None:
    """Read calibration.json, or the file of a camera; None where there is none.

    Raises:
        UserError: it is damaged, or a number in it is not usable; with the command that writes another one.
    """
    return read_json(path, Calibration, remedy) if path.is_file() else None


def calibration_from(content: bytes, place: str) -> Calibration:
    """The content of such a file.

    Raises:
        UserError: it is damaged.
    """
    try:
        return msgspec.json.decode(content, type=Calibration)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"this threshold is damaged: {error}", place, "flawmap calibrate RUN GOOD_IMAGES") from error


def calibration_bytes(calibration: Calibration) -> bytes:
    """What :func:`read_calibration` reads."""
    return json.dumps(asdict(calibration), indent=2).encode("utf-8")

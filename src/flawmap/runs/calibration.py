"""calibration.json of a model folder: its thresholds and the scores that they rest on."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError
from flawmap.metrics.rates import Threshold


@dataclass(frozen=True)
class MapScale:
    """The map values that a detector's colour scale begins and ends at; its middle is the map's threshold."""

    low: float
    high: float


# ten times the evidence of evenly spread attention (the paper's head), or ten deviations of normal images, is hot
UNCALIBRATED_MAP_SCALE = MapScale(0.0, 10.0)


@dataclass(frozen=True)
class Calibration:
    """Where normal ends.

    Attributes:
        threshold: of the image score; above it an image is called anomalous.
        false_alarm_rate: the rate that the threshold was chosen for.
        n_held_out: number of normal images it rests on.
        smallest_resolvable_rate: no smaller rate can be told apart with that many images.
        map_threshold: of map values; above it a pixel belongs to a region. At most ``false_alarm_rate`` of normal
            images are expected to have any such pixel.
        map_scale: ends of the colour scale.
        held_out_scores: image scores of the held-out normal images, ascending.
    """

    threshold: float
    false_alarm_rate: float
    n_held_out: int
    smallest_resolvable_rate: float
    map_threshold: float
    map_scale: MapScale
    held_out_scores: tuple[float, ...]

    @property
    def is_resolved(self) -> bool:
        """Whether so many images suffice for the rate; otherwise ``smallest_resolvable_rate`` is promised."""
        return Threshold(
            self.threshold, self.false_alarm_rate, self.n_held_out, self.smallest_resolvable_rate
        ).is_resolved


def read_calibration(path: Path) -> Calibration | None:
    """Read calibration.json; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["map_scale"] = MapScale(**values["map_scale"])
        values["held_out_scores"] = tuple(values["held_out_scores"])
        calibration = Calibration(**values)
        scale, numbers = calibration.map_scale, (calibration.threshold, calibration.map_threshold)
        if not all(math.isfinite(number) for number in (*numbers, scale.low, scale.high)) or scale.low >= scale.high:
            raise ValueError("a threshold or an end of the colour scale is no usable number")
        return calibration
    except Exception as error:  # whatever a damaged file makes of the values
        raise UserError(
            f"the calibration is damaged: {error}", str(path), "flawmap calibrate RUN GOOD_IMAGES"
        ) from error

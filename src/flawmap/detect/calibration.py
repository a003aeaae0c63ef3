"""The threshold of a detector, from normal images that no stage has seen. Needs numpy alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError
from flawmap.metrics.rates import Threshold, threshold_for_false_alarm_rate


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


def calibrate(scores: Sequence[float], map_peaks: Sequence[float], false_alarm_rate: float) -> Calibration:
    """Thresholds from held-out normal images.

    Args:
        scores: one image score per normal image.
        map_peaks: the highest map value of each.
        false_alarm_rate: wanted share of normal images above the threshold, in (0, 1).

    Raises:
        UserError: no images, or a rate outside (0, 1).
    """
    refuse_bad_rate(false_alarm_rate)
    if len(scores) == 0:
        raise UserError("no normal images to calibrate with", "", "flawmap calibrate RUN GOOD_IMAGES")
    image = threshold_for_false_alarm_rate(scores, false_alarm_rate)
    pixel = threshold_for_false_alarm_rate(map_peaks, false_alarm_rate)
    return Calibration(
        threshold=image.value,
        false_alarm_rate=false_alarm_rate,
        n_held_out=len(scores),
        smallest_resolvable_rate=image.smallest_resolvable_rate,
        map_threshold=pixel.value,
        map_scale=map_scale_around(pixel.value),
        held_out_scores=tuple(sorted(float(score) for score in scores)),
    )


def refuse_bad_rate(false_alarm_rate: float) -> None:
    """Raises: UserError: the rate is not above 0 and below 1."""
    if not 0 < false_alarm_rate < 1:
        raise UserError(
            f"the false-alarm rate is {false_alarm_rate:g}, must be between 0 and 1", "false_alarm_rate", "0.01 is 1 %"
        )


def map_scale_around(threshold: float) -> MapScale:
    """From 0 to twice the threshold; as wide below a threshold that is not positive."""
    width = max(abs(threshold), 1e-6)
    return MapScale(threshold - width, threshold + width)


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

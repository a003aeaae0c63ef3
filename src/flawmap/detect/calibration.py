"""The threshold of a detector, from normal images that no stage has seen. Needs numpy alone."""

from collections.abc import Sequence

from flawmap.errors import UserError
from flawmap.metrics.rates import threshold_for_false_alarm_rate
from flawmap.runs.calibration import Calibration, MapScale


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

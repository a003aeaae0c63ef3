"""Set the thresholds of a detector from scores of good images that the fit has not seen. Needs numpy alone."""

from collections.abc import Sequence

import numpy as np

from flawmap.detect.detection import DAMAGED_MODEL, NotScoredError
from flawmap.errors import UserError
from flawmap.metrics.group_numbers import Groups, group_numbers
from flawmap.metrics.rates import threshold_for_false_alarm_rate
from flawmap.runs.calibration import Calibration, MapScale


def calibrate(
    scores: Sequence[float],
    map_peaks: Sequence[float],
    false_alarm_rate: float,
    groups: Groups | None = None,
    is_estimate: bool = False,
    appearance_distances: Sequence[float | None] = (),
) -> Calibration:
    """Thresholds from good images.

    Args:
        scores: one image score per image.
        map_peaks: the highest value of each image's anomaly map.
        false_alarm_rate: accepted share of good images above the threshold, in (0, 1).
        groups: of each image; None where each image is on its own.
        is_estimate: see :class:`Calibration`.
        appearance_distances: of the images, or of others; None for one of which it is not known.

    Raises:
        UserError: there are no images, or the rate is outside (0, 1).
        NotScoredError: a score or a peak is not finite.
    """
    refuse_bad_rate(false_alarm_rate)
    if len(scores) == 0:
        raise UserError("no good images to calibrate with", "", "flawmap calibrate RUN GOOD_IMAGES")
    if n_bad := len(scores) - int((np.isfinite(scores) & np.isfinite(map_peaks)).sum()):
        raise NotScoredError(f"{n_bad} of {len(scores)} good images have no finite score", "", DAMAGED_MODEL)
    image = threshold_for_false_alarm_rate(scores, false_alarm_rate, groups)
    # equal scores by their peaks, so that the order of the images does not matter
    order = np.lexsort((np.asarray(map_peaks, np.float64), np.asarray(scores, np.float64)))
    numbers = [int(number) for number in group_numbers(groups, len(scores))[order]]
    in_order = {number: place for place, number in enumerate(dict.fromkeys(numbers))}  # of their first image
    is_grouped = image.n < len(scores)
    pixel = threshold_for_false_alarm_rate(map_peaks, false_alarm_rate, groups)
    return Calibration(
        threshold=image.value,
        false_alarm_rate=false_alarm_rate,
        n_held_out=len(scores),
        smallest_resolvable_rate=image.smallest_resolvable_rate,
        map_threshold=pixel.value,
        map_scale=map_scale_around(pixel.value),
        held_out_scores=tuple(float(scores[image]) for image in order),
        n_groups=image.n if is_grouped else None,
        is_estimate=is_estimate,
        held_out_peaks=tuple(float(map_peaks[image]) for image in order),
        held_out_groups=tuple(in_order[number] for number in numbers) if is_grouped else (),
        appearance_distances=tuple(sorted(float(d) for d in appearance_distances if d is not None)),
    )


def at_rate(calibration: Calibration, false_alarm_rate: float) -> Calibration:
    """The thresholds that the same good images set for another false-alarm rate.

    Args:
        calibration: from any rate.
        false_alarm_rate: in (0, 1).

    Raises:
        UserError: the rate is outside (0, 1), or the calibration is of an earlier flawmap, which has not kept the peaks
            of the maps.
    """
    refuse_bad_rate(false_alarm_rate)
    if not calibration.held_out_peaks:
        problem = "this threshold is from an earlier flawmap and has not kept what another false-alarm rate needs"
        raise UserError(problem, "--false-alarm-rate", "set it from good images: flawmap calibrate MODEL GOOD_IMAGES")
    groups = [str(number) for number in calibration.held_out_groups] or None
    scores, peaks = list(calibration.held_out_scores), list(calibration.held_out_peaks)
    distances = calibration.appearance_distances
    return calibrate(scores, peaks, false_alarm_rate, groups, calibration.is_estimate, distances)


def refuse_bad_rate(false_alarm_rate: float) -> None:
    """Raises UserError: the rate is not above 0 and below 1."""
    if not 0 < false_alarm_rate < 1:
        problem = f"the false-alarm rate is {false_alarm_rate:g}, must be between 0 and 1"
        raise UserError(problem, "false_alarm_rate", "0.01 stands for 1 %")


def map_scale_around(threshold: float) -> MapScale:
    """A colour scale with the threshold in its middle: from 0 to twice a positive threshold."""
    width = max(abs(threshold), 1e-6)
    return MapScale(threshold - width, threshold + width)

"""Set a detector's thresholds, and measure how it finds simulated defects, on images that a fit has not seen."""

from collections import defaultdict
from collections.abc import Sequence

from flawmap.data.sample import NormalImage
from flawmap.detect import simulated_defects
from flawmap.detect.calibration import calibrate
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import Fitted
from flawmap.detect.unusual import name_unusual
from flawmap.engine.compute import Compute
from flawmap.runs.calibration import Calibration
from flawmap.runs.cameras import Calibrations
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.threshold_names import FEWEST_IMAGES, names_of
from flawmap.scorer import UnseenScores
from flawmap.vit.positions import round_to_patches


def judge_unseen(
    detector: AnomalyDetector, images: Sequence[NormalImage], fitted: Fitted, compute: Compute, run: RunFolder
) -> None:
    """Set the thresholds; the scores of simulated defects and samples of them are for the report.

    Args:
        detector: fitted.
        images: that were held out, or that the folds have scored.
        fitted: what the method gave.
        compute: device.
        run: takes the samples, and the images that look unusual.
    """
    recipe, scorer, unseen = detector.recipe, detector.scorer_, fitted.unseen
    assert scorer is not None
    size_px = round_to_patches(recipe.training_size_px, scorer.encoder.patch_size_px)
    if unseen is None:
        detector.calibrate(images, recipe.calibration.false_alarm_rate)
        squares = simulated_defects.squares_of(images, fitted.guide, size_px, compute)
    else:
        deciding, rate = deciding_scores(detector, unseen), recipe.calibration.false_alarm_rate
        detector.unseen_scores_ = tuple(
            (float(score), image.group) for score, image in zip(deciding, images, strict=True)
        )
        detector.calibrations_ = calibrations_of(detector, images, unseen, rate)
        name_unusual(run, images, deciding, unseen.maps, detector.map_scale)
        squares = simulated_defects.unseen_squares(images, unseen, size_px, detector.rois)
        squares = simulated_defects.several_each(squares, len(images))
    defects = simulated_defects.simulate_on(squares, recipe)
    without = unseen.scorer_without if unseen is not None else lambda _: scorer
    measured = detector.sizes_px, recipe.detect.image_score, detector.at_once
    scored = simulated_defects.score_defects(without, defects, *measured)
    detector.proxy_ = scored.scores
    simulated_defects.write_samples(run, defects, scored.maps, recipe.pretrain.masking.drop_ratio, detector.map_scale)


def deciding_scores(detector: AnomalyDetector, unseen: UnseenScores) -> list[float]:
    """Of each image, the score that the verdict goes by."""
    return unseen.map_peaks if detector.recipe.detect.image_score == "map_max" else unseen.image_scores


def calibrations_of(
    detector: AnomalyDetector,
    images: Sequence[NormalImage],
    unseen: UnseenScores,
    rate: float,
    not_counted: frozenset[int] = frozenset(),
) -> Calibrations:
    """Thresholds from scores of folds: of all images, and of each product and camera with :data:`FEWEST_IMAGES`.

    Args:
        detector: fitted.
        images: that were scored, in this order.
        unseen: their scores.
        rate: accepted share of good images above the threshold, in (0, 1).
        not_counted: numbers of images, as ``unseen`` has them, that do not count.
    """
    rows = [row for row, number in enumerate(unseen.images) if number not in not_counted]
    deciding = deciding_scores(detector, unseen)

    def from_rows(chosen: Sequence[int]) -> Calibration:
        scores, peaks = ([of_all[row] for row in chosen] for of_all in (deciding, unseen.map_peaks))
        groups = [images[row].group for row in chosen]
        all_distances = [unseen.scales[row][0].appearance_distances for row in chosen]
        distances = [None if of_image is None else min(of_image) for of_image in all_distances]
        return calibrate(scores, peaks, rate, groups, is_estimate=True, appearance_distances=distances)

    of_parts = defaultdict[str, list[int]](list)
    for row in rows:
        for name in names_of(images[row]):
            of_parts[name].append(row)
    enough = {name: chosen for name, chosen in sorted(of_parts.items()) if len(chosen) >= FEWEST_IMAGES}
    return Calibrations(from_rows(rows), {name: from_rows(chosen) for name, chosen in enough.items()})

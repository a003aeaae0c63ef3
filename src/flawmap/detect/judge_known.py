"""Known defects, judged by scorers that have not seen them: how many does the threshold miss?"""

from collections.abc import Sequence
from dataclasses import replace

from flawmap.data.images.files import read_image
from flawmap.data.rois import roi_of_each
from flawmap.data.sample import KnownDefect
from flawmap.detect.detection import refuse_not_finite
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.scoring import analyse
from flawmap.runs.known_defects import KnownDefectScores, ScoredDefect, write_known_defects
from flawmap.runs.run_folder import RunFolder
from flawmap.scorer import UnseenDefects


def judge_known(
    detector: AnomalyDetector, defects: Sequence[KnownDefect], unseen: UnseenDefects, run: RunFolder
) -> None:
    """Score known defects, and keep in run and detector how many are missed.

    The memory has not seen any of them. Where the head enters the score, each is scored with one that has not either.

    Args:
        detector: fitted, with its threshold, or without one where none is wanted.
        defects: that its head has learned from.
        unseen: which scorer has not seen which.
        run: takes the scores.
    """
    name, scores = detector.recipe.detect.image_score, dict[int, float]()
    for fold in sorted(set(unseen.folds)):
        scorer = unseen.scorer_without(fold).to(detector.device).eval()
        for number in (number for number, of_defect in enumerate(unseen.folds) if of_defect == fold):
            pixels = read_image(defects[number].path)
            rois = roi_of_each(detector.rois, [defects[number]])
            (analysis,) = analyse(scorer, [pixels], detector.sizes_px, detector.at_once, rois)
            refuse_not_finite(analysis.scores, analysis.anomaly_map)
            scores[number] = float(analysis.scores[name])
    calibration = detector.calibration_
    scored = tuple(
        ScoredDefect(defect.key, scores[number], defect.truth is not None) for number, defect in enumerate(defects)
    )
    threshold = promised = None
    if calibration is not None:
        rates = calibration.false_alarm_rate, calibration.smallest_resolvable_rate
        threshold, promised = calibration.threshold, rates[not calibration.is_resolved]
    found = KnownDefectScores(threshold, promised, scored)
    write_known_defects(run.known_defects, found)
    detector.record_ = replace(detector.record_, known_defects=found.counts)

"""Lines that make the same parts with the same first model, and differ in what is done each Friday."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from flawmap.data.sample import NormalImage
from flawmap.detect.calibration import calibrate
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.judge_unseen import calibrations_of
from flawmap.engine.compute import choose_compute
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import fit_units
from flawmap.memory.fitted import unseen_scores
from flawmap.memory.units import WholeImages
from flawmap.memory.update import Learned
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import file_sha256
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.encoder import Encoder
from flawmap_bench.line_quarter.operator import Week, work_of_week
from flawmap_bench.line_quarter.parts import WEEKS, Part, image_file

NOTHING, CALIBRATED, SAMPLE_ALONE = "nothing", "calibration", "calibration, random sample alone"
UPDATED = "updates"
LINES = (NOTHING, CALIBRATED, SAMPLE_ALONE, UPDATED)
FEWEST = 5  # good images that a threshold is set from, as for flawmap calibrate
Scores = list[tuple[float, float]]  # of each part: its score, and the highest value of its map


class Quarter:
    """The parts of a quarter and the model that all lines start with.

    Args:
        training, line: from :func:`flawmap_bench.line_quarter.parts.quarter`.
        folder: for images of the other camera.
    """

    def __init__(
        self, training: Sequence[Part], line: Sequence[Part], encoder: Encoder, recipe: Recipe, folder: Path
    ) -> None:
        self.recipe, self._encoder, self._folder = recipe, encoder, folder
        self._training = tuple(self._image(part) for part in training)
        self.weeks = [[part for part in line if part.week == week] for week in range(1, WEEKS + 1)]
        self._first = self._fitted()
        self._first_scores: dict[int, Scores] = {}

    def run(self, name: str) -> list[Week]:
        """One line from the first to the last week."""
        detector, done = self._copy(), []
        for parts in self.weeks:
            week = parts[0].week
            scores = self._scores(detector, parts) if name == UPDATED else self._scores_of_first(week)
            calibration = detector.calibration_
            assert calibration is not None
            of_parts = [score for score, _ in scores]
            confirms = name != NOTHING
            found, false_alarms, sample = work_of_week(
                parts, of_parts, calibration.threshold, self.recipe.seed, confirms
            )
            done.append(found)
            say("line", f"{name}, week {week}: {found.false_alarms} false alarms, {found.missed} missed")
            if week == WEEKS:
                break
            if name == UPDATED:
                self._update(detector, [parts[number] for number in false_alarms], is_reviewed=True)
                self._update(detector, [parts[number] for number in sample], is_reviewed=False)
            elif confirms:
                counted = sample + (false_alarms if name == CALIBRATED else [])
                if len(counted) >= FEWEST:
                    kept = [scores[number] for number in counted]
                    rate = calibration.false_alarm_rate
                    detector.calibration_ = calibrate([s for s, _ in kept], [p for _, p in kept], rate)
        return done

    def _image(self, part: Part) -> NormalImage:
        path = image_file(part, self._folder)
        return NormalImage(path.name, path, file_sha256(path))

    def _scores_of_first(self, week: int) -> Scores:
        """By the first model, which all lines but one keep."""
        if week not in self._first_scores:
            self._first_scores[week] = self._scores(self._first, self.weeks[week - 1])
        return self._first_scores[week]

    def _scores(self, detector: AnomalyDetector, parts: Sequence[Part]) -> Scores:
        analyses = (detector.analyse(image_file(part, self._folder)) for part in parts)
        name = self.recipe.detect.image_score
        return [(one.scores[name], float(one.anomaly_map.max())) for one in analyses]

    def _update(self, detector: AnomalyDetector, parts: Sequence[Part], is_reviewed: bool) -> None:
        if parts:
            detector.update([self._image(part) for part in parts], is_reviewed, "cpu")

    def _fitted(self) -> AnomalyDetector:
        """Trained, with thresholds from folds, and with what an update goes on from."""
        recipe, detector = self.recipe, AnomalyDetector(self.recipe)
        with tempfile.TemporaryDirectory(prefix="flawmap-line-") as folder:
            compute = choose_compute("cpu", "fp32")
            context = StageContext(
                RunFolder(Path(folder)), compute, recipe.seed, recipe.data.image_size_px, {}, is_shared=False
            )
            simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
            fitted = fit_units(WholeImages(self._training), self._encoder, recipe, context, simulate)
            unseen = unseen_scores(fitted, recipe)
            assert unseen is not None
            detector.scorer_ = fitted.scorer.eval()
            detector.learned_ = Learned(self._training, frozenset(), fitted.good)
            judged = [self._training[number] for number in unseen.images]
            rate = recipe.calibration.false_alarm_rate
            detector.calibrations_ = calibrations_of(detector, judged, unseen, rate)
        return detector

    def _copy(self) -> AnomalyDetector:
        """The first model again; an update replaces its parts and changes none of them."""
        first, detector = self._first, AnomalyDetector(self.recipe)
        detector.scorer_, detector.learned_ = first.scorer_, first.learned_
        detector.calibrations_ = first.calibrations_
        return detector

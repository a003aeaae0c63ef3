"""Whether a served model may be trusted: the self-test that it carries, and images that it could not score since."""

import sys
import traceback
from dataclasses import dataclass

from flawmap.deploy.opened_model import OpenedModel
from flawmap.detect.detection import NotScoredError
from flawmap.engine.progress import say
from flawmap.runs.self_test import SCORE, SelfTest, self_test_image

NOT_TESTED = "not tested: this model is from an earlier flawmap and carries no self-test; save or export it again"


class FailedModelError(Exception):
    """The model has failed its self-test, so that none of its scores means anything."""


@dataclass(frozen=True)
class Readiness:
    """What ``/readyz`` tells.

    Attributes:
        is_ready: whether verdicts are given and can be trusted.
        reason: why not, or what else there is to know; empty where the self-test was passed.
        expected: the self-test that the model carries; None in a model of an earlier flawmap.
        score: that the self-test image got here; None before the test, or where it got none.
        map_peak: the same of its map.
    """

    is_ready: bool
    reason: str
    expected: SelfTest | None
    score: float | None
    map_peak: float | None


class ModelHealth:
    """Runs the self-test once, and remembers what goes wrong afterwards; nothing makes a failed model good again.

    The thread that uses the model writes, any other may read.

    Args:
        expected: what the model must give for the self-test image; None where it does not say.
    """

    def __init__(self, expected: SelfTest | None) -> None:
        self._expected = expected
        self._score: float | None = None
        self._map_peak: float | None = None
        self._is_tested = expected is None
        self._failure = ""  # of the self-test
        self._n_not_scored, self._not_scored = 0, ""

    def run_self_test(self, model: OpenedModel) -> None:
        """Give the model the self-test image and compare what it answers with what it carries."""
        if self._expected is not None:
            try:
                (detection,) = model.predict_many([self_test_image()], [model.facts.camera_of_self_test])
                self._score, self._map_peak = detection.scores[SCORE], float(detection.anomaly_map.max())
                if not self._expected.is_passed_by(self._score, self._map_peak):
                    self._failure = "the model failed its self-test: " + self._both_numbers(self._expected)
            except NotScoredError as error:
                expected = f"expected is {self._expected.score:.6g}"
                self._failure = f"the model failed its self-test: {error.problem}; {expected}"
            except Exception as error:  # a bug or a fault of the machine: details go to the log only
                traceback.print_exception(error, file=sys.stderr)
                self._failure = "the self-test could not be run; the server's log says why"
        self._is_tested = True
        if self._failure:
            say("not ready", self._failure)

    def _both_numbers(self, expected: SelfTest) -> str:
        score = f"score {self._score:.6g}, expected {expected.score:.6g} within {expected.tolerance:.2g}"
        peak = f"map's peak {self._map_peak:.6g}, expected {expected.map_peak:.6g} within {expected.map_tolerance:.2g}"
        return f"{score}; {peak}"

    def note_not_scored(self, error: NotScoredError) -> None:
        """Remember that a readable image got no finite score. The others keep their verdicts, which are finite."""
        self._n_not_scored, self._not_scored = self._n_not_scored + 1, error.problem
        if self._n_not_scored == 1:
            say("not ready", f"an upload was not scored: {error.problem}")

    def refuse_failed(self) -> None:
        """Raises: FailedModelError: the self-test has failed."""
        if self._failure:
            raise FailedModelError(self._failure)

    @property
    def readiness(self) -> Readiness:
        """The state now."""
        if not self._is_tested:
            reason, is_ready = "the self-test has not been run yet", False
        elif self._failure:
            reason, is_ready = self._failure, False
        elif self._n_not_scored:
            uploads = "1 upload was" if self._n_not_scored == 1 else f"{self._n_not_scored} uploads were"
            reason, is_ready = f"{uploads} not scored: {self._not_scored}", False
        else:
            reason, is_ready = "" if self._expected is not None else NOT_TESTED, True
        return Readiness(is_ready, reason, self._expected, self._score, self._map_peak)

"""Which thresholds a request asked for: those of a camera, or for a trial those of another false-alarm rate."""

from dataclasses import replace

from fastapi import HTTPException

from flawmap.deploy.current_model import CurrentModel
from flawmap.detect.calibration import at_rate
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError


def facts_asked(model: CurrentModel, camera: str | None, false_alarm_rate: float | None) -> ModelFacts | None:
    """The facts with these thresholds; None where the request asked for none.

    Raises:
        HTTPException: the camera has no threshold, or the model has none that could be set for another rate.
    """
    if camera is None and false_alarm_rate is None:
        return None
    try:
        facts = model.facts if camera is None else model.facts_of_camera(camera)
        if false_alarm_rate is None:
            return facts
        if facts.calibration is None:
            raise HTTPException(422, "without a threshold there is no false-alarm rate to change")
        return replace(facts, calibration=at_rate(facts.calibration, false_alarm_rate))
    except UserError as error:
        raise HTTPException(422, error.problem) from error

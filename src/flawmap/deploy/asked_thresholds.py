"""Which thresholds a request asked for: of a product or camera, or for a trial those of another rate."""

from difflib import get_close_matches

from fastapi import HTTPException, Request

from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.threshold_choice import at_rate_of
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.runs.threshold_names import camera_in, product_in, threshold_name


def facts_asked(
    model: CurrentModel, product: str | None, camera: str | None, false_alarm_rate: float | None
) -> ModelFacts | None:
    """The facts with these thresholds; None where the request asked for none.

    Raises:
        HTTPException: the product or camera has no threshold, or the model has none that could be set for another rate.
    """
    served = model.facts.camera  # what the request does not name stays as it was when the server was started
    name = threshold_name(product or product_in(served), camera or camera_in(served))
    if product is None and camera is None and false_alarm_rate is None:
        return None
    try:
        facts = model.facts if name is None else model.facts_of_camera(name)
        if false_alarm_rate is None:
            return facts
        if facts.calibration is None:
            raise HTTPException(422, "without a threshold there is no false-alarm rate to change")
        return at_rate_of(facts, false_alarm_rate)
    except UserError as error:
        raise HTTPException(422, error.problem) from error


def refuse_unknown_parameters(request: Request) -> None:
    """A mistyped ``camera`` in the address would be judged by the default threshold without a word.

    Raises:
        HTTPException: the address has a parameter that the route does not know.
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise HTTPException(422, f"there is no parameter {name!r}; {hint}")

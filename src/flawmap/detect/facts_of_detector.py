"""What identifies a fitted detector, for a server or an exported file."""

import hashlib
from typing import TYPE_CHECKING

import flawmap
from flawmap.detect.model_facts import ModelFacts
from flawmap.detect.pretrained import weights_of
from flawmap.scorer import Scorer

if TYPE_CHECKING:
    from flawmap.detect.detector import AnomalyDetector


def facts_of(detector: "AnomalyDetector", scorer: Scorer, name: str, precision: str | None) -> ModelFacts:
    """See :meth:`AnomalyDetector.facts`; ``scorer`` is the detector's."""
    origin = detector.origin_
    assert origin is not None
    return ModelFacts(
        name=name,
        weights_sha256=detector.weights_sha256_ or hashlib.sha256(weights_of(scorer)).hexdigest(),
        architecture=origin.architecture,
        weights_source=origin.source,
        weights_licence=origin.licence,
        sizes_px=detector.sizes_px,
        image_score=detector.recipe.detect.image_score,
        score_names=detector.score_names,
        precision=precision or detector.recipe.encoder_precision,
        calibration=detector.calibration_,
        flawmap=flawmap.__version__,
        camera=detector.camera_,
        cameras=detector.calibrations_.cameras,
        self_test=detector.self_test_,
        roi=detector.recipe.data.roi,
        proxy=detector.proxy_,
        trained=detector.trained_,
    )

"""What ``flawmap evaluate parts.onnx DATA`` does: measure an exported file, without torch for ONNX files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.deploy.good_scores import manifest_of
from flawmap.deploy.runtime import ExportedModel, load
from flawmap.detect.detection import NotScoredError
from flawmap.engine.progress import say
from flawmap.evaluate.evaluable import AnalysesElsewhere
from flawmap.evaluate.evaluate import evaluate
from flawmap.evaluate.test_images import TestImages, keep, refuse_evaluation_size
from flawmap.recipe.settings import DataSettings, Recipe
from flawmap.runs.calibration import Calibration, MapScale
from flawmap.runs.evaluation import Evaluation
from flawmap.runs.manifest import read_used_images
from flawmap.runs.result_folders import free_path


def evaluate_file(
    path: Path,
    asked: TestImages,
    output: Path | None = None,
    command: str = "",
    evaluation_size_px: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    elsewhere: AnalysesElsewhere | None = None,
) -> Evaluation:
    """Measure an exported file on labelled images, by the threshold in the file beside it, or else by its own.

    An exported file does not know its training images. Beside its run, images that training has seen are refused;
    elsewhere the caller has to see to it.

    Args:
        path: of the exported file.
        asked: the images.
        output: folder for metrics and maps; None writes nothing.
        command: that repeats this, for the record.
        evaluation_size_px: see :func:`flawmap.evaluate.evaluate.evaluate`.
        progress: called after each image with (done, total).
        elsewhere: see :func:`flawmap.evaluate.evaluate.evaluate`.

    Raises:
        UserError: as :func:`flawmap.deploy.load`; unusable data, images that training has seen, or results that cannot
            be written.
    """
    refuse_evaluation_size(evaluation_size_px)
    model = load(path)
    if model.facts.threshold_file:
        say("threshold", model.facts.threshold_words[0])
    manifest = manifest_of(path, model.facts)
    data = asked.checked(DataSettings(), read_used_images(manifest) if manifest else ())
    score = partial(
        evaluate,
        ExportedFile(model),
        data,
        command=command,
        progress=progress,
        evaluation_size_px=evaluation_size_px,
        elsewhere=elsewhere,
    )
    return score() if output is None else keep(score, free_path(output))


@dataclass(frozen=True)
class _Analysed:
    """An ``Analysed`` of a file, whose graph gives no scores of single sizes."""

    scores: Mapping[str, float]
    anomaly_map: NDArray[np.float32]
    inside: NDArray[np.bool_] | None
    scales: tuple[()] = ()


class ExportedFile:
    """An ``Evaluable``."""

    batch_size, device = 1, "cpu"

    def __init__(self, model: ExportedModel) -> None:
        facts, recipe = model.facts, Recipe()
        self.calibration_: Calibration | None = facts.calibration
        self.judging = facts.judging
        self.map_scale: MapScale = facts.map_scale
        self.score_names: tuple[str, ...] = facts.score_names
        # of its recipe, the file knows these two
        self.recipe = replace(
            recipe,
            detect=replace(recipe.detect, image_score=facts.image_score),
            data=replace(recipe.data, image_size_px=facts.sizes_px[0]),
        )
        self._model = model.with_facts(replace(facts, calibration=None))  # regions are not looked at

    def analyse_many(
        self, images: Sequence[NDArray[np.uint8]], places: Sequence[str], cameras: Sequence[str | None]
    ) -> list[_Analysed]:
        """Score images one at a time."""
        found = []
        for image, place, camera in zip(images, places, cameras, strict=True):
            try:
                detection = self._model.predict(image, camera)
            except NotScoredError as error:
                raise error.at(place) from None
            found.append(_Analysed(detection.scores, detection.anomaly_map, detection.inside))
        return found

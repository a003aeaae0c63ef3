"""What the report shows and only the model can compute: its attention on some test images, and features of many."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flawmap.data.images.files import read_image
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.report.figures import Features
from flawmap.report.instructive import most_instructive
from flawmap.runs.evaluation import ScoredImage, read_evaluation, read_per_image, write_attention
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.class_token import ClassToken, class_token
from flawmap.vit.encoder import Encoder

MAX_FEATURES = 400  # test images in the t-SNE


def keep_attention(run: RunFolder, detector: AnomalyDetector) -> None:
    """Write the attention on the test images that the report shows.

    Originals that are gone are left out, and nothing is written for a detector without an encoder of ours.
    """
    evaluation = read_evaluation(run.evaluation)
    if evaluation is None or evaluation.threshold is None:
        return
    choices = most_instructive(read_per_image(run.evaluation), evaluation.threshold)
    with_maps = [choice.image for choice in choices if choice.image.map_file is not None]
    for image, token in _class_tokens(detector, with_maps):
        assert image.map_file is not None
        write_attention(run.evaluation, image.map_file.name, token.attention)


def features_of_run(
    path: Path, device: DeviceName, progress: Callable[[int, int], None]
) -> tuple[Features | None, str]:
    """Features of a run's test images, or None and why there are none; the attention is written, too.

    Raises:
        UserError: the run or its model is damaged.
    """
    run = RunFolder(path)
    images = read_per_image(run.evaluation)
    if not images:
        return None, "the run has not been evaluated"
    detector = AnomalyDetector.from_pretrained(path, device)
    keep_attention(run, detector)
    return features_of(detector, images, progress), "the test images are gone, or the detector has no encoder"


def features_of(
    detector: AnomalyDetector, images: Sequence[ScoredImage], progress: Callable[[int, int], None]
) -> Features | None:
    """[CLS] features of test images, at most 400 evenly spread over the table; None without images or encoder."""
    chosen = list(images)
    if len(chosen) > MAX_FEATURES:
        chosen = [chosen[int(place)] for place in np.linspace(0, len(chosen) - 1, MAX_FEATURES)]
    vectors, kinds = [], []
    for image, token in _class_tokens(detector, chosen, progress):
        vectors.append(token.feature)
        kinds.append(image.kind if image.is_anomalous else "good")
    return Features(np.stack(vectors), tuple(kinds)) if vectors else None


def _class_tokens(
    detector: AnomalyDetector,
    images: Sequence[ScoredImage],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[ScoredImage, ClassToken]]:
    """The class token of each image whose original is still there, at the test size nearest to that of training."""
    encoder = getattr(detector.scorer_, "encoder", None)
    if not isinstance(encoder, Encoder):
        return
    size_px = min(detector.sizes_px, key=lambda size: abs(size - detector.recipe.training_size_px))
    for number, image in enumerate(images):
        progress(number + 1, len(images))
        try:
            pixels = read_image(image.path)
        except (UserError, OSError):  # the original is gone
            continue
        yield image, class_token(encoder, pixels, size_px)

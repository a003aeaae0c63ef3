"""What the report shows of the encoder itself: its attention on some test images, and features of many."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.report.figures import Features
from flawmap.report.instructive import most_instructive
from flawmap.report.run_files import ScoredImage, read_run
from flawmap.vit.class_token import class_token
from flawmap.vit.encoder import Encoder

MAX_FEATURES = 400  # test images in the t-SNE


def write_attention(run: Path, detector: AnomalyDetector) -> int:
    """Writes ``RUN/evaluation/attention/*.png`` for the test images that the report shows: one gray pixel per patch.

    Each picture is as bright as its own largest value allows. Originals that are gone are passed over, and a detector
    whose scorer has no encoder of ours writes nothing.

    Returns:
        how many were written.
    """
    encoder, files = getattr(detector.scorer_, "encoder", None), read_run(run)
    if files.threshold is None or not isinstance(encoder, Encoder):
        return 0
    folder, n_written = files.run / "evaluation" / "attention", 0
    for choice in most_instructive(files.images, files.threshold):
        image = choice.image
        try:
            pixels = read_image(image.path)
        except (UserError, OSError):
            continue
        if image.map_file is None:
            continue
        attention = class_token(encoder, pixels, size_of(detector)).attention
        folder.mkdir(exist_ok=True)
        gray = np.rint(255 * attention / max(float(attention.max()), 1e-12)).astype(np.uint8)
        Image.fromarray(gray).save(folder / image.map_file.name)
        n_written += 1
    return n_written


def features_of(
    detector: AnomalyDetector, images: Sequence[ScoredImage], progress: Callable[[int, int], None]
) -> Features | None:
    """[CLS] features of test images, at most 400 evenly spread over the table; None without images or encoder."""
    encoder = getattr(detector.scorer_, "encoder", None)
    if not isinstance(encoder, Encoder):
        return None
    chosen = list(images)
    if len(chosen) > MAX_FEATURES:
        chosen = [chosen[int(place)] for place in np.linspace(0, len(chosen) - 1, MAX_FEATURES)]
    vectors, kinds = [], []
    for number, image in enumerate(chosen):
        progress(number + 1, len(chosen))
        try:
            pixels = read_image(image.path)
        except (UserError, OSError):  # the original is gone
            continue
        vectors.append(class_token(encoder, pixels, size_of(detector)).feature)
        kinds.append(image.kind if image.is_anomalous else "good")
    return Features(np.stack(vectors), tuple(kinds)) if vectors else None


def size_of(detector: AnomalyDetector) -> int:
    """The test size next to the size of training, in pixels: what the encoder knows best."""
    recipe = detector.recipe
    training = recipe.finetune.image_size_px or recipe.data.image_size_px
    return min(detector.sizes_px, key=lambda size: abs(size - training))

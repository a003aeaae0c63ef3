"""Whether an exported file answers as the detector does, on real images: which images, and how far the two differ."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.data.images.files import read_image
from flawmap.data.layouts.image_folders import images_in
from flawmap.data.open_data import find_all_test_data, open_test_data, open_training_data
from flawmap.deploy.runtime import ExportedModel
from flawmap.detect.detection import Detection, NotScoredError
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.metrics.ranking import auroc
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import file_sha256
from flawmap.runs.manifest import read_used_images
from flawmap.runs.run_folder import RunFolder

MAX_SCORE_DIFFERENCE = 1e-3
MAX_MAP_DIFFERENCE = 0.05  # of the colour scale's range: where two tokens in memory are equally near, runtimes differ
MAX_AUROC_DIFFERENCE = 1e-3  # a tenth of a point
GIVE_IMAGES = "give a few with --images FOLDER"


@dataclass(frozen=True)
class CheckImage:
    """An image to compare on, whether it is anomalous and which camera took it, where that is known."""

    path: Path
    is_anomalous: bool | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Parity:
    """The differences between a detector and an exported file.

    Attributes:
        n: number of images.
        max_score_difference: over all images, of the score that decides.
        max_map_difference: over all pixels of all images.
        n_verdicts_changed: images that only one of the two calls anomalous.
        auroc: of the detector and of the file; None where images have no labels or all have the same label.
        max_logit_difference: over all images, of the mean logit, which shows differences that votes hide.
        map_range: width of the detector's colour scale.
    """

    n: int
    max_score_difference: float
    max_map_difference: float
    n_verdicts_changed: int
    auroc: tuple[float, float] | None
    max_logit_difference: float = 0.0
    map_range: float = float("inf")

    @property
    def is_finite(self) -> bool:
        """Whether the file gave every image a finite score and map."""
        return bool(np.isfinite([self.max_score_difference, self.max_logit_difference, self.max_map_difference]).all())

    @property
    def is_good(self) -> bool:
        """Scores agree to 1e-3, AUROC to a tenth of a point, maps to 5 % of their range; NaN never agrees."""
        auroc_agrees = self.auroc is None or abs(self.auroc[0] - self.auroc[1]) <= MAX_AUROC_DIFFERENCE
        scores_agree = max(self.max_score_difference, self.max_logit_difference) <= MAX_SCORE_DIFFERENCE
        maps_agree = self.max_map_difference <= MAX_MAP_DIFFERENCE * self.map_range
        return self.is_finite and scores_agree and maps_agree and auroc_agrees

    def with_a_batch(
        self, detector: AnomalyDetector, exported: ExportedModel, images: Sequence[CheckImage]
    ) -> "Parity":
        """The same, and the largest differences where several images share a run of the file's graph.

        Args:
            detector: the reference.
            exported: the file, which scores ``batch_size`` images at once.
            images: the first is mirrored and turned until there are as many of its size.
        """
        first = read_image(images[0].path)
        batch = [first, first[:, ::-1], first[::-1], first[::-1, ::-1]][: exported.batch_size]
        try:
            cameras = [_camera_of(images[0], detector)] * len(batch)
            together = exported.predict_many([np.ascontiguousarray(image) for image in batch], cameras)
        except NotScoredError:
            return replace(self, max_score_difference=math.nan)
        pairs = list(zip([_verdict(detector, image, cameras[0]) for image in batch], together, strict=True))
        scores = [abs(ours.score - theirs.score) for ours, theirs in pairs]
        logits = [abs(ours.scores["mean_logit"] - theirs.scores["mean_logit"]) for ours, theirs in pairs]
        maps = [float(np.abs(ours.anomaly_map - theirs.anomaly_map).max()) for ours, theirs in pairs]
        return replace(
            self,
            max_score_difference=float(np.max([self.max_score_difference, *scores])),
            max_map_difference=float(np.max([self.max_map_difference, *maps])),
            max_logit_difference=float(np.max([self.max_logit_difference, *logits])),
        )


def compare(
    detector: AnomalyDetector,
    exported: ExportedModel | AnomalyDetector,
    images: Sequence[CheckImage],
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Score every image with the detector and with the file; only one image is in memory at a time.

    Args:
        detector: the reference.
        exported: the file; or another detector.
        images: one at least.
        progress: called with (images done, images).

    Raises:
        UserError: an image cannot be read, or the detector itself gives no finite score.
    """
    rows: list[tuple[float, float, float, float, bool]] = []
    for number, image in enumerate(images):
        camera = _camera_of(image, detector)
        rows.append(_differences(_verdict(detector, image.path, camera), exported, image.path, camera))
        if progress is not None:
            progress(number + 1, len(images))
    native_scores, scores, logits, maps, verdicts = np.array(rows, np.float64).T  # (n,) each; NaN stays NaN in max
    return Parity(
        n=len(rows),
        max_score_difference=float(np.abs(native_scores - scores).max()),
        max_map_difference=float(maps.max()),
        n_verdicts_changed=int(verdicts.sum()),
        auroc=_aurocs([image.is_anomalous for image in images], native_scores, scores),
        max_logit_difference=float(logits.max()),
        map_range=detector.map_scale.high - detector.map_scale.low,
    )


def _camera_of(image: CheckImage, detector: AnomalyDetector) -> str | None:
    """Whose region of interest counts; where nobody has said which camera took the image, any serves to compare."""
    return image.camera or (None if detector.rois is None else detector.rois.camera_of_self_test)


def _verdict(model: ExportedModel | AnomalyDetector, image: Path | NDArray[np.uint8], camera: str | None) -> Detection:
    """By the thresholds in use."""
    if isinstance(model, ExportedModel):
        return model.predict(image, camera)
    return model.verdict(model.analyse(image, camera))


def _differences(
    ours: Detection, exported: ExportedModel | AnomalyDetector, image: Path, camera: str | None
) -> tuple[float, float, float, float, bool]:
    """Both scores, and the differences of mean logit, map and verdict; NaN where the file gives no finite score."""
    try:
        theirs = _verdict(exported, image, camera)
    except NotScoredError:
        return ours.score, math.nan, math.nan, math.nan, True
    logit_difference = abs(ours.scores["mean_logit"] - theirs.scores["mean_logit"])
    map_difference = float(np.abs(ours.anomaly_map - theirs.anomaly_map).max())
    return ours.score, theirs.score, logit_difference, map_difference, ours.is_anomalous != theirs.is_anomalous


def _aurocs(
    labels: Sequence[bool | None], native_scores: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[float, float] | None:
    if None in labels or not np.isfinite([native_scores, scores]).all():
        return None
    native, exported = (auroc(values, np.array(labels, bool)) for values in (native_scores, scores))
    return None if native is None or exported is None else (native, exported)


def given_images(location: str, count: int) -> tuple[CheckImage, ...]:
    """Images of a data location, evenly spaced: labelled ones, half of them anomalous, where it has any.

    Args:
        location: anything that ``flawmap evaluate`` or ``flawmap train`` reads, or a folder of any images.
        count: the most images to return.

    Raises:
        UserError: there are none.
    """
    tests = find_all_test_data(location, DataSettings())
    if tests is not None and tests.samples:
        samples = open_test_data(location, DataSettings(test_subset=max(1, count // 2))).samples
        return tuple(CheckImage(sample.path, sample.is_anomalous, sample.camera) for sample in samples)
    path = Path(location)
    images = images_in(path).images if path.is_dir() else ()
    if images:
        return tuple(CheckImage(path) for path in images[:: -(-len(images) // count)])
    normals = open_training_data(location, DataSettings(train_subset=count)).images
    return tuple(CheckImage(image.path, camera=image.camera) for image in normals)


def images_of_run(run: Path, count: int) -> tuple[CheckImage, ...]:
    """Images that the run was trained from and that are unchanged, held-out ones first.

    Raises:
        UserError: the run does not say where they are, or they are gone or changed.
    """
    folder = RunFolder(run)
    rows = {row.key: row for row in read_used_images(folder.manifest)}
    try:
        location = folder.read_environment()["data"]
        images = open_training_data(location, load_recipe(folder.recipe, is_of_model=True).data).images
    except (OSError, ValueError, KeyError, UserError) as error:
        raise UserError("the images of this run cannot be found", str(run), GIVE_IMAGES) from error
    known = sorted((image for image in images if image.key in rows), key=lambda image: rows[image.key].split == "train")
    unchanged = (image for image in known if file_sha256(image.path) == rows[image.key].sha256)
    chosen = tuple(
        CheckImage(image.path, camera=image.camera) for image, _ in zip(unchanged, range(count), strict=False)
    )
    if not chosen:
        raise UserError("none of the run's images is still there, unchanged", str(run), GIVE_IMAGES)
    return chosen

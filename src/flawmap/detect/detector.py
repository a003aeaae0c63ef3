"""AnomalyDetector: fit on good images, then say of new ones whether something is wrong, and where."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from flawmap.data.images.files import read_image, to_rgb
from flawmap.data.pool import Pool, pool_beside
from flawmap.data.sample import NormalImage, TrainingData
from flawmap.data.split import split_normals
from flawmap.detect.calibration import calibrate, refuse_bad_rate
from flawmap.detect.detection import Detection
from flawmap.detect.fit import StageChoice, train_stages
from flawmap.detect.held_out import ProxyScores, fit_map_scales, proxy_scores, simulate_on, write_samples
from flawmap.detect.pretrained import FILES, load_pretrained, write_pretrained
from flawmap.detect.regions import find_regions
from flawmap.detect.scoring import (
    ScaleResult,
    image_scores,
    mean_map,
    score_at_scales,
    score_names,
    test_sizes,
)
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer
from flawmap.recipe.checks import validate
from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale
from flawmap.runs.hub import upload
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.scorer import Scorer
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import WeightsOrigin

MIN_SCALE_IMAGES = 8  # held out; fewer say little of how evidence varies, and the memory's own are taken

ImageLike = str | Path | Image.Image | np.ndarray | NormalImage


@dataclass(frozen=True)
class Analysis:
    """All that one pass over the scales gives for one image."""

    scales: tuple[ScaleResult, ...]
    anomaly_map: Float[np.ndarray, "h w"]
    scores: dict[str, float]


class AnomalyDetector:
    """Learns from pictures of good parts only, and finds what is wrong, and where, in new ones.

    Args:
        recipe: all settings; None for the recommended ones, ``Recipe()``. The constructor only stores it.

    Attributes (after ``fit`` or ``from_pretrained``):
        scorer_: the trained networks.
        calibration_: thresholds, or None before calibration.
        origin_: where the initial weights came from.
        proxy_: held-out simulated defects' AUROC after ``fit`` (not a test result).
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe if recipe is not None else Recipe()
        self.scorer_: Scorer | None = None
        self.calibration_: Calibration | None = None
        self.origin_: WeightsOrigin | None = None
        self.proxy_: ProxyScores | None = None
        self.stage_keys_: dict[str, str] = {}
        self.record_: dict[str, Any] = {}  # of data and evaluation, for the model card

    def fit(
        self,
        images: TrainingData | Sequence[NormalImage],
        run: RunFolder | None = None,
        device: DeviceName = "auto",
        stages: StageChoice = "all",
        pool: Pool | None = None,
        until: float | None = None,
    ) -> "AnomalyDetector":
        """Pre-train, fine-tune and calibrate on normal images.

        Args:
            images: of good parts only, for example from :func:`flawmap.load_images`.
            run: where results, log and checkpoints go, and from where an interrupted training goes on; a
                temporary folder when None.
            device: ``auto`` takes CUDA, then MPS, then the processor.
            stages: ``pretrain`` ends after stage 1 and leaves the detector unfitted.
            pool: of stage 1, where it has been read already; None reads what ``data.pretrain_on`` names.
            until: see :class:`flawmap.engine.compute.Compute`; for comparisons at equal time.

        Returns:
            self.

        Raises:
            UserError: settings that do not hold, weights that cannot be found, too few images, a device that is not
                there, a training that has collapsed.
        """
        if run is None:
            with tempfile.TemporaryDirectory(prefix="flawmap-") as folder:
                return self.fit(
                    images, create_run(Path(folder) / "run", "fit", self.recipe), device, stages, pool, until
                )
        validate(self.recipe)
        self.scorer_ = self.calibration_ = self.proxy_ = None
        self.record_ = {}  # of an earlier model
        normals = only_normal(images.images if isinstance(images, TrainingData) else images)
        recipe = self.recipe
        train, held_out = split_normals(normals, recipe.calibration.held_out_fraction, recipe.seed)
        pool = pool_beside(normals, recipe) if pool is None else pool
        compute = choose_compute(device, recipe.compute.precision, recipe.compute.devices)
        compute = replace(compute, until=until)
        say("device", f"{compute.device}, {compute.precision}: {compute.reason}")
        trained = train_stages(train, recipe, run, compute, stages, pool=pool.images)
        self.origin_, self.stage_keys_ = trained.origin, trained.stage_keys
        if trained.scorer is None:
            return self
        self.scorer_ = trained.scorer.to(compute.device).eval()
        if isinstance(self.scorer_, TokenScorer):
            are_few = len(held_out) < MIN_SCALE_IMAGES
            fit_map_scales(self.scorer_, train if are_few else held_out, self.sizes_px[0], in_memory=are_few)
        if held_out:
            size_px = self._training_size_px()
            defects = simulate_on(held_out, trained.guide, recipe, size_px, compute)
            self.proxy_ = proxy_scores(self.scorer_, defects, self.sizes_px, recipe.detect.image_score)
            self.calibrate(held_out, recipe.calibration.false_alarm_rate)
            write_samples(run, self.scorer_, defects, self.sizes_px, recipe.pretrain.masking.drop_ratio, self.map_scale)
        return self

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """The test sizes, multiples of the patch; a memory of normal tokens has one."""
        recipe, scorer = self.recipe, self._fitted
        sizes = (recipe.data.image_size_px,) if isinstance(scorer, TokenScorer) else recipe.detect.sizes_px
        return test_sizes(sizes, scorer.encoder.patch_size_px)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The image scores that this detector gives."""
        return score_names(self._fitted)

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of all maps of this detector."""
        return self.calibration_.map_scale if self.calibration_ else UNCALIBRATED_MAP_SCALE

    def _training_size_px(self) -> int:
        if isinstance(self._fitted, TokenScorer):
            return self.sizes_px[0]
        size = self.recipe.finetune.image_size_px or self.recipe.data.image_size_px
        return round_to_patches(size, self._fitted.encoder.patch_size_px)

    @property
    def _fitted(self) -> Scorer:
        if self.scorer_ is None:
            raise UserError("this detector is not fitted", "AnomalyDetector", "call fit(), or from_pretrained()")
        return self.scorer_

    @property
    def device(self) -> str:
        """Where it computes: ``cpu``, ``cuda`` or ``mps``."""
        return next(self._fitted.parameters()).device.type

    def analyse(self, image: ImageLike) -> Analysis:
        """Score one image at every scale: maps, logits and image scores."""
        scorer, pixels = self._fitted, as_rgb(image)
        scales = score_at_scales(scorer, pixels, self.sizes_px)
        anomaly_map = mean_map(scales, pixels.shape[0], pixels.shape[1])
        return Analysis(scales, anomaly_map, image_scores(scales, anomaly_map, self.score_names))

    def predict(self, images: ImageLike | Sequence[ImageLike] | TrainingData) -> Detection | list[Detection]:
        """The verdict on one image, or on each of a list.

        Args:
            images: a path, a PIL image, a uint8 array (H, W) or (H, W, 3), or a list of these; or what
                :func:`flawmap.load_images` gives.

        Raises:
            UserError: the detector is not fitted, or a file or array is no image.
        """
        if isinstance(images, ImageLike):
            return self.predict_one(images)
        return [self.predict_one(image) for image in each_of(images)]

    def predict_one(self, image: ImageLike) -> Detection:
        """The verdict on one image."""
        return self.verdict(self.analyse(image))

    def verdict(self, analysis: Analysis) -> Detection:
        """Turn an analysis into a verdict by the calibrated thresholds; without them nothing is called anomalous."""
        calibration = self.calibration_
        score = analysis.scores[self.recipe.detect.image_score]
        regions = find_regions(analysis.anomaly_map, calibration.map_threshold) if calibration else ()
        return Detection(
            score=score,
            is_anomalous=calibration is not None and score > calibration.threshold,
            threshold=calibration.threshold if calibration else None,
            anomaly_map=analysis.anomaly_map,
            regions=regions,
            scores=analysis.scores,
        )

    def score_samples(self, images: ImageLike | Sequence[ImageLike] | TrainingData) -> Float[np.ndarray, "n"]:
        """Image scores, one per image; higher = more anomalous, the opposite of scikit-learn's sign."""
        name = self.recipe.detect.image_score
        return np.array([self.analyse(image).scores[name] for image in each_of(images)], np.float64)

    def calibrate(
        self, images: ImageLike | Sequence[ImageLike] | TrainingData, false_alarm_rate: float = 0.01
    ) -> "AnomalyDetector":
        """Set the thresholds from normal images that training has not seen; no retraining.

        Args:
            images: good images, for example of a new camera.
            false_alarm_rate: wanted share of good images that are called anomalous, in (0, 1).

        Returns:
            self.
        """
        refuse_bad_rate(false_alarm_rate)
        name = self.recipe.detect.image_score
        scores, peaks = [], []
        for image in each_of(images):
            analysis = self.analyse(image)
            scores.append(analysis.scores[name])
            peaks.append(float(analysis.anomaly_map.max()))
        self.calibration_ = calibrate(scores, peaks, false_alarm_rate)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors), settings, calibration (JSON) and a model card; an existing folder is refused."""
        scorer, recipe, origin = self._fitted, self.recipe, self.origin_
        write_pretrained(
            *(Path(folder), scorer, recipe, self.calibration_, origin, self.stage_keys_, self.proxy_, self.record_)
        )

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Send the model folder to ``OWNER/NAME`` on the Hugging Face hub; returns the address of the commit.

        Only the five files of :meth:`save_pretrained` are sent, no image. A new repository is private unless
        ``private=False``.
        """
        with tempfile.TemporaryDirectory(prefix="flawmap-") as folder:
            self.save_pretrained(Path(folder) / "model")
            return upload(Path(folder) / "model", repository, private, FILES)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: DeviceName = "auto") -> "AnomalyDetector":
        """Load what :meth:`save_pretrained` or ``flawmap train`` wrote. Executes nothing.

        Args:
            folder: a model or run folder, or ``hub:OWNER/NAME`` for a model of the Hugging Face hub.
            device: ``auto`` takes CUDA, then MPS, then the processor.
        """
        saved = load_pretrained(folder)
        detector = cls(saved.recipe)
        detector.scorer_ = saved.scorer.to(choose_compute(device, "fp32").device).eval()
        detector.calibration_, detector.origin_ = saved.calibration, saved.origin
        detector.stage_keys_, detector.proxy_, detector.record_ = saved.stage_keys, saved.proxy, saved.record
        return detector


def only_normal(images: Sequence[object]) -> tuple[NormalImage, ...]:
    """The images that training takes: those that have no place for a label.

    Raises:
        UserError: one is something else, for example a labelled test image.
    """
    strangers = {type(image).__name__ for image in images if not isinstance(image, NormalImage)}
    if strangers:
        raise UserError(
            f"training takes NormalImage only, not {', '.join(sorted(strangers))}",
            "AnomalyDetector.fit",
            "flawmap.load_images(FOLDER) gives them; a labelled image must not be learned from",
        )
    return tuple(image for image in images if isinstance(image, NormalImage))


def as_rgb(image: ImageLike) -> UInt8[np.ndarray, "h w 3"]:
    """Any accepted image as uint8 RGB."""
    if isinstance(image, NormalImage):
        return read_image(image.path)
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return to_rgb(image)


def each_of(images: ImageLike | Sequence[ImageLike] | TrainingData) -> Sequence[ImageLike]:
    """One image as a list of one, and what ``load_images`` gives as its images."""
    if isinstance(images, TrainingData):
        return images.images
    return [images] if isinstance(images, ImageLike) else images

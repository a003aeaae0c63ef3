"""AnomalyDetector: fit it on good images; it then tells whether a new image shows a defect, and where."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Float

from flawmap.data.pool import Pool
from flawmap.data.rois import RegionsOfInterest, rois_of
from flawmap.data.sample import KnownDefect, NormalImage, TrainingData
from flawmap.detect.calibration import calibrate, refuse_bad_rate
from flawmap.detect.detection import APPEARANCE_DISTANCE, Detection, NotScoredError, refuse_not_finite
from flawmap.detect.detections import Detections
from flawmap.detect.facts_of_detector import facts_of
from flawmap.detect.good_images import good_images, in_files
from flawmap.detect.image_like import ImageLike, Images, as_rgb, each_of, is_one_image, place_of
from flawmap.detect.model_facts import ModelFacts
from flawmap.detect.parameters import Parameters
from flawmap.detect.pretrained import Saved, load_pretrained, write_pretrained
from flawmap.detect.products import Judging, judging_by
from flawmap.detect.scoring import Analysis, analyse, analyse_in_order, device_of, images_at_once, score_names
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.loggers import opened_loggers
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale
from flawmap.runs.cameras import Calibrations, refuse_unknown_camera
from flawmap.runs.hub import upload
from flawmap.runs.model_config import ModelRecord, ProxyScores
from flawmap.runs.model_folder import SHARED_FILES, run_around
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.runs.self_test import SCORE, SelfTest, self_test_image
from flawmap.runs.threshold_names import Name, camera_in, product_in, threshold_name
from flawmap.scorer import Scorer
from flawmap.vit.class_token import class_token
from flawmap.vit.weights import WeightsOrigin

if TYPE_CHECKING:
    from flawmap.detect.fit import StageChoice
    from flawmap.engine.elsewhere import Elsewhere
    from flawmap.engine.loggers import AnyLogger
    from flawmap.memory.update import Learned


class AnomalyDetector(Parameters):
    """Learns from good images only, then detects and localizes defects in new images.

    Args:
        recipe: all settings; None takes the recommended ones, ``Recipe()``. The constructor only stores it.

    Attributes (after ``fit`` or ``from_pretrained``):
        scorer_: the trained networks.
        calibrations_, camera_: the thresholds of all cameras, and whose are used; None stands for the default.
        calibration_: the thresholds in use, or None before calibration.
        origin_: where the initial weights came from.
        proxy_: how simulated defects on good images score that a fit has not seen; not a test result.
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe: Recipe = recipe if recipe is not None else Recipe()
        self.scorer_: Scorer | None = None
        self.calibrations_: Calibrations = Calibrations()
        self.camera_: str | None = None
        self.origin_: WeightsOrigin | None = None
        self.proxy_: ProxyScores | None = None
        self.self_test_: SelfTest | None = None  # as it was saved
        self.weights_sha256_: str | None = None  # of the file that the weights were loaded from
        self.encoder_backend_: str | None = None  # what computed the frozen encoder in training
        self.stage_keys_: dict[str, str] = {}
        self.record_: ModelRecord = ModelRecord()  # data and evaluation, for the model card
        self.unseen_scores_: tuple[tuple[float, str | None], ...] = ()  # of folds: each good image's score and group
        self.trained_: Mapping[str, int] = {}  # good images of each product and camera
        self.run_: RunFolder | None = None  # that keeps what the scorer was fitted to
        self.learned_: Learned | None = None  # what that is, once it was read
        self._at_once: ImagesAtOnce | None = None  # measured when it is first needed

    def __repr__(self) -> str:
        threshold = f"threshold {self.calibration_.threshold:.4g}" if self.calibration_ else "no threshold"
        state = "not fitted" if self.scorer_ is None else f"fitted, {threshold}"
        return f"AnomalyDetector({self.recipe.method}, weights={self.recipe.model.weights!r}, {state})"

    def fit(
        self,
        images: Images,
        run: RunFolder | None = None,
        device: DeviceName = "auto",
        stages: "StageChoice" = "all",
        pool: Pool | None = None,
        defects: str | Path | Sequence[KnownDefect] = (),
        loggers: "Sequence[AnyLogger]" = (),
        elsewhere: "Elsewhere | None" = None,
    ) -> "AnomalyDetector":
        """Train on good images, and set the thresholds from what they score in fits that have not seen them.

        The paper's method sets them from images that are held out of its training.

        Args:
            images: good images only: a folder, a pattern, all that ``flawmap train`` reads, as ``recipe.data`` says;
                :func:`flawmap.load_images`'s result; a list of files, folders, PIL images or uint8 (H, W[, 3]) arrays.
            run: folder of results, log and checkpoints; an interrupted training in it resumes. None: a temporary one.
            device: ``auto`` takes CUDA, then MPS, then the processor.
            stages: ``pretrain`` ends after stage 1 and leaves the detector unfitted.
            pool: further images for stage 1, already read; None reads what ``data.pretrain_on`` names.
            defects: a folder of known defects, with or without masks, for the head; or such that are read already.
            loggers: that also get numbers, pictures, recipe: names (:mod:`flawmap.engine.loggers`), or Lightning's.
            elsewhere: encodes shards of the images, such as :func:`flawmap_cluster.train.in_cluster`; None: here.

        Returns:
            self.

        Raises:
            UserError: a setting is out of range, weights cannot be found, something is no image or there are too few,
                the device does not exist, the training has collapsed, or known defects cannot be used.
        """
        from flawmap.detect.fit_detector import fit_detector  # here, because loading what trains takes seconds

        files = in_files(good_images(images, self.recipe.data))
        with files as good, opened_loggers(loggers, run) as opened, tempfile.TemporaryDirectory() as folder:
            run = run or create_run(Path(folder) / "run", "fit", self.recipe)
            return fit_detector(self, good, run, device, stages, pool, defects, opened, elsewhere)

    def update(self, images: Images, is_reviewed: bool = False, device: DeviceName = "auto") -> "AnomalyDetector":
        """Learn from further good images, beside those that the run of this detector has learned from; returns self.

        All but the head is fitted again: memory, expectation, scales and thresholds. On disk nothing changes.

        Args:
            images: good images only, as in :meth:`fit`; those whose content is known already are left out.
            is_reviewed: whether they were chosen for their scores, such as reviewed false alarms. They then set neither
                scales nor thresholds. Otherwise they must be a random sample of good parts.
            device: as in :meth:`fit`.

        Raises:
            UserError: the detector was opened from no run, or one that keeps no tokens; or no image is new.
        """
        from flawmap.detect.update import update_detector  # here, because loading what fits takes seconds

        with in_files(good_images(images, self.recipe.data)) as good, tempfile.TemporaryDirectory() as folder:
            update_detector(self, good, is_reviewed, RunFolder(Path(folder)), device)
        return self

    @property
    def calibration_(self) -> Calibration | None:
        """The thresholds in use: those of ``camera_``."""
        return self.calibrations_.of(self.camera_)

    @calibration_.setter
    def calibration_(self, calibration: Calibration | None) -> None:
        self.calibrations_ = self.calibrations_.replaced(self.camera_, calibration)

    @property
    def rois(self) -> RegionsOfInterest | None:
        """The part of each camera's images that counts; None for whole images."""
        return rois_of(self.recipe)

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """Sides of the squares that an image is scored at, ascending."""
        return self._fitted.sizes_px(self.recipe)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The image scores that this detector gives."""
        return score_names(self._fitted)

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of all maps of this detector."""
        return self.calibration_.map_scale if self.calibration_ else UNCALIBRATED_MAP_SCALE

    @property
    def _fitted(self) -> Scorer:
        if self.scorer_ is None:
            raise UserError("this detector is not fitted", "AnomalyDetector", "call fit(), or from_pretrained()")
        return self.scorer_

    @property
    def device(self) -> str:
        """Where it computes: ``cpu``, ``cuda`` or ``mps``."""
        return device_of(self._fitted)

    @property
    def at_once(self) -> ImagesAtOnce:
        """How many images share a forward pass: 1 on a processor, as many as fit on an accelerator."""
        if self._at_once is None or self._at_once.device != self.device:
            self._at_once = images_at_once(self._fitted, self.sizes_px)
        return self._at_once

    @property
    def batch_size(self) -> int:
        """Images that share a forward pass: 1 on a processor, where several threads may score instead."""
        return self.at_once.size

    def analyse(self, image: ImageLike, camera: Name = None) -> Analysis:
        """As :meth:`analyse_many`, of one image."""
        return self.analyse_many([image], cameras=[camera])[0]

    def analyse_many(
        self, images: Sequence[ImageLike], places: Sequence[str] = (), cameras: Sequence[str | None] = ()
    ) -> list[Analysis]:
        """Logits, maps and scores of images; as many as fit share a forward pass, and several threads may call it.

        Args:
            images: in memory at once.
            places: of the images, for errors.
            cameras: whose regions of interest count; None where nobody has named one. Empty: of no image.

        Raises:
            UserError: no region of interest is for a camera; NotScoredError: a score or map of a model is not finite.
        """
        places = places or [place_of(image, number, len(images)) for number, image in enumerate(images, 1)]
        scorer, pixels = self._fitted, [as_rgb(image, place) for image, place in zip(images, places, strict=True)]
        rois = self.rois and [self.rois.of(camera) for camera in cameras or [None] * len(images)]
        analyses = list(analyse(scorer, pixels, self.sizes_px, self.at_once, rois))
        for analysis, place in zip(analyses, places, strict=True):
            try:
                refuse_not_finite(analysis.scores, analysis.anomaly_map)
            except NotScoredError as error:
                raise error.at(place) from None
        return analyses

    @overload
    def predict(self, images: str | Path, *, product: Name = None, camera: Name = None) -> Detection | Any: ...

    @overload
    def predict(self, images: ImageLike, *, product: Name = None, camera: Name = None) -> Detection: ...

    @overload
    def predict(
        self, images: Iterable[ImageLike] | TrainingData, *, product: Name = None, camera: Name = None
    ) -> Detections: ...

    def predict(self, images: Images, *, product: Name = None, camera: Name = None) -> Detection | Detections:
        """The verdict on one image, or on each of several.

        Args:
            images: a path, a PIL image, a uint8 array (H, W) or (H, W, 3); or several: a list of these, a folder, a
                pattern such as ``new/*.png``, or what :func:`flawmap.load_images` returns.
            product, camera: of all of them; else found by likeness where the model knows several, and ``camera_``.

        Returns:
            of several images a list of verdicts, whose ``to_pandas()`` is a table.

        Raises:
            UserError: the detector is not fitted or does not know product or camera, or something is not an image.
            NotScoredError: an image got a score or a map that is not finite, because the model is damaged.
        """
        found, judging = each_of(images), self._judging(product, camera)
        verdicts = [
            judging.verdict(one, image) for image, one in zip(found, self._analyses(found, camera), strict=True)
        ]
        return verdicts[0] if is_one_image(images) else Detections(verdicts)

    def verdict(self, analysis: Analysis, image: ImageLike | None = None) -> Detection:
        """Turn an analysis into a verdict by the calibrated thresholds; without them nothing is called anomalous.

        ``image`` is kept for pictures of the verdict.
        """
        return self._judging().verdict(analysis, image)

    @property
    def judging(self) -> Judging:
        """By whose thresholds images are judged, of which neither product nor camera is named."""
        return self._judging()

    def _judging(self, product: Name = None, camera: Name = None) -> Judging:
        """By whose thresholds; None names those of ``camera_``."""
        name = threshold_name(product or product_in(self.camera_), camera or camera_in(self.camera_))
        return judging_by(name, self.calibrations_, self.trained_, self.recipe.detect.image_score)

    def score_samples(self, images: Images) -> Float[np.ndarray, "n"]:
        """Image scores, one per image, float64; higher = more anomalous, the opposite of scikit-learn's sign."""
        name = self.recipe.detect.image_score
        return np.array([analysis.scores[name] for analysis in self._analyses(each_of(images))], np.float64)

    def calibrate(self, images: Images, false_alarm_rate: float = 0.01) -> "AnomalyDetector":
        """Set the thresholds from good images that training has not seen; nothing is trained again.

        Args:
            images: good images as in :meth:`fit`, for example from a new camera. Those of one group, as
                :func:`flawmap.load_images` knows them, count as one.
            false_alarm_rate: accepted share of good images that are called anomalous, in (0, 1).

        Returns:
            self.
        """
        refuse_bad_rate(false_alarm_rate)
        name, scores, peaks, distances = self.recipe.detect.image_score, [], [], []
        good = good_images(images, self.recipe.data)
        for one in self._analyses(good):
            scores.append(one.scores[name])
            peaks.append(float(one.anomaly_map.max()))
            distances.append(one.scores.get(APPEARANCE_DISTANCE))
        groups = [image.group if isinstance(image, NormalImage) else None for image in good]
        self.calibration_ = calibrate(scores, peaks, false_alarm_rate, groups, False, distances)
        return self

    def attention(self, image: ImageLike) -> Float[np.ndarray, "r c"]:
        """The mean [CLS] attention of the encoder's last block on the patch grid, at the largest test size."""
        return class_token(self._fitted.encoder, as_rgb(image), max(self.sizes_px)).attention

    def _analyses(self, images: Sequence[ImageLike], camera: Name = None) -> Iterator[Analysis]:
        """Analyse images in order, by the region of interest of the named camera, or else of the one that took each.

        Every caller gets finite scores and maps, or a NotScoredError that names the image.
        """
        named = camera or camera_in(self.camera_)
        cameras = [named or (one.camera if isinstance(one, NormalImage) else None) for one in images]
        return analyse_in_order(self.analyse_many, images, cameras, self.at_once)

    def facts(self, name: str, precision: str | None = None) -> ModelFacts:
        """What identifies this model, for a server or an exported file.

        Args:
            name: shown to people.
            precision: of the weights, where they are converted; None takes the one that the encoder was fitted in.

        Raises:
            UserError: the detector is not fitted.
        """
        return facts_of(self, self._fitted, name, precision)

    def self_test(self) -> SelfTest:
        """What this detector gives for the self-test image, here and now.

        Raises:
            NotScoredError: that is not finite, so that the detector is not worth saving.
        """
        try:
            analysis = self.analyse(self_test_image(), None if self.rois is None else self.rois.camera_of_self_test)
        except NotScoredError as error:
            raise error.at("self-test image") from None
        return SelfTest.of(analysis.scores[SCORE], float(analysis.anomaly_map.max()), self.map_scale)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors), recipe, calibration (JSON) and a model card into a new or empty folder.

        Raises:
            UserError: the folder is taken, or the detector gives scores that are not finite.
        """
        scorer, origin = self._fitted, self.origin_
        assert origin is not None
        of_training = self.stage_keys_, self.proxy_, self.self_test(), self.encoder_backend_, self.record_
        saved = Saved(scorer, self.recipe, self.calibrations_, origin, *of_training, trained=self.trained_)
        write_pretrained(Path(folder), saved)

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Upload the model folder to ``OWNER/NAME`` on the Hugging Face hub; returns the address of the commit.

        Only the files of :meth:`save_pretrained` are sent, never an image. A new repository is private unless
        ``private=False``.
        """
        with tempfile.TemporaryDirectory(prefix="flawmap-") as folder:
            self.save_pretrained(Path(folder) / "model")
            return upload(Path(folder) / "model", repository, private, SHARED_FILES)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: DeviceName = "auto", threads: int | None = None, camera: str | None = None
    ) -> "AnomalyDetector":
        """Load what :meth:`save_pretrained` or ``flawmap train`` wrote. Executes no code from the folder.

        Args:
            folder: a model or run folder, or ``hub:OWNER/NAME`` for a model on the Hugging Face hub.
            device: ``auto`` takes CUDA, then MPS, then the processor.
            threads: of the processor, for this whole process; None leaves their number as it is.
            camera: whose thresholds to use, as set by ``flawmap calibrate --camera``; None takes the default ones.

        Raises:
            UserError: there is no model, it is damaged, or the camera has no thresholds.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        detector = cls.from_saved(load_pretrained(folder), device)
        detector.run_ = run_around(folder)
        refuse_unknown_camera(camera, detector.calibrations_.cameras, folder, trained=detector.trained_)
        detector.camera_ = camera
        return detector

    @classmethod
    def from_saved(cls, saved: Saved, device: DeviceName = "auto") -> "AnomalyDetector":
        """From what :func:`flawmap.detect.pretrained.load_pretrained` has read."""
        detector = cls(saved.recipe)
        compute = choose_compute(device, "fp32", encoder_precision=saved.recipe.encoder_precision)
        detector.scorer_ = saved.scorer.to(compute.device).eval()
        detector.calibrations_, detector.origin_ = saved.calibrations, saved.origin
        detector.stage_keys_, detector.proxy_, detector.record_ = saved.stage_keys, saved.proxy, saved.record
        detector.self_test_, detector.weights_sha256_ = saved.self_test, saved.weights_sha256
        detector.trained_ = saved.trained
        detector.encoder_backend_, here = saved.encoder_backend, detector.scorer_.encoder_backend
        if detector.encoder_backend_ not in (None, here):
            in_training = detector.encoder_backend_
            say("encoder", f"{here} computes it here, {in_training} did in training: scores may differ by 1e-3")
        return detector

"""Everything that the report shows of a run, read from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import rois_of
from flawmap.drawing.colour import ColourScale
from flawmap.errors import UserError
from flawmap.metrics.curve_points import PixelCurves
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import Calibration, read_calibration
from flawmap.runs.cameras import CALIBRATION
from flawmap.runs.evaluation import Evaluation, ScoredImage, read_evaluation, read_per_image, read_pixel_curves
from flawmap.runs.known_defects import KnownDefectScores, read_known_defects
from flawmap.runs.manifest import ManifestRow, read_manifest
from flawmap.runs.model_config import ModelConfig, read_config
from flawmap.runs.run_folder import MODEL_CONFIG, RunFolder
from flawmap.runs.samples import SampleRow, read_samples
from flawmap.runs.training_log import LogFile
from flawmap.runs.unusual import Unusual, read_unusual
from flawmap.runs.updates import UpdateRecord, updates_in_force
from flawmap.runs.versions import History, read_history


@dataclass(frozen=True)
class RunFiles:
    """The content of a run folder. Any part may be missing: then it is None or empty.

    ``images`` are the test images with their scores, ``log`` has one record per training step, ``manifest`` lists the
    images of the training, ``samples`` are what it saw, ``unusual`` are those of its images that look unusual, and
    ``history`` has the changes of its thresholds since, ``updates`` are those that its model has learned from, and
    ``known_defects`` are what the defects score that the training has learned from.
    """

    run: Path
    evaluation: Evaluation | None = None
    images: tuple[ScoredImage, ...] = ()
    pixel_curves: PixelCurves | None = None
    calibration: Calibration | None = None
    config: ModelConfig | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    recipe_text: str = ""
    log: tuple[Mapping[str, Any], ...] = ()
    manifest: tuple[ManifestRow, ...] = ()
    samples: tuple[SampleRow, ...] = ()
    unusual: Unusual | None = None
    history: History = field(default_factory=History)
    updates: tuple[UpdateRecord, ...] = ()
    known_defects: KnownDefectScores | None = None

    @property
    def is_evaluated(self) -> bool:
        """Whether there are scores of test images."""
        return self.evaluation is not None and bool(self.images)

    def roi_of(self, image: ScoredImage) -> RegionOfInterest | None:
        """The part of a test image that counts; None for the whole image."""
        rois = None if self.recipe is None else rois_of(self.recipe)
        return None if rois is None else rois.of(image.camera)

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth for the pixels of any test image."""
        return any(image.truth_file for image in self.images)

    def scores(self, is_anomalous: bool) -> list[float]:
        """The scores of the good or of the anomalous test images."""
        return [image.score for image in self.images if image.is_anomalous == is_anomalous]

    @property
    def threshold(self) -> float | None:
        """The score above which an image is flagged: the evaluation's, or before one the calibration's."""
        if self.evaluation is not None:
            return self.evaluation.threshold
        return self.calibration.threshold if self.calibration else None

    @property
    def is_calibrated_since(self) -> bool:
        """Whether the test images were scored without a threshold, and one was calibrated afterwards."""
        return self.is_evaluated and self.threshold is None and self.calibration is not None

    @property
    def test_scale(self) -> ColourScale | None:
        """The colour scale of the test images: that of their evaluation."""
        used = self.evaluation.calibration if self.evaluation else None
        return map_scale_of(used) or map_scale_of(self.calibration)

    @property
    def sample_scale(self) -> ColourScale | None:
        """The colour scale of the samples: that of the model as it is now."""
        used = self.evaluation.calibration if self.evaluation else None
        return map_scale_of(self.calibration) or map_scale_of(used)


def read_run(path: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        UserError: it is not a run folder, or one of its files is damaged.
    """
    run = RunFolder(Path(path))
    signs = (run.recipe, run.log, run.model, run.evaluation)
    if not any(sign.exists() for sign in signs):
        names = ", ".join(sign.name for sign in signs)
        problem = f"this is not a run folder: it has none of {names}" if path.is_dir() else f"no such folder: {path}"
        raise UserError(problem, str(path), "give the run folder that `flawmap train` printed on its last line")
    config = run.model / MODEL_CONFIG
    return RunFiles(
        run=run.path.resolve(),
        evaluation=read_evaluation(run.evaluation),
        images=read_per_image(run.evaluation),
        pixel_curves=read_pixel_curves(run.evaluation),
        calibration=read_calibration(run.model / CALIBRATION),
        config=read_config(config) if config.is_file() else None,
        environment=run.read_environment(),
        recipe=load_recipe(run.recipe, is_of_model=True) if run.recipe.is_file() else None,
        recipe_text=run.recipe.read_text(encoding="utf-8") if run.recipe.is_file() else "",
        log=tuple(LogFile(run.log).records()),
        manifest=read_manifest(run.manifest),
        samples=read_samples(run.samples),
        unusual=read_unusual(run.unusual),
        history=read_history(run.model),
        updates=updates_in_force(run),
        known_defects=read_known_defects(run.known_defects),
    )


def map_scale_of(calibration: Calibration | None) -> ColourScale | None:
    """The colour scale of a calibration; a threshold outside of its ends widens it. None without a calibration."""
    if calibration is None:
        return None
    ends, threshold = calibration.map_scale, calibration.map_threshold
    return ColourScale(min(ends.low, threshold), threshold, max(ends.high, threshold))

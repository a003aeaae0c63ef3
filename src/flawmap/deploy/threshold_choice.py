"""Which thresholds judge: those that the model carries, those in a file beside it, or those that the user chose."""

import glob
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.advice import command
from flawmap.detect.calibration import at_rate, refuse_bad_rate
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration, read_calibration
from flawmap.runs.cameras import CAMERAS, calibration_file, is_camera_name, read_calibrations, refuse_unknown_camera
from flawmap.runs.model_folder import model_folder
from flawmap.runs.sidecar import read_sidecar, sidecar_path
from flawmap.runs.threshold_names import nearest_name, products_in


@dataclass(frozen=True)
class ThresholdChoice:
    """What the user asked for.

    Attributes:
        camera: whose thresholds are used, of a camera or a product, by the names of
            :mod:`flawmap.runs.threshold_names`; None takes the default ones.
        file: of ``flawmap calibrate FILE``; None takes the one beside an exported file where there is one, and else
            the thresholds that the model carries.
        false_alarm_rate: that the thresholds are set for, from the scores that they rest on, in (0, 1); None keeps the
            rate that they were set for.
        min_area_px: regions with fewer pixels of the image are left out; 0 keeps all.
    """

    camera: str | None = None
    file: Path | None = None
    false_alarm_rate: float | None = None
    min_area_px: float = 0.0

    def __post_init__(self) -> None:
        """Raises: UserError: the rate is outside (0, 1)."""
        if self.false_alarm_rate is not None:
            refuse_bad_rate(self.false_alarm_rate)

    def file_of(self, model: Path) -> Path | None:
        """The file that holds the thresholds of a model, whether it exists or not; None where no file can."""
        if self.file is not None:
            return self.file
        if model.is_dir():
            return model_folder(model) / calibration_file(self.camera)
        return sidecar_path(model, self.camera) if self.camera is None or is_camera_name(self.camera) else None

    def read(self, model: Path, facts: ModelFacts) -> Calibration | None:
        """The thresholds in that file; None where there is none.

        Raises:
            UserError: the file is damaged, or of another model; or ``file`` does not exist.
        """
        file = self.file_of(model)
        if file is None or (self.file is None and not file.is_file()):
            return None
        if self.file is None and model.is_dir():
            return read_calibration(file)
        return read_sidecar(file, facts.weights_sha256, facts.precision, self.camera, model)

    def applied(self, facts: ModelFacts, calibration: Calibration | None, file: Path | None) -> ModelFacts:
        """The facts with these thresholds in use, at the rate that was asked for.

        Args:
            facts: of the model.
            calibration: from ``file`` or from the model.
            file: of the thresholds; None for those that the model carries.

        Raises:
            UserError: another rate was asked for, and the thresholds do not say what it needs.
        """
        facts = replace(facts, camera=self.camera, calibration=calibration, min_area_px=self.min_area_px)
        facts = replace(facts, threshold_file=None if file is None else str(file))
        return facts if self.false_alarm_rate is None else at_rate_of(facts, self.false_alarm_rate)


AS_CARRIED = ThresholdChoice()  # of the model, or the file beside it


def at_rate_of(facts: ModelFacts, false_alarm_rate: float) -> ModelFacts:
    """The facts with the thresholds that the same good images set for another rate, also those of products.

    Raises:
        UserError: the thresholds do not say what that needs.
    """
    in_use = None if facts.calibration is None else at_rate(facts.calibration, false_alarm_rate)
    cameras = facts.cameras
    if products_in(facts.trained):  # found by likeness, they are used beside those in use
        cameras = {name: at_rate(one, false_alarm_rate) for name, one in cameras.items()}
    return replace(facts, calibration=in_use, cameras=cameras)


def files_of_others(model: Path) -> tuple[Path, ...]:
    """The files with thresholds of products and cameras, in a run or model folder or beside an exported file."""
    if model.is_dir():
        return tuple(sorted((model_folder(model) / CAMERAS).glob("*.json")))
    files = sorted(model.parent.glob(f"{glob.escape(model.stem)}.threshold.*.json"))
    return tuple(file for file in files if is_camera_name(_name_beside(file, model)))


def _name_beside(file: Path, model: Path) -> str:
    return file.name[len(f"{model.stem}.threshold.") : -len(".json")]


def with_others_on_disk(facts: ModelFacts, model: Path) -> ModelFacts:
    """The facts with the thresholds of products and cameras on disk; an exported file carries some, too.

    Raises:
        UserError: one of them is damaged, or of another model.
    """
    if model.is_dir():
        return replace(facts, cameras=read_calibrations(model_folder(model)).cameras)
    found = dict(facts.cameras)
    for file in files_of_others(model):
        name = _name_beside(file, model)
        found[name] = read_sidecar(file, facts.weights_sha256, facts.precision, name, model)
    return replace(facts, cameras=found)


def facts_in_use(facts: ModelFacts, model: Path, choice: ThresholdChoice) -> ModelFacts:
    """The facts of a model with the thresholds that were chosen.

    Args:
        facts: with the thresholds that the model carries.
        model: the run or model folder, or the exported file.
        choice: what the user asked for.

    Raises:
        UserError: the camera has no thresholds, or as :meth:`ThresholdChoice.read` and :meth:`ThresholdChoice.applied`.
    """
    calibration, file = None, choice.file_of(model)
    if choice.file is not None or not model.is_dir():
        calibration = choice.read(model, facts)
    if not model.is_dir() and products_in(facts.trained):
        facts = with_others_on_disk(facts, model)
    if calibration is None:
        file, camera = None, choice.camera
        refuse_unknown_camera(camera, facts.cameras, model, trained=facts.trained)
        nearest = nearest_name(camera, facts.cameras)
        calibration = facts.calibration if camera == facts.camera or nearest is None else facts.cameras[nearest]
    if choice.false_alarm_rate is not None and calibration is None:
        remedy = command("flawmap", "calibrate", model, "GOOD_IMAGES")
        raise UserError("without a threshold there is no false-alarm rate to change", str(model), remedy)
    return choice.applied(facts, calibration, file)

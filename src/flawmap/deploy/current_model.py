"""The model of a running server: it takes a new threshold at once, and says when it is behind what is there.

``flawmap calibrate`` replaces one small file, in the run or beside the exported file, which the server looks at before
each batch. Another model on disk is opened beside this one first, see :mod:`flawmap.deploy.rolling_change`; until it
takes over, the server goes on with what it has loaded, and says so.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.deploy.opened_model import OpenedModel
from flawmap.deploy.threshold_choice import ThresholdChoice, at_rate_of, files_of_others, with_others_on_disk
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import ModelFacts
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.runs.cameras import is_camera_name, refuse_unknown_camera
from flawmap.runs.model_folder import model_folder
from flawmap.runs.run_folder import WEIGHTS
from flawmap.runs.threshold_names import nearest_name, product_in, products_in, whose
from flawmap.runs.versions import number_in_force

Stamp = tuple[int, int, int] | None  # of a file: time, size and place on the disk; None where there is none
Stamps = dict[Path, Stamp]
RESTART = "restart the server to use it"
REPLACED = "another model is on disk now"


class CurrentModel:
    """An opened model that follows the threshold on disk; itself an ``OpenedModel``.

    One thread scores; any thread may ask for the rest.

    Args:
        model: as it was opened.
        source: the path that it was opened from; None for a model that is nowhere on disk.
        choice: of the thresholds, as it was opened with; None stands for the model's camera and minimum area alone.

    Attributes:
        facts_of_batch: of the last batch that was scored; answers on its images are made from them.
        behind: why the model is not what lies on disk; empty where it is.
        version: number of the change that set the threshold in use; None where it is that of the training, or where
            the versions of the model are not known.
    """

    def __init__(self, model: OpenedModel, source: Path | None = None, choice: ThresholdChoice | None = None) -> None:
        self._model, self._lock, self._asked = model, threading.Lock(), source
        self._choice = choice or ThresholdChoice(model.facts.camera, min_area_px=model.facts.min_area_px)
        self.behind: str = ""
        self.version: int | None = None
        self.take(model, self.on_disk())

    def take(self, model: OpenedModel, opened: Stamps) -> None:
        """Go on with another model; only the thread that scores may call this.

        Args:
            model: as it was opened.
            opened: what :meth:`on_disk` was before.
        """
        with self._lock:
            asked = self._asked
            self._source = model_folder(asked) if asked is not None and asked.is_dir() else asked
            self._model, self.in_use = model, opened
            self.facts_of_batch: ModelFacts = model.facts
            self._seen: Stamp = None  # of the threshold's file; it is read again in any case
            self._seen_others: Stamps = {}
            self._why_not = ""
        self.refresh()

    def refuse(self, reason: str) -> None:
        """Remember why the model on disk does not take over."""
        with self._lock:
            self._why_not = f"; it cannot be used: {reason}"
        self.refresh()

    def on_disk(self) -> Stamps:
        """Which files the model consists of now, after an update of a run as well; empty for one that is nowhere."""
        asked = self._asked
        if asked is None:
            return {}
        try:
            weights = model_folder(asked) / WEIGHTS if asked.is_dir() else None
        except UserError:  # the run does not say any more which of its models is the current one
            return {}
        return {path: _stamp(path) for path in ([weights] if weights else [asked, asked.with_suffix(".bin")])}

    @property
    def facts(self) -> ModelFacts:
        """Name, origin, sizes, and the thresholds in use."""
        return self._model.facts

    @property
    def batch_size(self) -> int:
        """Images that share a forward pass."""
        return self._model.batch_size

    @property
    def threshold_stamp(self) -> Stamp:
        """Of the file that would set the threshold."""
        file = None if self._source is None else self._choice.file_of(self._source)
        return None if file is None else _stamp(file)

    def predict_many(
        self, images: Sequence[NDArray[np.uint8]], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """See :meth:`OpenedModel.predict_many`."""
        self.refresh()
        model = self._model
        self.facts_of_batch = model.facts
        return model.predict_many(images, cameras)

    def with_facts(self, facts: ModelFacts) -> OpenedModel:
        """The opened model with other thresholds, which follows nothing."""
        return self._model.with_facts(facts)

    def facts_of_camera(self, camera: str) -> ModelFacts:
        """The facts with the thresholds of a camera, as they lie on disk now.

        Raises:
            UserError: the camera has none, or its file is damaged.
        """
        facts, choice = self.facts, replace(self._choice, camera=camera, file=None)
        if camera == facts.camera:
            return facts
        if not is_camera_name(camera):
            refuse_unknown_camera(camera, facts.cameras, facts.name, trained=facts.trained)
        beside = None if self._source is None else choice.read(self._source, facts)
        if beside is None:
            refuse_unknown_camera(camera, facts.cameras, facts.name, trained=facts.trained)
        file = None if beside is None or self._source is None or self._source.is_dir() else choice.file_of(self._source)
        nearest = nearest_name(camera, facts.cameras)
        carried = facts.calibration if nearest is None else facts.cameras[nearest]
        return choice.applied(facts, beside or carried, file)

    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """As that of the opened model."""
        return self._model.attention(image)

    def refresh(self) -> None:
        """Take a new threshold, if there is one and the weights are still those that were loaded."""
        with self._lock:
            was = self.behind
            if self.on_disk() != self.in_use:
                self.behind = f"{REPLACED}{self._why_not or ', and not in use yet'}"
            elif self._source is not None:
                file = self._choice.file_of(self._source)
                self.behind = self._take_threshold(self._source, file) if file is not None else ""
                self.behind = self.behind or self._take_others(self._source)
            if self.behind and self.behind != was:
                say("behind", self.behind)

    def _take_threshold(self, source: Path, file: Path) -> str:
        """Returns why the threshold in use is not that on disk; empty where it is."""
        facts, choice = self._model.facts, self._choice
        stamp = _stamp(file)
        if stamp is not None and stamp == self._seen:
            return ""
        try:
            calibration = choice.read(source, facts)
            beside = None if source.is_dir() and choice.file is None else file
            taken = None if calibration is None else choice.applied(facts, calibration, beside)
        except UserError as error:  # also while a network drive is away; tried again with the next batch
            return f"the threshold in use is an earlier one: {error.problem}"
        if taken is None:
            had_one = facts.calibration is not None if source.is_dir() else facts.threshold_file is not None
            return f"the threshold in use is no longer on disk; {RESTART}" if had_one else ""
        if taken != facts and taken.calibration is not None:
            self._model = self._model.with_facts(taken)
            of = f"{whose(choice.camera)}: " if choice.camera else ""
            say("threshold", f"{of}{taken.calibration.words[0]}; taken from {file}")
        self._seen = stamp
        self.version = None if choice.file else number_in_force(source, file.relative_to(_home(source)).as_posix())
        return ""

    def _take_others(self, source: Path) -> str:
        """As :meth:`_take_threshold`, of all products and cameras: they judge an image whose product is found."""
        facts, choice = self._model.facts, self._choice
        if product_in(choice.camera) is not None or not products_in(facts.trained):
            return ""
        stamps = {file: _stamp(file) for file in files_of_others(source)}
        if stamps == self._seen_others:
            return ""
        try:
            taken = with_others_on_disk(facts, source)
            taken = taken if choice.false_alarm_rate is None else at_rate_of(taken, choice.false_alarm_rate)
        except UserError as error:
            return f"a threshold in use is an earlier one: {error.problem}"
        if taken != facts:
            self._model = self._model.with_facts(taken)
            for name, calibration in taken.cameras.items():
                if calibration != facts.cameras.get(name):
                    say("threshold", f"{whose(name)}: {calibration.words[0]}")
        self._seen_others = stamps
        return ""


def _home(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

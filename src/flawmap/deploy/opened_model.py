"""A model that is ready to score images: a run folder (with torch) or an exported file (without)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flawmap.deploy.runtime import EXTENSIONS, is_exported, load_with
from flawmap.deploy.threshold_choice import AS_CARRIED, ThresholdChoice, facts_in_use
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.runs.threshold_names import camera_in

if TYPE_CHECKING:
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.engine.compute import DeviceName


@runtime_checkable
class OpenedModel(Protocol):
    """What a batch and the server need from a model."""

    @property
    def facts(self) -> ModelFacts:
        """Name, origin, sizes, thresholds."""
        ...

    @property
    def batch_size(self) -> int:
        """Images that share a forward pass; 1 where each is scored on its own, and several threads may score."""
        ...

    def predict_many(
        self, images: Sequence[NDArray[np.uint8]], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """The verdict on each image, by the thresholds of the facts; several threads may ask at the same time.

        Args:
            images: uint8 (h, w, 3).
            cameras: that took the images, so that each one's region of interest counts; None in it stands for no named
                camera. Without it, the camera of the facts took all.

        Raises:
            UserError: there is no region of interest for a camera.
        """
        ...

    def with_facts(self, facts: ModelFacts) -> "OpenedModel":
        """The same model with other thresholds; this one keeps its own."""
        ...

    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The last block's mean [CLS] attention on the patch grid (r, c); None where the model has no such output."""
        ...


@dataclass(frozen=True)
class OpenedRun:
    """A detector with its facts, which take a while to compute."""

    detector: "AnomalyDetector"
    facts: ModelFacts

    @property
    def batch_size(self) -> int:
        """Images that share a forward pass: 1 on a processor."""
        return self.detector.batch_size

    def predict_many(
        self, images: Sequence[NDArray[np.uint8]], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        """See :meth:`OpenedModel.predict_many`."""
        judging, cameras = self.facts.judging, cameras or [camera_in(self.facts.camera)] * len(images)
        found = self.detector.analyse_many(images, cameras=cameras) if images else ()
        return [judging.judge(one.scores, one.anomaly_map, one.inside) for one in found]

    def with_facts(self, facts: ModelFacts) -> "OpenedRun":
        """The same model with other thresholds; this one keeps its own."""
        return OpenedRun(self.detector, facts)

    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean [CLS] attention (r, c)."""
        return self.detector.attention(image)


def open_model(
    path: str | Path,
    device: "DeviceName" = "auto",
    threads: int | None = None,
    choice: ThresholdChoice = AS_CARRIED,
    at_once: int = 1,
) -> OpenedModel:
    """Open a run folder, a model folder or an exported file.

    Args:
        path: of the folder or file.
        device: for a folder: ``auto``, ``cpu``, ``cuda`` or ``mps``. Files run on the processor.
        threads: of the processor, for one image; all cores when None.
        choice: of the thresholds.
        at_once: images that will be scored at the same time, each by ``threads``.

    Raises:
        UserError: there is no model, it is damaged, the camera has no thresholds, or a threshold file is of another
            model.
    """
    path = Path(path)
    if is_exported(path):
        return load_with(path, choice, threads, at_once)
    if path.is_file():
        remedy = f"give a run folder of flawmap train, or a file of flawmap export ({', '.join(EXTENSIONS.values())})"
        raise UserError("this is neither a run folder nor an exported file", str(path), remedy)
    from flawmap.detect.detector import AnomalyDetector  # needs torch
    from flawmap.runs.model_folder import home_of, model_folder

    detector = AnomalyDetector.from_pretrained(path, device, threads)
    facts = detector.facts(home_of(model_folder(path)).resolve().name)
    return OpenedRun(detector, facts_in_use(facts, path, choice))

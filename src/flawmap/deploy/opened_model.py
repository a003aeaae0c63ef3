"""A model that is ready to score images: a run folder (with torch) or an exported file (without)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flawmap.deploy.runtime import EXTENSIONS, load
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration

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

    def predict_many(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """The verdict on each image, uint8 (h, w, 3); several threads may ask at the same time."""
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

    def predict_many(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """The verdict on each image."""
        return self.detector.predict(images)

    def with_calibration(self, calibration: Calibration | None) -> "OpenedRun":
        """The same model with other thresholds; this one keeps its own."""
        detector = copy.copy(self.detector)
        detector.calibration_ = calibration
        return OpenedRun(detector, replace(self.facts, calibration=calibration))

    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean [CLS] attention (r, c)."""
        return self.detector.attention(image)


def open_model(
    path: str | Path,
    device: "DeviceName" = "auto",
    threads: int | None = None,
    camera: str | None = None,
    at_once: int = 1,
) -> OpenedModel:
    """Open a run folder, a model folder or an exported file.

    Args:
        path: of the folder or file.
        device: for a folder: ``auto``, ``cpu``, ``cuda`` or ``mps``. Files run on the processor.
        threads: of the processor, for one image; all cores when None.
        camera: whose thresholds are used; None takes the default ones.
        at_once: images that will be scored at the same time, each by ``threads``.

    Raises:
        UserError: there is no model, it is damaged, or the camera has no thresholds.
    """
    path = Path(path)
    if path.suffix in EXTENSIONS.values() and not path.is_dir():
        return load(path, threads, camera, at_once)
    if path.is_file():
        remedy = f"give a run folder of flawmap train, or a file of flawmap export ({', '.join(EXTENSIONS.values())})"
        raise UserError("this is neither a run folder nor an exported file", str(path), remedy)
    from flawmap.detect.detector import AnomalyDetector  # needs torch
    from flawmap.runs.model_folder import home_of, model_folder

    detector, folder = AnomalyDetector.from_pretrained(path, device, threads, camera), model_folder(path)
    return OpenedRun(detector, detector.facts(home_of(folder).resolve().name))

"""A model that is ready to answer, whether it is a run folder (torch) or an exported file (no torch)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flawmap.deploy.runtime import ExportedModel, load
from flawmap.detect.detection import Detection
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError

SUFFIXES = (".onnx", ".xml", ".torchscript")


@runtime_checkable
class OpenedModel(Protocol):
    """What batches and the server ask of a model."""

    @property
    def facts(self) -> ModelFacts:
        """Name, origin, sizes, thresholds."""
        ...

    def predict_many(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """The verdict on each image, uint8 (h, w, 3)."""
        ...

    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The last block's mean [CLS] attention on the patch grid; None where the model does not give it."""
        ...


class OpenedFile:
    """An exported file; one image at a time, which on a processor costs nothing."""

    def __init__(self, model: ExportedModel) -> None:
        self._model = model

    @property
    def facts(self) -> ModelFacts:
        """Of the file."""
        return self._model.facts

    def predict_many(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """The verdict on each image."""
        return [self._model.predict(image) for image in images]

    def attention(self, image: NDArray[np.uint8]) -> None:
        """An exported graph has no output for it."""
        return


def open_model(path: str | Path, device: str = "auto", threads: int | None = None) -> OpenedModel:
    """Open a run folder, a model folder or an exported file.

    Args:
        path: of it.
        device: for a folder: ``auto``, ``cpu``, ``cuda`` or ``mps``. Files run on the processor.
        threads: of the processor, for one image; all cores when None.

    Raises:
        UserError: there is no model, or it is damaged.
    """
    if Path(path).suffix in SUFFIXES and not Path(path).is_dir():
        return OpenedFile(load(path, threads))
    if Path(path).is_file():
        remedy = f"give a run folder of flawmap train, or a file of flawmap export ({', '.join(SUFFIXES)})"
        raise UserError("this is neither a run folder nor an exported file", str(path), remedy)
    from flawmap.detect.native_model import open_folder

    return open_folder(Path(path), device, threads)

"""flawmap as a model of anomalib, so that its users compare in one line.

``Engine().fit(model=Flawmap(), datamodule=...)``, then ``Engine.test``. anomalib brings images, metrics and
thresholds. The detector reads and resizes the files itself, and learns at the end of the only epoch. anomalib's
checkpoints and exports do not hold it: save :attr:`Flawmap.detector` instead.
"""

from typing import Any

import torch
import torch.nn.functional as F
from anomalib import LearningType  # pyright: ignore[reportMissingImports]
from anomalib.models.components import AnomalibModule  # pyright: ignore[reportMissingImports]
from torch import Tensor

from flawmap.detect.detector import AnomalyDetector
from flawmap.recipe.settings import Recipe


class Flawmap(AnomalibModule):
    """A detector that anomalib's engine trains and tests.

    Args:
        recipe: of the detector; None for the recommended one.
        arguments: of anomalib's module, such as ``evaluator`` or ``post_processor``.

    Attributes:
        detector: fitted after the epoch.
    """

    def __init__(self, recipe: Recipe | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.detector = AnomalyDetector(recipe)
        self._good: set[str] = set()

    def training_step(self, batch: Any, *arguments: Any, **more: Any) -> Tensor:
        """Remember the paths of good images; the loss is 0, because Lightning wants one."""
        self._good.update(batch.image_path)
        return torch.tensor(0.0, requires_grad=True)

    def on_train_epoch_end(self) -> None:
        """Fit the detector to all images of the epoch."""
        self._fit()

    def on_validation_start(self) -> None:
        """The same, because Lightning validates within the epoch."""
        self._fit()

    def _fit(self) -> None:
        if self._good:
            with torch.inference_mode(False), torch.enable_grad():
                self.detector.fit(sorted(self._good))
            self._good.clear()

    def validation_step(self, batch: Any, *arguments: Any, **more: Any) -> Any:
        """The batch with scores (b,) and maps (b, h, w) at the size of its images, in the detector's own units."""
        found = [self.detector.predict(path) for path in batch.image_path]
        size = batch.image.shape[-2:]
        maps = [torch.from_numpy(one.anomaly_map)[None, None] for one in found]  # (1, 1, height, width) each
        maps = [F.interpolate(of_image, size, mode="bilinear", antialias=True)[0, 0] for of_image in maps]
        scores = torch.tensor([one.score for one in found])
        device = batch.image.device
        return batch.update(pred_score=scores.to(device), anomaly_map=torch.stack(maps).to(device))

    def test_step(self, batch: Any, *arguments: Any, **more: Any) -> Any:
        """As :meth:`validation_step`."""
        return self.validation_step(batch)

    def predict_step(self, batch: Any, *arguments: Any, **more: Any) -> Any:
        """As :meth:`validation_step`."""
        return self.validation_step(batch)

    @staticmethod
    def configure_optimizers() -> None:
        """None: the detector trains by itself."""

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One epoch without a check before it, on one device."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1, "accelerator": "cpu"}

    @property
    def learning_type(self) -> LearningType:
        """From good images alone."""
        return LearningType.ONE_CLASS

"""A detector on the processor that gives images in batches, as on an accelerator."""

import pytest
from torch import Tensor

from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.scorer import ScorerOutput


def sharing_passes(
    monkeypatch: pytest.MonkeyPatch, detector: AnomalyDetector, size: int, fitting: int = 1000
) -> list[int]:
    """Let ``size`` images share a pass, read by three threads; more than ``fitting`` are out of memory.

    Returns:
        the number of images of each pass that succeeds, in the order of the passes.
    """
    assert detector.scorer_ is not None
    passes: list[int] = []
    kind = type(detector.scorer_)
    score = kind.score

    def noted(self: object, images: Tensor, inside: Tensor | None = None) -> ScorerOutput:
        if len(images) > fitting:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        passes.append(len(images))
        return score(self, images, inside)

    monkeypatch.setattr(kind, "score", noted)
    monkeypatch.setattr(detector, "_at_once", ImagesAtOnce(size))
    for module in ("flawmap.detect.scoring", "flawmap.evaluate.evaluate"):
        monkeypatch.setattr(f"{module}.reading_threads", lambda device: 3)
    return passes

"""A run folder as a model that batches and the server can use."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

import flawmap
from flawmap.data.images.resize import resize_image
from flawmap.detect.detection import Detection
from flawmap.detect.detector import Analysis, AnomalyDetector
from flawmap.detect.model_facts import ModelFacts
from flawmap.detect.pretrained import model_folder
from flawmap.detect.scoring import ScaleResult, image_scores, mean_map
from flawmap.scorer import Scorer
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import channels_first, normalise


class NativeModel:
    """A detector of torch.

    On an accelerator the images of a batch share each forward pass. On a processor they go one at a time: batching
    gains nothing there, and a score then cannot depend on its neighbours, not even by rounding.
    """

    def __init__(self, detector: AnomalyDetector, facts: ModelFacts) -> None:
        self.detector, self._facts = detector, facts

    @property
    def facts(self) -> ModelFacts:
        """Of the run."""
        return self._facts

    @property
    def _scorer(self) -> Scorer:
        assert self.detector.scorer_ is not None
        return self.detector.scorer_

    def predict_many(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """The verdict on each image."""
        if len(images) == 1 or next(self._scorer.parameters()).device.type == "cpu":
            return [self.detector.predict_one(image) for image in images]
        return [self.detector.verdict(analysis) for analysis in self.analyse_together(images)]

    @torch.no_grad()
    def analyse_together(self, images: Sequence[NDArray[np.uint8]]) -> list[Analysis]:
        """As ``AnomalyDetector.analyse`` of each; one forward pass per size for all."""
        device = next(self._scorer.parameters()).device
        scales: list[list[ScaleResult]] = [[] for _ in images]
        for size in self._facts.sizes_px:
            squares = torch.stack([channels_first(resize_image(image, size, size)) for image in images]).to(device)
            with torch.autocast(device.type, enabled=False):
                output = self._scorer.score(normalise(squares))
            for results, logit, grid in zip(scales, output.image.tolist(), output.evidence.cpu().numpy(), strict=True):
                results.append(ScaleResult(size, logit, grid))
        analyses, names = [], self._facts.score_names
        for image, results in zip(images, scales, strict=True):
            anomaly_map = mean_map(results, image.shape[0], image.shape[1])
            analyses.append(Analysis(tuple(results), anomaly_map, image_scores(results, anomaly_map, names)))
        return analyses

    @torch.no_grad()
    def attention(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The last block's mean [CLS] attention (r, c) at the largest size."""
        encoder = next((module for module in self._scorer.modules() if isinstance(module, Encoder)), None)
        if encoder is None:
            return None
        size = max(self._facts.sizes_px)
        square = channels_first(resize_image(image, size, size))[None].to(next(encoder.parameters()).device)
        return mean_cls_attention(encoder(normalise(square)))[0].reshape(encoder.grid(size, size)).cpu().numpy()


def open_folder(path: Path, device: Any = "auto", threads: int | None = None) -> NativeModel:
    """Open a run or model folder; see :func:`flawmap.deploy.opened_model.open_model`."""
    if threads is not None:
        torch.set_num_threads(threads)
    detector = AnomalyDetector.from_pretrained(path, device)
    folder = model_folder(path)
    name = (folder.parent if folder.name == "model" else folder).resolve().name
    return NativeModel(detector, model_facts(detector, name))


def model_facts(detector: AnomalyDetector, name: str, precision: str = "fp32") -> ModelFacts:
    """What the model says of itself.

    Raises:
        UserError: the detector is not fitted.
    """
    sizes_px, scorer, origin = detector.sizes_px, detector.scorer_, detector.origin_
    assert scorer is not None and origin is not None  # sizes_px has refused an unfitted detector
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in scorer.state_dict().items()}
    return ModelFacts(
        name=name,
        weights_sha256=hashlib.sha256(save(tensors)).hexdigest(),  # the bytes of model.safetensors
        architecture=origin.architecture,
        weights_source=origin.source,
        weights_licence=origin.licence,
        sizes_px=tuple(sizes_px),
        image_score=detector.recipe.detect.image_score,
        score_names=detector.score_names,
        precision=precision,
        calibration=detector.calibration_,
        flawmap=flawmap.__version__,
    )

"""NSA (Schlueter, Tan, Hou and Kainz 2022) with logistic labels and its parameters for textures."""

from functools import partial

from flawmap.augment.nsa import NaturalSyntheticAnomalies
from flawmap.benchmark.baselines.backbone import imagenet_normalised
from flawmap.benchmark.baselines.residual_networks import ResNetEncoderDecoder, width_factor, width_note
from flawmap.benchmark.baselines.simulated_segmentation import SegmentationMethod, SimulatedSegmentation
from flawmap.benchmark.baselines.training_loop import cosine_rate
from flawmap.benchmark.method import MethodSettings


class Nsa(SimulatedSegmentation):
    """A ResNet-18 encoder-decoder from scratch; cosine from 1e-3.

    Args:
        settings: of the board.
        width: share of the publication's channels; None: by the device.
    """

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        width = width or width_factor(settings.compute.device)
        remark = "; ".join(part for part in ("parameters for textures", width_note(width)) if part)
        method = SegmentationMethod(
            "nsa",
            NaturalSyntheticAnomalies(),
            partial(ResNetEncoderDecoder, width),
            imagenet_normalised,
            cosine_rate,
            remark,
        )
        super().__init__(settings, method)

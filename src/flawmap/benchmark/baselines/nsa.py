"""NSA (Schlueter, Tan, Hou and Kainz 2022) with logistic labels and its parameters for textures."""

from functools import partial

from flawmap.augment.nsa import NaturalSyntheticAnomalies
from flawmap.benchmark.baselines.backbone import imagenet_normalised
from flawmap.benchmark.baselines.residual_networks import ResNetEncoderDecoder
from flawmap.benchmark.baselines.simulated_segmentation import SegmentationMethod, SimulatedSegmentation
from flawmap.benchmark.baselines.training_loop import cosine_rate
from flawmap.benchmark.method import MethodSettings


class Nsa(SimulatedSegmentation):
    """A ResNet-18 encoder-decoder from scratch; cosine from 1e-3.

    Args:
        settings: of the board.
        width: of the network, below 1 for tests.
    """

    def __init__(self, settings: MethodSettings, width: float = 1.0) -> None:
        method = SegmentationMethod(
            "nsa",
            NaturalSyntheticAnomalies(),
            partial(ResNetEncoderDecoder, width),
            imagenet_normalised,
            cosine_rate,
            "parameters for textures",
        )
        super().__init__(settings, method)

"""PII (Tan, Hou, Day, Simpson, Rueckert and Kainz 2021) with its own network: FPI with Poisson blending."""

from functools import partial

from flawmap.simulators.pii import PoissonImageInterpolation
from flawmap_bench.baselines.residual_networks import (
    WideEncoderDecoder,
    standardised,
    width_factor,
    width_note,
)
from flawmap_bench.baselines.simulated_segmentation import SegmentationMethod, SimulatedSegmentation
from flawmap_bench.baselines.training_loop import constant_rate
from flawmap_bench.method import MethodSettings


class Pii(SimulatedSegmentation):
    """A wide residual encoder-decoder from scratch on standardised images; constant rate."""

    def __init__(self, settings: MethodSettings) -> None:
        width = width_factor(settings.compute.device)
        network = partial(WideEncoderDecoder, width)
        simulator = PoissonImageInterpolation()
        method = SegmentationMethod("pii", simulator, network, standardised, constant_rate, 32, width_note(width))
        super().__init__(settings, method)

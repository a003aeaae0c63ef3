"""FPI (Tan, Hou, Batten, Qiu and Kainz 2020) with its own network: the foreign share is regressed at each pixel."""

from functools import partial

from flawmap.simulators.fpi import ForeignPatchInterpolation
from flawmap_bench.baselines.residual_networks import (
    WideEncoderDecoder,
    standardised,
    width_factor,
    width_note,
)
from flawmap_bench.baselines.simulated_segmentation import SegmentationMethod, SimulatedSegmentation
from flawmap_bench.baselines.training_loop import constant_rate
from flawmap_bench.method import MethodSettings


class Fpi(SimulatedSegmentation):
    """A wide residual encoder-decoder from scratch on images standardised one by one, as PII's; constant rate."""

    def __init__(self, settings: MethodSettings) -> None:
        width = width_factor(settings.compute.device)
        network = partial(WideEncoderDecoder, width)
        simulator = ForeignPatchInterpolation()
        method = SegmentationMethod("fpi", simulator, network, standardised, constant_rate, 32, width_note(width))
        super().__init__(settings, method)

"""NSA (Schlueter, Tan, Hou and Kainz 2022) with logistic labels."""

from functools import partial

from flawmap.recipe.files import load_recipe
from flawmap.simulators.nsa import NaturalSyntheticAnomalies, nsa_parameters
from flawmap_bench.baselines.backbone import imagenet_normalised
from flawmap_bench.baselines.residual_networks import ResNetEncoderDecoder, width_factor, width_note
from flawmap_bench.baselines.simulated_segmentation import SegmentationMethod, SimulatedSegmentation
from flawmap_bench.baselines.training_loop import cosine_rate
from flawmap_bench.method import MethodSettings

CROP_MARGIN = 230 / 224  # of the publication's random crops; its turns by 3 to 5 degrees are left out


class Nsa(SimulatedSegmentation):
    """A ResNet-18 encoder-decoder from scratch; cosine from 1e-3.

    Args:
        settings: of the board; the change ``finetune.simulation.nsa_class=CLASS`` chooses its parameters, which are
            those for textures without one.
        width: share of the publication's channels; None: by the device.
    """

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        width = width or width_factor(settings.compute.device)
        of_class = load_recipe("paper", settings.overrides).finetune.simulation.nsa_class
        parameters = f"parameters for {of_class or 'textures'}"
        remark = "; ".join(part for part in (parameters, "no turns", width_note(width)) if part)
        method = SegmentationMethod(
            "nsa",
            NaturalSyntheticAnomalies(nsa_parameters(of_class)),
            partial(ResNetEncoderDecoder, width),
            imagenet_normalised,
            cosine_rate,
            64,
            remark,
            crop_margin=CROP_MARGIN,
            flips=of_class is None,
        )
        super().__init__(settings, method)

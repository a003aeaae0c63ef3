"""The one interface of all anomaly simulators, the rule that each of them keeps, and the list of them by name.

A simulator turns a normal image into one with an anomaly. Ours (``attention_cutpaste``) is compared with the
others of the paper's Table 3. To add one: a file with a callable class, and its name in :func:`simulator_by_name`.
"""

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.augment.blending import paste
from flawmap.augment.simulated_anomaly import SimulatedAnomaly
from flawmap.errors import UserError
from flawmap.recipe import SimulationSettings

SIMULATOR_NAMES = (
    "attention_cutpaste",
    "random_cutpaste",
    "cutpaste",
    "scar",
    "cutpaste_union",
    "fpi",
    "pii",
    "nsa",
    "draem",
)


@runtime_checkable
class Simulator(Protocol):
    """Simulates an anomaly on a normal image; any size from 32 px on, square or not.

    Attributes:
        needs_attention: whether ``attention`` must be given.
        needs_second: whether ``second`` must be given.
    """

    needs_attention: ClassVar[bool]
    needs_second: ClassVar[bool]

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: Float[np.ndarray, "r c"] | None = None,
        second: UInt8[np.ndarray, "h w 3"] | None = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly.

        Args:
            image: a normal image; it is not changed.
            generator: the only source of randomness.
            attention: A^[CLS] >= 0 of ``image`` at any resolution, for simulators that follow it.
            second: another normal image of the same size, for simulators that take their patches from one.

        Raises:
            ValueError: something this simulator needs is None.
        """
        ...


def anomaly_inside(
    image: UInt8[np.ndarray, "h w 3"],
    patched: UInt8[np.ndarray, "h w 3"],
    footprint: Bool[np.ndarray, "h w"],
    soft_target: Float[np.ndarray, "h w"] | None = None,
) -> SimulatedAnomaly:
    """What every simulator keeps to: pixels change inside the footprint only, and where none does, nothing is one.

    Args:
        image: the normal image.
        patched: the image with the anomaly; pixels outside ``footprint`` are not used.
        footprint: True where something was pasted.
        soft_target: the simulator's own label in [0, 1], not used outside the footprint; None: the footprint.

    Returns:
        the anomaly with label 1; or the image as it was with label 0, an empty footprint and an empty soft target
        where ``patched`` equals ``image`` all over the footprint.
    """
    result = paste(image, patched, footprint)
    if (result == image).all():
        footprint = np.zeros_like(footprint)
    soft = footprint if soft_target is None else np.where(footprint, soft_target, 0)
    return SimulatedAnomaly(result, footprint, soft.astype(np.float32), int(footprint.any()))


def is_gray(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether all three channels are equal."""
    return bool((image == image[..., :1]).all())


def simulator_by_name(name: str, settings: SimulationSettings) -> Simulator:
    """A simulator of :data:`SIMULATOR_NAMES`.

    Args:
        name: ``random_cutpaste`` is ours with uniform locations; NSA comes with its parameters for textures.
        settings: of ours and its control. The others keep the parameters of their publications.

    Raises:
        UserError: there is no simulator of that name.
    """
    # imported here, because these files build on the interface above
    from flawmap.augment.control import AttentionCutPaste, RandomCutPaste
    from flawmap.augment.cutpaste import CutPaste
    from flawmap.augment.draem import Draem
    from flawmap.augment.fpi import ForeignPatchInterpolation
    from flawmap.augment.nsa import NaturalSyntheticAnomalies
    from flawmap.augment.pii import PoissonImageInterpolation

    match name:
        case "attention_cutpaste":
            return AttentionCutPaste(settings)
        case "random_cutpaste":
            return RandomCutPaste(settings)
        case "cutpaste":
            return CutPaste("normal")
        case "scar":
            return CutPaste("scar")
        case "cutpaste_union":
            return CutPaste("union")
        case "fpi":
            return ForeignPatchInterpolation()
        case "pii":
            return PoissonImageInterpolation()
        case "nsa":
            return NaturalSyntheticAnomalies()
        case "draem":
            return Draem()
    raise UserError(f"there is no anomaly simulator {name!r}", "", f"choose one of {', '.join(SIMULATOR_NAMES)}")

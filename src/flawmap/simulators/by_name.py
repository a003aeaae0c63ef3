"""The one interface of all anomaly simulators, and the list of them by name.

A simulator turns a normal image into one with an anomaly. Ours (``attention_cutpaste``) is compared with the
others of the paper's Table 3. To add one: a file with a callable class, and its name in :data:`SIMULATORS`.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from flawmap.errors import UserError
from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.cutpaste import CutPaste
from flawmap.simulators.draem import Draem
from flawmap.simulators.fpi import ForeignPatchInterpolation
from flawmap.simulators.nsa import NaturalSyntheticAnomalies, nsa_parameters
from flawmap.simulators.pii import PoissonImageInterpolation
from flawmap.simulators.random_cutpaste import RandomCutPaste
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly
from flawmap.simulators.varied import VariedDefects


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


SIMULATORS: dict[str, Callable[[SimulationSettings], Simulator]] = {
    "attention_cutpaste": AttentionCutPaste,
    "varied": VariedDefects,
    "random_cutpaste": RandomCutPaste,
    "cutpaste": lambda _: CutPaste("normal"),
    "scar": lambda _: CutPaste("scar"),
    "cutpaste_union": lambda _: CutPaste("union"),
    "fpi": lambda _: ForeignPatchInterpolation(),
    "pii": lambda _: PoissonImageInterpolation(),
    "nsa": lambda settings: NaturalSyntheticAnomalies(nsa_parameters(settings.nsa_class)),
    "draem": lambda _: Draem(),
}
SIMULATOR_NAMES = tuple(SIMULATORS)


def simulator_by_name(name: str, settings: SimulationSettings) -> Simulator:
    """A simulator of :data:`SIMULATORS`.

    Args:
        name: ``random_cutpaste`` is ours with uniform locations.
        settings: of ours and its control, and the class that NSA has parameters for. The others keep the parameters
            of their publications.

    Raises:
        UserError: there is no simulator of that name.
    """
    if name not in SIMULATORS:
        raise UserError(f"there is no anomaly simulator {name!r}", "", f"choose one of {', '.join(SIMULATOR_NAMES)}")
    return SIMULATORS[name](settings)

"""The simulators that the paper compares its own with (Table 3), written from their publications.

A recipe names them in ``simulator``. flawmap finds them by the entry points of the group ``flawmap.simulators``:
functions from :class:`flawmap.recipe.settings.SimulationSettings` to a simulator.
"""

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap_bench.simulators.cutpaste import CutPaste
from flawmap_bench.simulators.draem import Draem
from flawmap_bench.simulators.fpi import ForeignPatchInterpolation
from flawmap_bench.simulators.nsa import NaturalSyntheticAnomalies, nsa_parameters
from flawmap_bench.simulators.pii import PoissonImageInterpolation


def cutpaste(_: SimulationSettings) -> Simulator:
    """CutPaste with rectangles."""
    return CutPaste("normal")


def scar(_: SimulationSettings) -> Simulator:
    """CutPaste with scars."""
    return CutPaste("scar")


def cutpaste_union(_: SimulationSettings) -> Simulator:
    """CutPaste with rectangles or scars."""
    return CutPaste("union")


def fpi(_: SimulationSettings) -> Simulator:
    """Foreign patch interpolation."""
    return ForeignPatchInterpolation()


def pii(_: SimulationSettings) -> Simulator:
    """Poisson image interpolation."""
    return PoissonImageInterpolation()


def nsa(settings: SimulationSettings) -> Simulator:
    """Natural synthetic anomalies, with the parameters of the class that the settings name."""
    return NaturalSyntheticAnomalies(nsa_parameters(settings.nsa_class))


def draem(_: SimulationSettings) -> Simulator:
    """DRAEM's textures in Perlin noise."""
    return Draem()

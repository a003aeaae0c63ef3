"""All simulators by the name that a recipe gives them.

``attention_cutpaste`` is the paper's; ``varied`` trains the recommended head; the others are those of the paper's
Table 3. To add one, write a file with a :class:`flawmap.simulators.simulated_anomaly.Simulator`, and add a line here
and its name to ``SimulationSettings.simulator``.
"""

from collections.abc import Callable

from flawmap.errors import UserError
from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.cutpaste import CutPaste
from flawmap.simulators.draem import Draem
from flawmap.simulators.fpi import ForeignPatchInterpolation
from flawmap.simulators.nsa import NaturalSyntheticAnomalies, nsa_parameters
from flawmap.simulators.pii import PoissonImageInterpolation
from flawmap.simulators.random_cutpaste import RandomCutPaste
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap.simulators.varied import VariedDefects

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
        name: a key of :data:`SIMULATORS`.
        settings: read by the first three, and by ``nsa`` for its class. The others keep the parameters of their
            publications.

    Raises:
        UserError: there is no simulator of that name.
    """
    if name not in SIMULATORS:
        raise UserError(f"there is no anomaly simulator {name!r}", "", f"choose one of {', '.join(SIMULATOR_NAMES)}")
    return SIMULATORS[name](settings)

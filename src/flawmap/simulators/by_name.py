"""All simulators by the name that a recipe gives them.

``attention_cutpaste`` is the paper's, ``random_cutpaste`` its control, and ``varied`` trains the recommended head.
Other packages register theirs as entry points of the group ``flawmap.simulators``: functions from
:class:`flawmap.recipe.settings.SimulationSettings` to a :class:`flawmap.simulators.simulated_anomaly.Simulator`.
"""

from collections.abc import Callable

from flawmap.errors import UserError
from flawmap.plugins import broken_plugin, load_plugin, plugin_names
from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.random_cutpaste import RandomCutPaste
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap.simulators.varied import VariedDefects

ENTRY_POINTS = "flawmap.simulators"  # flawmap-bench registers those of the paper's Table 3
BUILT_IN: dict[str, Callable[[SimulationSettings], Simulator]] = {
    "attention_cutpaste": AttentionCutPaste,
    "varied": VariedDefects,
    "random_cutpaste": RandomCutPaste,
}


def simulator_names() -> tuple[str, ...]:
    """The built-in simulators, then those that installed packages register."""
    return (*BUILT_IN, *plugin_names(ENTRY_POINTS))


def simulator_by_name(name: str, settings: SimulationSettings) -> Simulator:
    """A simulator with its settings.

    Args:
        name: one of :func:`simulator_names`.
        settings: read by the built-in ones, and by ``nsa`` for its class. The others keep the parameters of their
            publications.

    Raises:
        UserError: there is no simulator of that name, or the package that registers it is broken.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](settings)
    if (make := load_plugin(ENTRY_POINTS, name)) is not None:
        simulator = make(settings)
        if not isinstance(simulator, Simulator):
            raise broken_plugin(ENTRY_POINTS, name, f"gives a {type(simulator).__name__}, not a Simulator")
        return simulator
    raise UserError(
        f"there is no simulator {name!r}",
        "simulation.simulator",
        f"choose {', '.join(simulator_names())}; flawmap-bench adds those that the paper compares",
    )

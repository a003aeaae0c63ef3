"""The module of stage 1 for the objective that the recipe names."""

from importlib.metadata import entry_points

from flawmap.errors import UserError
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder

BUILT_IN: dict[str, type[SelfDistillation]] = {"clusters": PretrainModule}
ENTRY_POINTS = "flawmap.objectives"  # the group under which other packages register theirs


def objective_by_name(name: str) -> type[SelfDistillation]:
    """The module of an objective: built in, or registered by another package as an entry point.

    Args:
        name: such as ``clusters``.

    Raises:
        UserError: there is no objective of that name.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    registered = entry_points(group=ENTRY_POINTS)
    if name in registered.names:
        return registered[name].load()
    raise UserError(
        f"there is no objective {name!r}",
        "pretrain.objective",
        f"choose {', '.join(sorted({*BUILT_IN, *registered.names}))}; flawmap-bench adds dino, ibot, msn and swav",
    )


def pretrain_module(
    encoder: Encoder, settings: PretrainSettings, total_steps: int, steps_per_epoch: int, seed: int
) -> SelfDistillation:
    """What stage 1 trains.

    Args:
        encoder: initial encoder; becomes the student's.
        settings: of stage 1; ``objective`` decides.
        total_steps: optimizer steps of the stage.
        steps_per_epoch: for schedules given in epochs.
        seed: of the run.

    Raises:
        UserError: there is no objective of that name.
    """
    return objective_by_name(settings.objective)(encoder, settings, total_steps, steps_per_epoch, seed)

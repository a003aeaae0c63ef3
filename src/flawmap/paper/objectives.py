"""Objectives of stage 1 by name: the paper's, and those that other packages register."""

from importlib.metadata import entry_points

from flawmap.errors import UserError
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.self_distillation import SelfDistillation

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

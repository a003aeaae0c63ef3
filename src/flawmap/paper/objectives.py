"""Objectives of stage 1 by name: the paper's, and those that other packages register."""

from flawmap.errors import UserError
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.plugins import broken_plugin, load_plugin, plugin_names

BUILT_IN: dict[str, type[SelfDistillation]] = {"clusters": PretrainModule}
ENTRY_POINTS = "flawmap.objectives"  # the group under which other packages register theirs


def objective_by_name(name: str) -> type[SelfDistillation]:
    """The module of an objective: built in, or registered by another package as an entry point.

    Args:
        name: such as ``clusters``.

    Raises:
        UserError: there is no objective of that name, or the package that registers it is broken.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if (kind := load_plugin(ENTRY_POINTS, name)) is not None:
        if not (isinstance(kind, type) and issubclass(kind, SelfDistillation)):
            raise broken_plugin(ENTRY_POINTS, name, "is no subclass of SelfDistillation")
        return kind
    known = ", ".join(sorted({*BUILT_IN, *plugin_names(ENTRY_POINTS)}))
    remedy = f"choose {known}; flawmap-bench adds dino, ibot, msn and swav"
    raise UserError(f"there is no objective {name!r}", "pretrain.objective", remedy)

"""The module of stage 1 for the objective that the recipe names."""

from flawmap.errors import UserError
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.recipe.settings import PretrainSettings
from flawmap.vit.encoder import Encoder
from flawmap_bench.objectives.dino import DinoModule
from flawmap_bench.objectives.ibot import IbotModule
from flawmap_bench.objectives.msn import MsnModule
from flawmap_bench.objectives.swav import SwavModule

# the names of recipe.PretrainSettings.objective
MODULES: dict[str, type[SelfDistillation]] = {
    "clusters": PretrainModule,
    "dino": DinoModule,
    "swav": SwavModule,
    "ibot": IbotModule,
    "msn": MsnModule,
}


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
    if settings.objective not in MODULES:
        raise UserError(
            f"there is no objective {settings.objective!r}", "pretrain.objective", f"choose one of {', '.join(MODULES)}"
        )
    return MODULES[settings.objective](encoder, settings, total_steps, steps_per_epoch, seed)

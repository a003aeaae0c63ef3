"""Settings that contradict each other."""

from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe


def cross_check(recipe: Recipe) -> None:
    """Settings that contradict each other.

    Raises:
        UserError: names both settings.
    """
    for name, stage in (("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if (stage.epochs is None) == (stage.steps is None):
            raise UserError(
                f"{name}.epochs is {stage.epochs} and {name}.steps is {stage.steps}",
                name,
                f"give one of them, for example --set {name}.steps=null",
            )
    _check_losses_and_data(recipe)
    _check_scoring(recipe)
    for stage in ("finetune", "residual"):
        simulation = getattr(recipe, stage).simulation
        for low, high in (("min_size", "max_size"), ("min_scale", "max_scale")):
            if getattr(simulation, low) > getattr(simulation, high):
                raise UserError(
                    f"{low} is {getattr(simulation, low):g}, above {high} {getattr(simulation, high):g}",
                    f"{stage}.simulation",
                    "swap them",
                )
    if recipe.compute.devices > 1:
        for name in ("pretrain", "finetune", "residual"):
            batch_size = getattr(recipe, name).batch_size
            if batch_size % recipe.compute.devices:
                raise UserError(
                    f"{name}.batch_size is {batch_size}, no multiple of compute.devices {recipe.compute.devices}",
                    name,
                    "the batch is shared out evenly: change one of them",
                )


def _check_scoring(recipe: Recipe) -> None:
    """The token scorers make no decision of their own that could be put to the vote."""
    if recipe.method == "paper":
        return
    if recipe.detect.image_score not in ("mean_logit", "map_max"):
        raise UserError(
            f"method is {recipe.method}, which casts no votes, but detect.image_score is {recipe.detect.image_score}",
            "detect.image_score",
            "--set detect.image_score=mean_logit, or --set method=paper",
        )
    if list(recipe.memory.blocks) != sorted(set(recipe.memory.blocks)):
        raise UserError(f"memory.blocks is {list(recipe.memory.blocks)}", "memory.blocks", "ascending, each once")


def _check_losses_and_data(recipe: Recipe) -> None:
    finetune, data = recipe.finetune, recipe.data
    if finetune.detection_weight == finetune.segmentation_weight == 0:
        raise UserError(
            "finetune.detection_weight and finetune.segmentation_weight are both 0",
            "finetune",
            "nothing would be learned: give one of them weight",
        )
    if data.pretrain_on is not None and not data.pretrain_on.strip():
        raise UserError(
            "data.pretrain_on is empty",
            "data.pretrain_on",
            "name a data location, or give null to pre-train on the category alone",
        )
    if "{stem}" not in data.mask_pattern:
        raise UserError(
            f"data.mask_pattern is {data.mask_pattern!r}, without {{stem}}",
            "data.mask_pattern",
            'say where the image\'s name stands, for example "{stem}_mask"',
        )

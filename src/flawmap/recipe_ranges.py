"""Which numbers a recipe may hold, and which settings contradict each other."""

from flawmap.errors import UserError
from flawmap.recipe import Recipe

_RATE = (0.0, 10.0)
_SHARE = (0.0, 1.0)
_LARGE = 10_000_000

RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.image_size_px": (28, 2048),
    "data.train_subset": (2, _LARGE),
    "data.test_subset": (1, _LARGE),
    "model.drop_path_rate": (0, 0.9),
    "pretrain.epochs": (1, 100_000),
    "pretrain.steps": (1, _LARGE),
    "pretrain.batch_size": (2, 65_536),
    "pretrain.local_views": (0, 32),
    "pretrain.local_size_px": (14, 1024),
    "pretrain.prototypes": (2, 65_536),
    "pretrain.temperature": (0.001, 1),
    "pretrain.sinkhorn_epsilon": (0.0005, 1),
    "pretrain.sinkhorn_iterations": (1, 100),
    "pretrain.learning_rate": _RATE,
    "pretrain.warmup_learning_rate": _RATE,
    "pretrain.final_learning_rate": _RATE,
    "pretrain.warmup_epochs": (0, 100_000),
    "pretrain.weight_decay": _RATE,
    "pretrain.final_weight_decay": _RATE,
    "pretrain.clip_gradient_norm": (1e-6, 1e6),
    "pretrain.teacher_momentum": _SHARE,
    "pretrain.masking.drop_ratio": (0, 0.9),
    "finetune.epochs": (1, 100_000),
    "finetune.steps": (1, _LARGE),
    "finetune.batch_size": (1, 65_536),
    "finetune.image_size_px": (28, 2048),
    "finetune.detection_weight": (0, 1000),
    "finetune.segmentation_weight": (0, 1000),
    "finetune.learning_rate": (1e-9, 10),
    "finetune.head_learning_rate": _RATE,
    "finetune.aggregation_learning_rate_factor": (0, 1e6),
    "finetune.warmup_learning_rate": _RATE,
    "finetune.final_learning_rate": _RATE,
    "finetune.warmup_epochs": (0, 100_000),
    "finetune.weight_decay": _RATE,
    "finetune.clip_gradient_norm": (1e-6, 1e6),
    "finetune.augmentation.min_crop": (0.05, 1),
    "finetune.augmentation.max_rotation_deg": (0, 180),
    "finetune.augmentation.jitter": (0, 0.5),
    "finetune.simulation.min_size": (0.005, 1),
    "finetune.simulation.max_size": (0.005, 1),
    "finetune.simulation.max_rotation_deg": (0, 180),
    "finetune.simulation.min_scale": (0.05, 20),
    "finetune.simulation.max_scale": (0.05, 20),
    "finetune.simulation.jitter": (0, 0.5),
    "finetune.simulation.max_patches": (1, 50),
    "memory.blocks": (1, 100),
    "memory.tokens": (1, 1_000_000),
    "memory.image_share": (1e-6, 1),
    "residual.steps": (1, _LARGE),
    "residual.batch_size": (1, 65_536),
    "residual.hidden": (1, 65_536),
    "residual.learning_rate": (1e-9, 10),
    "residual.weight_decay": _RATE,
    "residual.augmentation.min_crop": (0.05, 1),
    "residual.augmentation.max_rotation_deg": (0, 180),
    "residual.augmentation.jitter": (0, 0.5),
    "residual.simulation.min_size": (0.005, 1),
    "residual.simulation.max_size": (0.005, 1),
    "residual.simulation.max_rotation_deg": (0, 180),
    "residual.simulation.min_scale": (0.05, 20),
    "residual.simulation.max_scale": (0.05, 20),
    "residual.simulation.jitter": (0, 0.5),
    "residual.simulation.max_patches": (1, 50),
    "detect.sizes_px": (28, 4096),
    "calibration.held_out_fraction": (0, 0.9),
    "calibration.false_alarm_rate": (1e-6, 0.5),
    "compute.workers": (0, 256),
    "compute.devices": (1, 1024),
}


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
    if recipe.scoring == "paper_head":
        return
    if recipe.detect.image_score not in ("mean_logit", "map_max"):
        raise UserError(
            f"scoring is {recipe.scoring}, which casts no votes, but detect.image_score is {recipe.detect.image_score}",
            "detect.image_score",
            "--set detect.image_score=mean_logit, or --set scoring=paper_head",
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

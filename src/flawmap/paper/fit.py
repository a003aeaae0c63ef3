"""The method of the paper, from good images to a scorer: stage 1 (Fig. 2), then stage 2 (Fig. 3, top)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.engine.training import TrainingPlan, train
from flawmap.errors import UserError
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.heads import PaperHead
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.paper.views import ViewsDataset, ViewSizes
from flawmap.recipe.settings import Recipe
from flawmap.scorer import FittedScorer
from flawmap.simulators.by_name import Simulator
from flawmap.simulators.dataset import CROP_MARGIN, SimulationDataset, crop_margin
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder


def pretrain(
    images: Sequence[NormalImage],
    recipe: Recipe,
    context: StageContext,
    objective: type[SelfDistillation],
    may_train: bool = True,
) -> tuple[dict[str, Tensor], StageContext]:
    """Stage 1: agreement of cluster assignments, or another objective in its place.

    Args:
        images: good images; those of the pool are among them.
        recipe: ``pretrain`` and ``model`` hold the settings.
        context: the run; a result that it holds already is reused.
        objective: what is trained.
        may_train: False requires that the stage is finished.

    Returns:
        the state of the encoder that the stage results in, and the context of what comes after.

    Raises:
        UserError: the stage is not finished and may not be trained, or training fails.
    """
    settings, drop_path_rate = recipe.pretrain, recipe.model.drop_path_rate
    stage = context.training_stage("pretrain", settings=asdict(settings), drop_path_rate=drop_path_rate)
    if not may_train and not stage.is_finished_anywhere():
        raise UserError("stage 1 of this recipe is not finished", str(context.run.path), "flawmap train --stage all")
    plan = TrainingPlan.of(len(images), settings.batch_size, context.compute.processes, settings.epochs, settings.steps)

    def train_stage() -> Mapping[str, Tensor]:
        torch.manual_seed(context.seed)
        encoder, _ = load_encoder(recipe.model, drop_path_rate=drop_path_rate, seed=context.seed)
        local_px = round_to_patches(settings.local_size_px, encoder.patch_size_px)
        sizes = ViewSizes(context.size_px, local_px, settings.local_views)
        views = ViewsDataset(NormalPixels(images, round(sizes.global_px * CROP_MARGIN)), sizes, context.seed)
        fitting = replace(settings, batch_size=plan.batch_size)
        module = objective(encoder, fitting, plan.total_steps, plan.steps_per_epoch, context.seed)
        train(module, views, len(images), plan, stage, _describe_stage_1)
        return module.result_encoder.state_dict()

    return stage.result_of_all(train_stage, plan.batch_size), context.after(stage)


def fit(
    images: Sequence[NormalImage],
    guide: Encoder,
    recipe: Recipe,
    context: StageContext,
    simulate: Simulator,
) -> FittedScorer:
    """Stage 2: learn to detect and localize simulated anomalies.

    Args:
        images: good images.
        guide: frozen encoder of stage 1; its attention places the anomalies, and training starts from its weights.
        recipe: ``finetune`` and ``model`` hold the settings.
        context: the run; a result that it holds already is reused.
        simulate: makes the anomalies.
    """
    settings, drop_path_rate = recipe.finetune, recipe.model.drop_path_rate
    torch.manual_seed(recipe.seed)
    encoder, _ = load_encoder(recipe.model, drop_path_rate=drop_path_rate, seed=recipe.seed)
    encoder.load_state_dict(guide.state_dict())
    scorer = PaperHead(encoder)
    context = context.at(round_to_patches(recipe.training_size_px, guide.patch_size_px))
    stage = context.training_stage("finetune", settings=asdict(settings), drop_path_rate=drop_path_rate)
    plan = TrainingPlan.of(len(images), settings.batch_size, context.compute.processes, settings.epochs, settings.steps)

    def train_stage() -> Mapping[str, Tensor]:
        pixels = NormalPixels(images, round(context.size_px * crop_margin(settings.augmentation)))
        say("attention", f"of the frozen encoder on {len(pixels)} images")
        attention = cache_attention(guide, pixels, context.size_px, context.compute.device)  # (n, r, c)
        anomalies = SimulationDataset(pixels, attention, context.size_px, settings.augmentation, simulate, context.seed)
        module = FinetuneModule(scorer, settings, plan.total_steps, plan.steps_per_epoch)
        train(module, anomalies, len(images), plan, stage, _describe_stage_2)
        return scorer.state_dict()

    state = stage.result_of_all(train_stage, plan.batch_size)
    scorer.cpu().load_state_dict(state)
    return FittedScorer(scorer.eval(), dict(context.after(stage).earlier), None)


def _describe_stage_1(record: Mapping[str, float]) -> str:
    return (
        f"loss {record['loss']:.3f} (uniform {record['uniform_loss']:.3f})  target entropy "
        f"{record['target_entropy']:.2f}  prototypes used {record['prototypes_used_recently']:.0f}"
    )


def _describe_stage_2(record: Mapping[str, float]) -> str:
    return (
        f"detection {record['detection_loss']:.3f}  Dice loss {record['dice_loss']:.3f}  "
        f"accuracy {record['accuracy']:.2f}"
    )

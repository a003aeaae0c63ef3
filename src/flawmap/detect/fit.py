"""From good images to a fitted scorer: stage 1 where the recipe has one, then the method it names."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from safetensors.torch import save

from flawmap.data.known_defects import refuse_without_head
from flawmap.data.sample import KnownDefect, NormalImage, content_hash
from flawmap.engine.compute import Compute
from flawmap.engine.elsewhere import Elsewhere
from flawmap.engine.loggers import NO_LOGGERS, Loggers
from flawmap.engine.processes import is_first
from flawmap.engine.progress import say
from flawmap.engine.stage import SAVE_EVERY_SECONDS, StageContext
from flawmap.errors import UserError
from flawmap.memory.fit import fit as fit_on_tokens
from flawmap.memory.tiled_fit import fit_with_tiles
from flawmap.recipe.settings import Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.scorer import FittedScorer, Scorer, UnseenDefects, UnseenScores
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import WeightsOrigin, load_encoder

ALGORITHM_VERSION = 13  # raised when code changes what a stage computes: older results are then not reused

StageChoice = Literal["all", "pretrain", "finetune"]


@dataclass(frozen=True)
class Fitted:
    """What fitting gives.

    Attributes:
        scorer: in evaluation mode; None after ``--stage pretrain``, and in all processes of a training but the first.
        guide: the frozen encoder whose attention placed the simulated defects.
        origin: of the initial weights.
        stage_keys: hashes under which the stages' results are shared.
        unseen: what good images score that a fit has not seen; None for the paper's method, which scores held-out ones
            at several sizes, and where no threshold is wanted.
        unseen_defects: scorers that have not seen known defects; None without any.
    """

    scorer: Scorer | None
    guide: Encoder
    origin: WeightsOrigin
    stage_keys: dict[str, str]
    unseen: UnseenScores | None = None
    unseen_defects: UnseenDefects | None = None


def fit_scorer(
    images: Sequence[NormalImage],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    stages: StageChoice = "all",
    save_every_seconds: float = SAVE_EVERY_SECONDS,
    pool: Sequence[NormalImage] = (),
    defects: Sequence[KnownDefect] = (),
    loggers: Loggers = NO_LOGGERS,
    elsewhere: Elsewhere | None = None,
) -> Fitted:
    """Pre-train if the recipe says so, then fit its method.

    Args:
        images: good images to learn from.
        recipe: all settings.
        run: results, log and checkpoints go there; what it already holds is reused.
        compute: device and precision.
        stages: ``pretrain`` stops after stage 1; ``finetune`` requires that stage 1 is finished.
        save_every_seconds: how often a training stage writes a checkpoint.
        pool: further good images, which stage 1 learns from as well.
        defects: known ones, which the head learns from.
        loggers: get the numbers of each training step, too.
        elsewhere: encodes shards of the images; None: this process does.

    Raises:
        UserError: too few images, known defects and no head, a stage that cannot be run, or what a stage raises.
    """
    refuse_stage(recipe, stages)
    if defects:
        refuse_without_head(recipe)
    encoder, origin = load_encoder(recipe.model, seed=recipe.seed)
    size_px = round_to_patches(recipe.data.image_size_px, encoder.patch_size_px)
    if size_px != recipe.data.image_size_px:
        patch = f"not a multiple of the encoder's patches of {encoder.patch_size_px} px"
        say("size", f"{size_px} px: data.image_size_px is {recipe.data.image_size_px}, {patch}")
    weights = hashlib.sha256(save(encoder.state_dict())).hexdigest()
    context = StageContext(
        run,
        compute,
        recipe.seed,
        size_px,
        {"algorithm": ALGORITHM_VERSION, "initial_weights": weights, "images": content_hash(images)},
        workers=recipe.compute.workers,
        save_every_seconds=save_every_seconds,
        loggers=loggers,
        elsewhere=elsewhere,
    )
    if recipe.pretrain.enabled:
        context = _pretrained(encoder, (*images, *pool), recipe, context, may_train=stages != "finetune")
    encoder.eval().requires_grad_(False)
    if stages == "pretrain" or (recipe.method != "paper" and not is_first()):
        return Fitted(None, encoder, origin, dict(context.earlier))
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    fit, known = _fit_of(recipe), (tuple(defects),) if defects else ()
    fitted = fit(images, encoder, recipe, context, simulate, *known)
    if not is_first():  # what remains is one process's work
        return Fitted(None, encoder, origin, fitted.stage_keys)
    return Fitted(fitted.scorer, encoder, origin, fitted.stage_keys, fitted.unseen, fitted.unseen_defects)


def _pretrained(
    encoder: Encoder, images: Sequence[NormalImage], recipe: Recipe, context: StageContext, may_train: bool
) -> StageContext:
    """Stage 1: the encoder gets its weights; returns the context of what comes after it."""
    from flawmap.paper.fit import pretrain  # here, because it loads Lightning, which only these stages need
    from flawmap.paper.objectives import objective_by_name

    with_pool = replace(context, inputs={**context.inputs, "images": content_hash(images)})
    objective = objective_by_name(recipe.pretrain.objective)
    state, after = pretrain(images, recipe, with_pool, objective, may_train=may_train)
    encoder.load_state_dict(state)
    return replace(context, earlier=after.earlier)


def _fit_of(recipe: Recipe) -> Callable[..., FittedScorer]:
    if recipe.method != "paper":
        return fit_on_tokens if recipe.data.tiles == "none" else fit_with_tiles
    from flawmap.paper.fit import fit as fit_paper

    return fit_paper


def refuse_stage(recipe: Recipe, stages: StageChoice) -> None:
    """Raises UserError: stage 1 alone is asked for, and the recipe has none."""
    if stages == "pretrain" and not recipe.pretrain.enabled:
        raise UserError(
            "stage 1 is switched off in this recipe (pretrain.enabled is false)",
            "--stage pretrain",
            "--set pretrain.enabled=true, or --stage all",
        )

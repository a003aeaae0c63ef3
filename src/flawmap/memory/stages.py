"""The cached stages of a fit: what is kept of it, and what each result depends on."""

from dataclasses import asdict, dataclass

from flawmap.engine.stage import Stage, StageContext
from flawmap.memory.known_defects import DefectsToLearn, head_decides
from flawmap.memory.units import Tiles, WholeImages
from flawmap.memory.views import FEW
from flawmap.recipe.settings import Recipe
from flawmap.vit.frozen_encoder import FrozenEncoder


@dataclass(frozen=True)
class Stages:
    """The cached stages: encoding, memory, head (None for the method ``memory``) and expectation."""

    encoding: Stage
    memory: Stage
    head: Stage | None
    expectation: Stage

    @property
    def after(self) -> StageContext:
        """The context of what comes after all of them."""
        return self.expectation.context.after(self.expectation)


def plan_stages(
    units: WholeImages | Tiles,
    recipe: Recipe,
    context: StageContext,
    frozen: FrozenEncoder,
    known: DefectsToLearn | None = None,
    num_shards: int = 1,
) -> Stages:
    """The stages; each key is a hash of exactly what its result depends on."""
    memory, expectation, views, cores = recipe.memory, recipe.expectation, {}, {}
    if len(units.identities) < FEW:
        views = {"views": units.views, "simulation": asdict(recipe.residual.simulation)}
    chosen_by = {
        "tokens": memory.tokens,
        "projection_dim": memory.projection_dim,
        "folds": recipe.calibration.folds,
        "identities": units.identities,
    }
    if num_shards > 1:
        cores = {"shards": num_shards, **chosen_by}
    encoding = context.stage(
        f"{units.name}encoding",
        **units.depends_on,
        **views,
        **cores,
        backend=frozen.backend,
        precision=frozen.precision,
        blocks=memory.blocks,
        relative=memory.relative,
        appearance=expectation.appearance,
        candidates=memory.candidates,
        shifts=memory.shifts,
        reference_images=expectation.images,
        reference_tokens=expectation.tokens,
    )
    context = context.after(encoding)
    chosen = context.stage(
        f"{units.name}memory",
        spacing_neighbours=memory.spacing_neighbours,
        **chosen_by,
    )
    context = context.after(chosen)
    head = None
    if recipe.method != "memory":
        of_known = {} if known is None else {"known": known.depends_on, "judged": head_decides(recipe)}
        head = context.stage(f"{units.name}residual", settings=asdict(recipe.residual), **of_known)
        context = context.after(head)
    expected = context.stage(
        f"{units.name}expectation", method=recipe.method, image_share=memory.image_share, settings=asdict(expectation)
    )
    return Stages(encoding, chosen, head, expected)


# ---- encode the good images

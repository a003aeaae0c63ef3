"""The last stage of the scorers on tokens: what do good images show that are not known yet?"""

from collections.abc import Callable
from typing import Any

from flawmap.engine.compute import Compute
from flawmap.engine.failures import in_users_words
from flawmap.engine.progress import say
from flawmap.engine.stage import Stage, finished_stage, keep_result
from flawmap.memory.expectation import NormalExpectation
from flawmap.memory.good_tokens import BATCH_SIZE, MAX_REFERENCE_IMAGES, MAX_REFERENCE_TOKENS, NormalTokens
from flawmap.memory.scorer import TokenScorer
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import stable_hash
from flawmap.runs.run_folder import RunFolder

KEPT_PARTS = ("expectation", "image_scales")


def fit_normal_evidence(
    scorer: TokenScorer,
    normal: Callable[[], NormalTokens],
    recipe: Recipe,
    run: RunFolder,
    compute: Compute,
    common: dict[str, Any],
) -> str:
    """Let the scorer see what training images score that are not in its memory.

    Args:
        scorer: with its memory and head; its expectation and the scales of the image score are set.
        normal: tokens of training images; asked for only if the stage is not done yet.
        recipe: all settings.
        run: the stage's result goes there.
        compute: where.
        common: what determines the result, and ``size``, the side of images in pixels.

    Returns:
        the stage's key.
    """
    size_px = common["size"]
    likeness = NormalExpectation.NEIGHBOUR_SHARE, NormalExpectation.MIN_NEIGHBOURS, NormalExpectation.RAMP
    bounds = {"images": MAX_REFERENCE_IMAGES, "tokens": MAX_REFERENCE_TOKENS, "like": likeness, "kept": KEPT_PARTS}
    # each scorer has its own kinds of evidence
    key = stable_hash(common | {"stage": "expectation", "method": recipe.method} | bounds)
    stage = Stage("expectation", key, 0, 0, 0, size_px, recipe.seed, str)
    if (finished := finished_stage(run, stage)) is not None:
        prefix = "expectation."  # of any number of images
        scorer.expectation.restore({n.removeprefix(prefix): finished[n] for n in finished if n.startswith(prefix)})
        scorer.load_state_dict(scorer.state_dict() | finished)
        return key
    tokens = normal()
    say("normal", f"what {len(tokens.references)} good images score that are not in the memory")
    scorer.eval().to(compute.device)
    each = zip(tokens.reference_tokens.split(BATCH_SIZE), tokens.references.split(BATCH_SIZE), strict=True)
    with in_users_words(stage.name, BATCH_SIZE, size_px):
        scorer.fit_expectation(
            tokens.reference_cls.to(compute.device),
            ((of_images.to(compute.device).float(), numbers.to(compute.device)) for of_images, numbers in each),
        )
    state = {name: tensor for name, tensor in scorer.cpu().state_dict().items() if name.split(".")[0] in KEPT_PARTS}
    keep_result(run, stage, state)
    return key

"""What the report says about a training, according to its recipe and its log."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flawmap.recipe.settings import Recipe
from flawmap.report.curves import is_number
from flawmap.runs.known_defects import KnownDefectScores
from flawmap.runs.training_log import COLLAPSED_ENTROPY, WINDOW_STEPS

MISSED_NAMED = 10  # known defects
COLUMN_TITLES = {
    "input": "image",
    "attention": "attention",
    "masked": "masked view",
    "simulated": "simulated defect",
    "map": "anomaly map",
}


def sample_columns(recipe: Recipe | None) -> dict[str, str]:
    """Titles of the samples' columns by name; masked views only where stage 1 runs."""
    return {name: title for name, title in COLUMN_TITLES.items() if name != "masked" or _pretrains(recipe)}


def samples_sentence(recipe: Recipe | None) -> str:
    """What the rows of samples show, and what training made of such images."""
    hidden = "which patches are hidden, " if _pretrains(recipe) else ""
    shown = (
        f"where the model looks, {hidden}a simulated defect (its footprint in green), and the anomaly map of the "
        "image with this defect."
    )
    if _only_remembers(recipe):
        return (
            f"Good images that a fit has not seen: {shown} This recipe remembers good images and does not learn from "
            "simulated defects; these are only a check."
        )
    return f"Good images that a fit has not seen, treated as training treats its own: {shown}"


def known_defects_sentences(scores: KnownDefectScores | None, is_updated: bool = False) -> tuple[str, ...]:
    """How many known defects are missed, and which; nothing where the training knew none.

    Args:
        scores: of the training.
        is_updated: whether the model in use has learned further images since.
    """
    if scores is None:
        return ()
    missed = scores.missed
    named = ", ".join(image.image for image in missed[:MISSED_NAMED])
    more = f" and {len(missed) - MISSED_NAMED} more" if len(missed) > MISSED_NAMED else ""
    which = (f"Missed, the lowest score first: {named}{more}.",) if missed else ()
    older = ("This is what the model of the training misses; flawmap update does not measure it again.",)
    return (f"{scores.counts.words}.", *which, *(older if is_updated else ()))


def no_curves_sentence(recipe: Recipe | None) -> str:
    """Why there are no curves of training."""
    if _only_remembers(recipe) and not _pretrains(recipe):
        return "None: this recipe remembers good images and learns nothing step by step."
    return "The run holds no log of training."


def num_prototypes(recipe: Recipe | None) -> int | None:
    """K; None without a recipe, and where another objective counts its own prototypes."""
    if recipe is None or recipe.pretrain.objective not in ("clusters", "swav"):
        return None
    return recipe.pretrain.prototypes


def collapse_sentence(log: Sequence[Mapping[str, Any]], k: int | None) -> str:
    """Prototypes in use and the entropy of the teacher's targets at the end of stage 1, against their largest.

    Args:
        log: records of log.jsonl.
        k: number of prototypes, or None where it is not known.

    Returns:
        "" when stage 1 did not run.
    """
    of_stage_1 = [record for record in log if record.get("stage") == "pretrain"]
    recent = [record for record in of_stage_1 if is_number(record.get("target_entropy"))][-WINDOW_STEPS:]
    if not recent:
        return ""
    entropy = sum(record["target_entropy"] for record in recent) / len(recent)
    out_of = f" of {k}" if k else ""
    text = f"At the end of stage 1 {recent[-1]['prototypes_used_recently']}{out_of} prototypes are in use"
    if k is None:
        return f"{text}; the targets' entropy is {entropy:.2f}."
    share = entropy / math.log(k)
    state = "collapsed: uniform targets teach nothing" if share > COLLAPSED_ENTROPY else "not collapsed"
    return (
        f"{text}; the targets' entropy is {entropy:.2f} of at most ln {k} = {math.log(k):.2f} ({share:.0%}): {state}."
    )


def _pretrains(recipe: Recipe | None) -> bool:
    return recipe is None or recipe.pretrain.enabled


def _only_remembers(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.method == "memory"

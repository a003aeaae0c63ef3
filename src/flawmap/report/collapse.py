"""What the collapse watch of stage 1 saw, in one sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_RECENT = 20  # steps that the last value is averaged over
_NEAR_UNIFORM = 0.995  # of ln K: training stops there


def num_prototypes(recipe: str) -> int | None:
    """K, from the text of recipe.yaml; None when there is none or another objective counts its own prototypes."""
    try:
        pretrain = (yaml.safe_load(recipe) or {}).get("pretrain") or {}
    except (yaml.YAMLError, AttributeError):
        return None
    count = pretrain.get("prototypes")
    return int(count) if count and pretrain.get("objective", "clusters") in ("clusters", "swav") else None


def collapse_sentence(log: Sequence[Mapping[str, Any]], k: int | None) -> str:
    """Prototypes in use and the entropy of the teacher's targets at the end of stage 1, against their largest.

    Args:
        log: the lines of log.jsonl.
        k: number of prototypes, or None where it is not known.

    Returns:
        "" when stage 1 did not run.
    """
    lines = [line for line in log if line.get("stage") == "pretrain" and _finite(line.get("target_entropy"))]
    if not lines:
        return ""
    recent = lines[-_RECENT:]
    entropy = sum(float(line["target_entropy"]) for line in recent) / len(recent)
    used = recent[-1].get("prototypes_used_recently", recent[-1].get("prototypes_used"))
    of_all = f" of {k}" if k else ""
    text = (
        f"At the end of stage 1 {used}{of_all} prototypes are in use" if used is not None else "At the end of stage 1"
    )
    if k is None:
        return f"{text}; the targets' entropy is {entropy:.2f}."
    share = entropy / math.log(k)
    state = "collapsed: uniform targets teach nothing" if share > _NEAR_UNIFORM else "not collapsed"
    return (
        f"{text}; the targets' entropy is {entropy:.2f} of at most ln {k} = {math.log(k):.2f} ({share:.0%}): {state}."
    )


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

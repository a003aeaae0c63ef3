"""How far a job is, and how long it will take, from what its command says.

A training says when a stage begins, and not how long it will take. How the stages share the time depends on the number
of images alone, nearly. The shares here are those of the recipe quick, measured; the job's own pace turns them into
seconds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawmap.engine.progress import duration

KEPT_LINES = 20_000


@dataclass(frozen=True)
class LogLine:
    """A line that a command wrote, seconds after its start."""

    seconds: float
    is_output: bool
    text: str


@dataclass(frozen=True)
class Progress:
    """Where a job is.

    Attributes:
        share: of the work that is done, in [0, 1]; None where nobody knows.
        step: what it does now, in words.
        left: the time left in words; empty where nobody knows.
    """

    share: float | None
    step: str
    left: str


@dataclass(frozen=True)
class Stage:
    """A part of a training: how it announces itself, and what it costs relative to encoding one image.

    The cost is ``fixed`` plus ``per_image`` for each good image.
    """

    sign: str
    words: str
    fixed: float
    per_image: float


STAGES = (
    Stage("", "starts, and reads the images", 45.0, 0.1),
    Stage("encoder    ", "looks at the good images", 5.0, 1.0),
    Stage("memory     keeps", "chooses what to remember", 25.0, 0.4),
    Stage("simulate   ", "simulates defects on good images", 245.0, 0.0),
    Stage("residual   trains", "learns to draw defects", 100.0, 0.1),
    Stage("expected   ", "compares good images with each other", 2.0, 0.1),
    Stage("folds      ", "sets the threshold", 90.0, 0.7),
)
COUNTED = re.compile(r"\s(\d+)/(\d+) (?:images|steps)?\s")


def read_log(path: Path) -> list[LogLine]:
    """The lines of a job's log; nothing where it has not begun."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for line in text.splitlines()[-KEPT_LINES:]:
        parts = line.split("\t", 2)
        if len(parts) == 3 and parts[1] in ("o", "e"):
            lines.append(LogLine(float(parts[0]), parts[1] == "o", parts[2]))
    return lines


def progress_of(kind: str, lines: Sequence[LogLine], facts: Mapping[str, Any], seconds: float) -> Progress:
    """Where a job is.

    Args:
        kind: of the job.
        lines: what it said.
        facts: ``n_images``, where the number of images is known.
        seconds: since it started.
    """
    said = [line for line in lines if not line.is_output]
    step = said[-1].text if said else "starts"
    n_images = facts.get("n_images")
    if kind == "train" and n_images:
        return _of_training(said, n_images, seconds)
    if kind == "test" and n_images:
        scored = [line for line in lines if line.is_output]
        if not scored:
            return Progress(None, "opens the model", "")
        done, since = len(scored), scored[0].seconds
        left = (seconds - since) / max(1, done - 1) * (n_images - done)
        text = duration(left) if done > 1 else ""
        return Progress(min(1.0, done / n_images), f"{done} of {n_images} images", text)
    for line in reversed(said):
        if found := COUNTED.search(f"{line.text} "):
            return Progress(int(found[1]) / max(1, int(found[2])), line.text, "")
    return Progress(None, step, "")


def _of_training(said: Sequence[LogLine], n_images: int, seconds: float) -> Progress:
    costs = [stage.fixed + stage.per_image * n_images for stage in STAGES]
    current, began = 0, 0.0
    for line in said:
        later = [number for number in range(current + 1, len(STAGES)) if line.text.startswith(STAGES[number].sign)]
        if later:
            current, began = later[0], line.seconds
    done = sum(costs[:current])
    pace = began / done if done else None  # seconds per unit of cost
    cost, within = costs[current], max(0.0, seconds - began)
    part = within / pace if pace else within * 5.0  # a first guess, until an earlier stage has shown the pace
    share = (done + cost * part / (cost + part)) / sum(costs)  # slows down where a stage takes longer than expected
    left = ""
    if pace:
        rest = max(cost - part, 0.15 * cost) + sum(costs[current + 1 :])
        left = duration(rest * pace)
    return Progress(min(share, 0.99), STAGES[current].words, left)

"""How many steps of a head fit before a moment: for comparisons of methods that are given equal time."""

import time

import torch
from torch.utils.data import default_collate

from flawmap.engine.compute import Compute
from flawmap.memory.good_tokens import BATCH_SIZE, NormalTokens
from flawmap.memory.scorer import ResidualScorer
from flawmap.memory.train_head import ResidualModule
from flawmap.recipe.settings import ResidualSettings
from flawmap.simulators.dataset import SimulationDataset

TRIES = 3  # the first pays for what is allocated only once, and does not count


def head_steps_in_time(
    scorer: ResidualScorer,
    dataset: SimulationDataset,
    normal: NormalTokens,
    settings: ResidualSettings,
    batch_size: int,
    compute: Compute,
) -> int:
    """As many of the wanted steps as end before ``compute.until``, one at least.

    Steps are timed on the filled memory, and so is the look at reference images that comes after the last one. Nothing
    that is learned changes. Scales of the map, from 64 images at most, take some seconds more; they are not counted.

    Args:
        scorer: with its memory filled.
        dataset: what the steps read.
        normal: its reference images are looked up after the last step.
        settings: the wanted steps.
        batch_size: images per step.
        compute: with the moment.
    """
    assert compute.until is not None
    scorer.to(compute.device)
    steps = [_seconds_of_step(scorer, dataset, settings, batch_size, compute, number) for number in range(TRIES)]
    looks = [_seconds_of_look(scorer, normal, compute) for _ in range(TRIES)]
    after = _mean(looks[1:]) * len(normal.references) / BATCH_SIZE
    left = compute.until - time.monotonic() - after
    scorer.cpu()  # where a head is drawn
    return min(settings.steps, max(1, int(left / _mean(steps[1:]))))


def _seconds_of_step(
    scorer: ResidualScorer,
    dataset: SimulationDataset,
    settings: ResidualSettings,
    batch_size: int,
    compute: Compute,
    number: int,
) -> float:
    started = time.monotonic()
    module = ResidualModule(scorer, settings, settings.steps).train()
    batch = default_collate([dataset[number, index % len(dataset)] for index in range(batch_size)])
    batch = {name: values.to(compute.device) for name, values in batch.items()}
    with torch.autocast(compute.device, torch.bfloat16, enabled=compute.precision == "bf16"):
        loss = module.training_step(batch, number)
    loss.backward()
    loss.item()  # an accelerator has then done its work
    module.zero_grad(set_to_none=True)
    return time.monotonic() - started


@torch.no_grad()
def _seconds_of_look(scorer: ResidualScorer, normal: NormalTokens, compute: Compute) -> float:
    started = time.monotonic()
    tokens = normal.reference_tokens[:BATCH_SIZE].to(compute.device).float()
    numbers = normal.references[:BATCH_SIZE].to(compute.device)
    evidence = scorer.evidence_of(tokens, scorer.memory.nearest(tokens, exclude=numbers))
    float(evidence[0].sum())
    return time.monotonic() - started


def _mean(seconds: list[float]) -> float:
    return max(1e-6, sum(seconds) / len(seconds))

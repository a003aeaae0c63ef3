"""What Lightning needs to train a model of anomalib: batches, a clock, and a limit for the coreset."""

import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flawmap_bench.baselines.from_scratch import as_tensor

PROJECTED = 300  # dimensions of anomalib's random projection of some hundred thousand patches
SMALLEST_CORESET = 256  # entries, whatever the budget: fewer are useless as a memory


class GoodBatches(Dataset):
    """Batches of good images, by step, in anomalib's form."""

    def __init__(self, images_of: Any, normalise: Any, steps: int) -> None:
        self._images_of, self._normalise, self._steps = images_of, normalise, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Any:
        images = self._normalise(as_tensor(self._images_of(step), "cpu"))
        good = torch.zeros(len(images), dtype=torch.bool)
        nothing = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
        return import_module("anomalib.data").ImageBatch(image=images, gt_label=good, gt_mask=nothing)

    def loader(self) -> DataLoader:
        """One batch per item, in order."""
        return DataLoader(self, batch_size=None, shuffle=False)


class GoodImages(lightning.LightningDataModule):
    """One epoch of batches; some models ask the trainer's data module for its length."""

    def __init__(self, batches: GoodBatches) -> None:
        super().__init__()
        self._batches = batches

    def train_dataloader(self) -> DataLoader:
        """The only loader: no validation, no test."""
        return self._batches.loader()


class StepClock(lightning.Callback):
    """Times the steps after the first."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note when a step ended."""
        self._ends.append(time.monotonic())

    def seconds_per_step(self) -> float:
        """Mean of all but the first."""
        return max(1e-3, (self._ends[-1] - self._ends[0]) / max(1, len(self._ends) - 1))


class CoresetWithin(lightning.Callback):
    """Lowers a memory bank's coreset ratio to what fits into the budget; each entry costs one pass over all patches.

    Args:
        budget_seconds: of the whole fit; None keeps the ratio.
        started: when it began, by ``time.monotonic``.
    """

    def __init__(self, budget_seconds: float | None, started: float) -> None:
        self._budget_seconds, self._started = budget_seconds, started
        self.note = ""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """All features are collected and nothing is selected yet: Lightning calls callbacks before the model."""
        import_module("anomalib.models.components").KCenterGreedy.update_distances = update_squared_distances
        ratio: Any = getattr(pl_module, "coreset_sampling_ratio", None)
        store = getattr(pl_module.model, "embedding_store", None)
        if not isinstance(ratio, float) or not store:
            return
        count = sum(len(part) for part in store)
        published = ratio
        if self._budget_seconds is not None:
            left = self._budget_seconds - (time.monotonic() - self._started)
            entries = left / _seconds_per_entry(count, store[0].device)
            ratio = min(ratio, entries / count)
        ratio = max(ratio, min(published, SMALLEST_CORESET / count), 1.5 / count)  # anomalib rounds down
        pl_module.coreset_sampling_ratio = ratio
        reduced = f" (published: {100 * published:.2g} %)" if ratio < published else ""
        self.note = f"{100 * ratio:.2g} % of {count} patches{reduced}"


def _seconds_per_entry(count: int, device: torch.device) -> float:
    sampler = SimpleNamespace(features=torch.zeros(count, PROJECTED, device=device), min_distances=None)
    update_squared_distances(sampler, 0)  # not timed: it also computes the squares
    started = time.monotonic()
    for entry in range(3):
        update_squared_distances(sampler, entry)
        sampler.min_distances.max().item()
    return (time.monotonic() - started) / 3


def update_squared_distances(sampler: Any, cluster_center: int | Tensor | None) -> None:
    """Replaces anomalib's: squared distances select the same entries, without copying all features each time.

    Args:
        sampler: anomalib's ``KCenterGreedy``, with ``features`` (n, d); its ``min_distances`` become (n, 1), the
            squared distances to the nearest selected entry.
        cluster_center: index of the entry that was selected last; None changes nothing.
    """
    if cluster_center is None:
        return
    features: Tensor = sampler.features
    if sampler.min_distances is None:
        sampler.squares = features.square().sum(dim=1)
    chosen = int(cluster_center)
    distances = torch.mv(features, features[chosen]).mul_(-2).add_(sampler.squares).add_(sampler.squares[chosen])
    distances = distances.clamp_(min=0)[:, None]
    nearest = sampler.min_distances
    sampler.min_distances = distances if nearest is None else torch.minimum(nearest, distances, out=nearest)

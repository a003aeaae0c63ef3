"""The order of the images, decided by seed and step alone."""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler

from flawmap.engine.compute import Compute
from flawmap.errors import UserError
from flawmap.reproducibility import numpy_generator


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """The batches of a whole stage, one per optimizer step, as lists of ``(epoch, index)``.

    Every epoch is a fresh permutation of the images; those beyond its last whole batch are left out. A data set that
    draws its random numbers from (seed, epoch, index) then gives the same images for any number of loader workers,
    and a stage can resume at any step.

    Args:
        num_images: of the data set.
        batch_size: of all processes together, a multiple of ``world_size`` and not above ``num_images``.
        total_steps: optimizer steps of the stage.
        seed: of the run.
        world_size: number of processes. Each takes every ``world_size``-th image of a batch, so that the joint
            batch is the one that a single process would see.

    Attributes:
        first_step: where iteration starts; a resumed stage sets it.
    """

    def __init__(self, num_images: int, batch_size: int, total_steps: int, seed: int, world_size: int = 1) -> None:
        if batch_size % world_size or not 0 < batch_size <= num_images:
            raise ValueError(f"{num_images} images cannot give {world_size} processes a share of {batch_size}")
        self._num_images, self._batch_size, self._total_steps = num_images, batch_size, total_steps
        self._seed, self._world_size = seed, world_size
        self.first_step = 0

    def __len__(self) -> int:
        return self._total_steps  # not what is left: Lightning counts the batches before a resume, too

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        per_epoch = self._num_images // self._batch_size
        for step in range(self.first_step, self._total_steps):
            epoch, number = divmod(step, per_epoch)
            order = numpy_generator(self._seed, "order", epoch).permutation(self._num_images)
            joint = order[number * self._batch_size : (number + 1) * self._batch_size]
            yield [(epoch, int(index)) for index in joint[rank :: self._world_size]]


def stage_loader(
    dataset: Dataset,
    num_images: int,
    batch_size: int,
    total_steps: int,
    seed: int,
    workers: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader over :class:`BatchOrder`; ``batch_size`` is that of all processes together."""
    order = BatchOrder(num_images, batch_size, total_steps, seed, world_size)
    # Forked workers share the decoded images; spawned ones would each get a copy.
    context = "fork" if workers and sys.platform == "linux" else None
    return DataLoader(dataset, batch_sampler=order, num_workers=workers, multiprocessing_context=context)


def batch_that_fits(batch_size: int, num_images: int, devices: int) -> int:
    """The batch size, reduced to the number of images and to an equal share for every device.

    Raises:
        UserError: fewer than two images, or fewer than devices.
    """
    fitting = min(batch_size, num_images) // devices * devices
    if num_images < 2 or fitting == 0:
        raise UserError(
            f"{num_images} training image{'s' * (num_images != 1)} for {devices} device{'s' * (devices != 1)}",
            "",
            f"at least {max(2, devices)} are needed to train",
        )
    return fitting


def loader_workers(wanted: int | None, compute: Compute) -> int:
    """Loader processes: none on a processor, where loading takes a few hundredths of a step and workers take cores."""
    if wanted is not None:
        return wanted
    return 0 if compute.device == "cpu" else min(8, torch.get_num_threads())


def evenly_spread(count: int, at_most: int) -> list[int]:
    """At most so many of the numbers below ``count``, evenly over all: data sets list their kinds one after another."""
    return np.linspace(0, count - 1, min(count, at_most)).round().astype(int).tolist()

"""Which image comes when, decided by seed and epoch alone."""

from collections.abc import Iterator

from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler

from flawmap.reproducibility import numpy_generator


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)``: a fresh permutation per epoch, split over the processes of a distributed run.

    A dataset that draws its random numbers from (seed, epoch, index) then gives the same images whatever the
    number of loader workers, and after a resume. Lightning calls :meth:`set_epoch` before each epoch.

    Args:
        num_images: of the data set.
        batch_size: of all processes together; images beyond the last whole batch of an epoch wait for the next.
        seed: of the run.
        world_size: number of processes. Each takes every ``world_size``-th image, so that the joint batch is the
            one that a single process would see.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, world_size: int = 1) -> None:
        self._num_images, self._seed, self._world_size = num_images, seed, world_size
        self._num_used = (num_images // batch_size) * batch_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._num_used // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        order = numpy_generator(self._seed, "order", self._epoch).permutation(self._num_images)[: self._num_used]
        return iter([(self._epoch, int(index)) for index in order[rank :: self._world_size]])


def epoch_loader(
    dataset: Dataset, num_images: int, batch_size: int, seed: int, workers: int, world_size: int = 1
) -> DataLoader:
    """A loader over :class:`EpochSampler`; ``batch_size`` is that of all processes together."""
    return DataLoader(
        dataset,
        batch_size=batch_size // world_size,
        sampler=EpochSampler(num_images, batch_size, seed, world_size),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )

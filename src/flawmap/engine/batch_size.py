"""How many images share a pass through a network: one rule for detection and training.

On a processor a batch gains nothing. On an accelerator it keeps the device busy; it is as large as free memory allows.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch

from flawmap.engine.failures import OUT_OF_MEMORY
from flawmap.engine.progress import say

LARGEST = 64  # images; with more, no device is known to be faster, and the batch would depend on what else runs there
SHARE_OF_FREE_MEMORY = 0.5  # because the estimate is rough, and other programs may need some meanwhile

R = TypeVar("R")


class ImagesAtOnce:
    """The number of images in a batch, which is halved for good when the device does not hold so many.

    Args:
        size: at least 1.
        device: where they are computed: ``cpu``, ``cuda`` or ``mps``.

    Attributes:
        size: images of a batch.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, size: int, device: str = "cpu") -> None:
        self.size: int = size
        self.device: str = device
        # Two batches at the same time would need twice the memory. On a processor, images do not share a pass.
        self._turn = nullcontext() if device == "cpu" and size == 1 else threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which wait for nobody else."""
        return {"size": self.size, "device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    @classmethod
    def on(cls, device: str, bytes_per_image: int, on_processor: int = 1) -> "ImagesAtOnce":
        """As many as fit: a power of two, so that a little more or less of free memory rarely changes a batch.

        Args:
            device: ``cpu``, ``cuda`` or ``mps``.
            bytes_per_image: that a pass needs beside the networks.
            on_processor: the size on a processor.
        """
        if device == "cpu":
            return cls(on_processor, device)
        fitting = int(SHARE_OF_FREE_MEMORY * free_bytes(device)) // max(1, bytes_per_image)
        return cls(2 ** (max(1, min(fitting, LARGEST)).bit_length() - 1), device)

    def run(self, work: Callable[[int], R]) -> R:
        """``work(size)``; repeated with half the size, which then stays, where the memory does not hold so many.

        Where images share a pass, one thread works at a time.

        Args:
            work: takes the number of images that may be computed together, and leaves nothing behind when it fails.

        Raises:
            RuntimeError, MemoryError: not even one image fits, or what ``work`` raises.
        """
        with self._turn:
            while True:
                size = self.size
                try:
                    return work(size)
                except (RuntimeError, MemoryError) as error:
                    is_about_memory = isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error))
                    if size == 1 or not is_about_memory:
                        raise
                # Outside the handler, which would keep the tensors of the failed attempt alive.
                self.size = size // 2
                say("batch", f"{size} images do not fit into the memory of the device; continues with {self.size}")
                if self.device == "cuda":
                    torch.cuda.empty_cache()


def free_bytes(device: str) -> int:
    """Memory of an accelerator that is free, or that this process keeps and does not use."""
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

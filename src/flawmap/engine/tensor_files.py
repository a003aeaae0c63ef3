"""Tensors in safetensors files, written whole or not at all."""

import ctypes
import mmap
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from flawmap.errors import UserError
from flawmap.reproducibility import written_beside


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, written atomically, without a copy of large tensors in memory."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as beside:
        save_file(contiguous, beside)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; large tensors are mapped into memory, and read when they are used.

    Raises:
        UserError: it is damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error type, or OSError
        raise UserError(f"the file is damaged: {error}", str(path), "delete it and run again") from error


MAPPINGS = Path("/proc/self/maps")  # Linux only
WORTH_RELEASING = 4 * 1024**2  # bytes; finding out whether a tensor is mapped takes milliseconds


def release_pages(tensor: Tensor) -> None:
    """Take the pages of a tensor that is mapped from its file out of memory; the next use reads them again.

    Loops over many tokens call it now and then, so that a process does not seem to need all that it has ever read.
    Nothing happens to a small tensor, to one that is not mapped, and on systems that do not list their mappings. What
    was written to the tensor is lost.
    """
    if tensor.device.type != "cpu":
        return
    storage = tensor.untyped_storage()
    if storage.nbytes() < WORTH_RELEASING or not MAPPINGS.is_file():
        return
    start = -(-storage.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (storage.data_ptr() + storage.nbytes()) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start and _is_file(start, end):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _is_file(start: int, end: int) -> bool:
    """Whether these addresses are mapped from one file; other memory would be lost if its pages were released."""
    for line in MAPPINGS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(address, 16) for address in addresses.split("-"))
        if first <= start and end <= last:
            return inode != "0"
    return False

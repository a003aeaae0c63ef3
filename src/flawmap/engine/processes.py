"""What the processes of one training tell each other: who is first, what the first one knows, and what went wrong.

:mod:`flawmap.engine.launch` or Lightning has started them. Without others, nothing here does anything.
"""

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist

from flawmap.errors import UserError

T = TypeVar("T")

STORE_TIMEOUT = timedelta(seconds=5)  # of the place where errors are left, which may be lost as well
# what a collective says when another process is gone: gloo, NCCL and torch's own store
TORN = re.compile(r"gloo|NCCL|connection (was )?(closed|reset)|pair closure|broken pipe|timed out|Dist\w+Error", re.I)
ADDRESS = re.compile(r"\[?([0-9a-fA-F.:]{7,})\]?:\d+")


class HeardError(UserError):
    """An error of another process of this training, which has said it itself, or can no longer say anything."""


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes, logs and reports."""
    return rank() == 0


def from_first(make: Callable[[], bytes]) -> bytes:
    """What ``make`` gives in the first process; the others do not call it.

    Raises:
        Exception: what ``make`` raises. HeardError: the same, in the other processes.
    """
    if count() == 1:
        return make()
    error, message = None, b""
    if is_first():
        try:
            message = b"+" + make()
        except Exception as raised:
            error, message = raised, b"-" + _record_of(raised)
    received = _broadcast(message)
    if error is not None:
        raise error
    if received[:1] == b"-":
        raise _heard(received[1:])
    return received[1:]


def tensors_from_first(tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The tensors of the first process, by name; what the others give is not looked at."""
    if count() == 1:
        return dict(tensors or {})
    return load(from_first(lambda: save({name: value.contiguous() for name, value in (tensors or {}).items()})))


def together(work: Callable[[], T]) -> T:
    """Do the same work in every process; an error in one of them ends it in all.

    Raises:
        Exception: what ``work`` raises here. HeardError: what it has raised in the first process in which it failed.
    """
    if count() == 1:
        return work()
    try:
        result = work()
    except Exception as error:
        number, record = _first_failure(_record_of(error))
        if number == rank() or not isinstance(error, UserError):
            raise
        raise _heard(record) from error
    _, record = _first_failure(b"")
    if record:
        raise _heard(record)
    return result


def _first_failure(own: bytes) -> tuple[int, bytes]:
    """The number and the error of the first process that has one; asked in all of them."""
    return next(((number, record) for number, record in enumerate(_gather(own)) if record), (-1, b""))


@contextmanager
def heard_by_all() -> Iterator[None]:
    """An error in one process ends the others with its words, not with those of a torn connection.

    Raises:
        HeardError: another process failed or was lost.
    """
    try:
        yield
    except HeardError:
        raise
    except Exception as error:
        if count() == 1:
            raise
        if isinstance(error, RuntimeError) and TORN.search(f"{type(error).__name__} {error}"):
            raise _what_happened(str(error)) from error
        _leave_word(_record_of(error))
        raise


def _what_happened(torn: str) -> HeardError:
    """What another process has left as its last word; without one, that it is lost."""
    with suppress(Exception):  # the node with the store is gone: there is no word
        store = _store()
        if store.check([_word()]):
            return _heard(store.get(_word()))
    found = ADDRESS.search(torn)
    return HeardError(
        "another process of this training was lost: it ended without a word, or its machine cannot be reached",
        f"machine {found[1]}" if found else "",
        "start the same command on all machines again, with --run RUN --resume: it goes on from the last checkpoint",
    )


def _leave_word(record: bytes) -> None:
    with suppress(Exception):  # without it, the others say that a process was lost
        store = _store()
        if not store.check([_word()]):
            store.set(_word(), record.decode("ascii"))


def _word() -> str:
    return f"flawmap/error/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _store() -> Any:
    """A connection to torch's TCPStore, through which the processes have met."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]  (not in every build of torch)

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=STORE_TIMEOUT)


def _record_of(error: BaseException) -> bytes:
    """An error as JSON in ASCII, with the process that raised it."""
    who = f"process {rank()} on {socket.gethostname()}"
    if isinstance(error, UserError):
        place = f"{error.place} ({who})" if error.place else who
        record = {"problem": error.problem, "place": place, "remedy": error.remedy}
    else:
        problem = f"a process of this training failed: {type(error).__name__}: {str(error)[:500]}"
        record = {"problem": problem, "place": who, "remedy": "see what that process has printed"}
    return json.dumps(record).encode("ascii")


def _heard(record: bytes) -> HeardError:
    return HeardError(**json.loads(record))


def _device() -> torch.device:
    """Where messages have to be: NCCL sends between its devices only."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _as_tensor(message: bytes) -> Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8).to(_device())


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().numpy().tobytes()


def _broadcast(message: bytes) -> bytes:
    """The first process's message, of one byte at least."""
    length = torch.tensor(len(message), device=_device())
    dist.broadcast(length, 0)
    content = _as_tensor(message) if is_first() else torch.empty(int(length), dtype=torch.uint8, device=_device())
    dist.broadcast(content, 0)
    return _as_bytes(content)


def _gather(message: bytes) -> list[bytes]:
    """Each process's message, in order of rank; may be empty."""
    own = torch.tensor(len(message), device=_device())
    lengths = [torch.empty_like(own) for _ in range(count())]
    dist.all_gather(lengths, own)
    longest = max(1, *(int(length) for length in lengths))
    padded = _as_tensor(message.ljust(longest, b" "))
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    return [_as_bytes(row)[: int(length)] for row, length in zip(gathered, lengths, strict=True)]

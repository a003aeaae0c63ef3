"""What makes a run repeatable: hashes that stay, generators that depend on names, files that are whole or absent."""

import hashlib
import json
import math
import os
import platform
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import numpy as np

import flawmap

_PACKAGES = ("numpy", "pillow", "torch", "torchvision", "timm", "lightning", "opencv-python-headless")


def stable_hash(value: object) -> str:
    """SHA-256, as 64 hex digits, of the canonical JSON of ``value``; the same in every process and on every machine.

    Args:
        value: dataclasses, mappings with text keys, sequences, sets, paths, text, numbers (NumPy's too), bool, None.
            Equal numbers hash alike (1 and 1.0), a path hashes as its text with forward slashes, a tuple as a list,
            a dataclass as the mapping of its fields.

    Raises:
        TypeError: for anything else. ValueError: for a number that is not finite.
    """
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: object) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"cannot hash {value}: it is not a finite number")
        return int(value) if value.is_integer() else value  # 1.0 == 1; others print their shortest exact digits
    if isinstance(value, PurePath):
        return value.as_posix()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _canonical(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("cannot hash a mapping whose keys are not all text")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((_canonical(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_canonical(item) for item in value]
    raise TypeError(f"cannot hash a {type(value).__name__}")


def numpy_generator(seed: int, *key: int | str) -> np.random.Generator:
    """A generator that depends on ``seed`` and ``key`` alone, not on the process or on what was drawn before.

    Args:
        seed: of the run.
        key: what the numbers are for, e.g. ``numpy_generator(seed, "simulation", step, index)``. Other keys give
            independent streams; 1 and "1" are different keys.
    """
    digest = bytes.fromhex(stable_hash(["flawmap", seed, *key]))
    words = np.frombuffer(digest, dtype="<u4").tolist()  # little-endian everywhere
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def environment(device: str = "cpu") -> dict[str, str | int | None]:
    """Where a run happens, for ``environment.json``: versions, processor, cores, device, git commit.

    Args:
        device: as torch names it: "cpu", "cuda", "cuda:1", "mps".

    Returns:
        JSON-ready values; None for a package that is not installed, or a commit where there is no repository.
        ``git_commit`` is that of flawmap's own code, with "-dirty" when tracked files have changed.
    """
    return {
        "python": platform.python_version(),
        "flawmap": flawmap.__version__,
        **{name: _package_version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "device": device,
        "device_name": _device_name(device),
        "git_commit": _git_commit(),
    }


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _device_name(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)


def _git_commit() -> str | None:
    code = Path(__file__).parent
    if not any((folder / ".git").exists() for folder in code.parents[:2]):
        return None  # installed; a repository further up is somebody else's
    command = ["git", "-C", str(code), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """A file name in the same folder, whose file replaces ``path`` when the block ends.

    A reader, or a crash, sees the old file or the new one, never a part. The new one is removed where the block raises.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")  # same folder: a rename, not a copy
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as :func:`written_beside` says."""
    with written_beside(path) as beside, open(beside, "xb") as file:
        file.write(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """As :func:`atomic_write_bytes`, in UTF-8, with line ends as they are in ``text`` on every system."""
    atomic_write_bytes(path, text.encode("utf-8"))


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

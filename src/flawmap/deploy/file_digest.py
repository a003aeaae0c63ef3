"""The SHA-256 that an exported file carries of itself and of the files beside it: all of graph, weights and facts.

A file cannot hold the hash of all of its bytes, so zeros count in place of the 64 digits. Nothing but hashlib is needed
to compare, on a machine that cannot take a graph apart.
"""

import hashlib
import mmap
import zipfile
from pathlib import Path

from flawmap.detect.model_facts import METADATA_KEY, ModelFacts
from flawmap.errors import UserError
from flawmap.reproducibility import file_sha256

UNKNOWN = "0" * 64  # in place of the digest while it is computed
COPY_OR_EXPORT_AGAIN = "copy it again, or export it again: flawmap export RUN"
CHUNK = 1 << 20  # bytes that are read at once
# torch hashes a TorchScript file's parts into this one, with the facts that hold our digest among them
TORCH_HASH = ".data/serialization_id"


def files_sha256(path: Path) -> dict[str, str]:
    """What the file's facts must carry, of a file whose facts carry :data:`UNKNOWN` for itself.

    Args:
        path: of the exported file, alone in its folder with the files that belong to it.

    Returns:
        SHA-256 by the ending after the file's stem: of ``.xml`` and ``.bin``, for example.
    """
    beside = sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)
    others = {file.name.removeprefix(path.stem): file_sha256(file) for file in beside}
    return {path.suffix: _own_sha256(path, UNKNOWN), **others}


def refuse_changed_file(path: Path, facts: ModelFacts) -> None:
    """Compare a file, and those beside it, with what its facts carry; a file of an earlier flawmap carries nothing.

    Raises:
        UserError: it is not what was exported. One flipped bit can move every score.
    """
    for ending, expected in (facts.files_sha256 or {}).items():
        file = path.with_name(path.stem + ending)
        found = _own_sha256(file, expected) if file == path else file_sha256(file)
        if found != expected:
            problem = f"the file is not what was exported: SHA-256 {found[:16]}... instead of {expected[:16]}..."
            raise UserError(problem, str(file), COPY_OR_EXPORT_AGAIN)


def _own_sha256(path: Path, carried: str) -> str:
    """SHA-256 of a file in which zeros count in place of the digest that it carries."""
    if path.suffix == ".torchscript":
        return _parts_sha256(path, carried)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(carried.encode("ascii"))
        if start < 0:
            return file_sha256(path)
        with memoryview(content) as view, view[:start] as head, view[start + len(carried) :] as tail:
            digest = hashlib.sha256(head)
            digest.update(UNKNOWN.encode("ascii"))
            digest.update(tail)
    return digest.hexdigest()


def _parts_sha256(path: Path, carried: str) -> str:
    """The same of a zip file, over the names and contents of its parts: it also holds checksums of them."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.filename.endswith(TORCH_HASH):
                continue
            digest.update(f"{part.filename}\0{part.file_size}\0".encode())
            with archive.open(part) as file:
                if part.filename.endswith(f"/{METADATA_KEY}"):
                    digest.update(file.read().replace(carried.encode("ascii"), UNKNOWN.encode("ascii")))
                else:
                    while chunk := file.read(CHUNK):
                        digest.update(chunk)
    return digest.hexdigest()

"""A model as bytes, which travel to each node once."""

import io
import tarfile
from pathlib import Path

from flawmap import __version__
from flawmap.errors import UserError
from flawmap.runs.model_folder import home_of, model_folder


def packed(path: Path) -> bytes:
    """A run's current model, a model folder or an exported file, as an uncompressed archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if path.is_file():
            for file in dict.fromkeys((path, path.with_suffix(".bin") if path.suffix == ".xml" else path)):
                archive.add(file, file.name)
        else:
            folder = model_folder(path)
            archive.add(folder, home_of(folder).resolve().name)
    return buffer.getvalue()


def unpacked(content: bytes, folder: Path) -> Path:
    """The path of the model that :func:`packed` was given, now in ``folder``, which is empty."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        first = archive.getnames()[0]
        archive.extractall(folder, filter="data")
    return folder / first


def refuse_other_version(version: str) -> None:
    """Raises: UserError: this node has another flawmap than the machine with the command, whose ``version`` this is."""
    if version != __version__:
        problem = f"a node of the cluster has flawmap {__version__}, and this machine {version}"
        raise UserError(problem, "", "install the same on all of them")

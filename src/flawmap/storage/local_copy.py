"""Copies of what lies in a store, in a cache of bounded size: files that have not changed are not copied again."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_text
from flawmap.storage.address import explained, is_address, opened, scheme_of
from flawmap.storage.remote_file import RemoteFile, files_at, is_file, nothing_at
from flawmap.storage.upload import MARKER, refuse_incomplete

CACHE_VARIABLE, CACHE_GB = "FLAWMAP_CACHE_GB", 20.0
IN_USE_S = 24 * 3600.0  # a copy that was asked for so recently may be in use, and is not removed
FILES_AT_ONCE = 100  # after each such part the index is written, so that an interruption loses one part
INDEX = "index.json"  # beside a copy: what the store said of each file when it was copied


def local_copy(address: str, of_model: bool = False) -> Path:
    """The local path of a copy of a file or folder in a store; ``file://`` is the file itself.

    Of a ``manifest.csv``, the folder around it is copied; of another file, those beside it of the same stem, such as
    the threshold of an exported file.

    Args:
        address: of the file or folder.
        of_model: a folder must be a run or model that was uploaded completely.

    Raises:
        UserError: there is nothing, it is not complete, the store does not answer, or the cache has no room.
    """
    from filelock import FileLock  # here, because few commands need it

    if scheme_of(address) == "file":
        return Path("/" + opened(address)[1].lstrip("/"))
    address = address.rstrip("/")
    found = files_at(address)
    if not found:
        raise nothing_at(address)
    home, wanted = address, ""
    if is_file(address, found):
        home, _, wanted = address.rpartition("/")
        beside = files_at(home)
        stem = wanted.rpartition(".")[0]
        found = beside if wanted.endswith(".csv") else [one for one in beside if one.name.startswith(f"{stem}.")]
    elif of_model:
        refuse_incomplete(address, found)
    place = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16]
    copy = place / home.rpartition("/")[2]
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        (place / INDEX).touch()
        _make_room(place, sum(file.size for file in found), address)
        _update(place / INDEX, copy, found, address)
    return copy / wanted if wanted else copy


def path_of_model(place: str | Path) -> Path:
    """The local path of a run, a model folder or an exported file that is here or in a store.

    Raises:
        UserError: as :func:`local_copy`.
    """
    return local_copy(place, of_model=True) if isinstance(place, str) and is_address(place) else Path(place)


def cache_folder() -> Path:
    """Where copies are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flawmap" / "storage"


def _update(index: Path, copy: Path, found: Sequence[RemoteFile], address: str) -> None:
    """Copy what is new or has changed, and remove what is not in the store any more."""
    text = index.read_text(encoding="utf-8")
    known: dict[str, list[object]] = json.loads(text) if text else {}
    now = {file.name: [file.size, file.state] for file in found if file.name != MARKER}
    for name in known.keys() - now.keys():
        (copy / name).unlink(missing_ok=True)
    known = {name: state for name, state in known.items() if now.get(name) == state and (copy / name).is_file()}
    todo = [file for file in found if file.name in now and file.name not in known]
    for start in range(0, len(todo), FILES_AT_ONCE):
        part = todo[start : start + FILES_AT_ONCE]
        for file in part:
            (copy / file.name).parent.mkdir(parents=True, exist_ok=True)
        with explained("the files cannot be copied", address):
            files, _ = opened(address)
            files.get([opened(file.address)[1] for file in part], [str(copy / file.name) for file in part])
        known |= {file.name: now[file.name] for file in part}
        atomic_write_text(index, json.dumps(known))
    atomic_write_text(index, json.dumps(known))


def _make_room(place: Path, needed: int, address: str) -> None:
    """Remove the copies that were asked for longest ago until there is room for one more.

    Raises:
        UserError: the copies that may be in use leave too little room.
    """
    limit = _limit_bytes()
    others = [(other.stat().st_mtime, other.parent) for other in cache_folder().glob(f"*/{INDEX}")]
    sizes = {folder: _size(folder) for _, folder in others if folder != place}
    for used, folder in sorted(others):
        if sum(sizes.values()) + needed > limit and folder in sizes and time.time() - used > IN_USE_S:
            shutil.rmtree(folder, ignore_errors=True)
            del sizes[folder]
    if (together := sum(sizes.values()) + needed) > limit:
        gigabytes = f"{needed / 1e9:.1f} GB are needed, {sum(sizes.values()) / 1e9:.1f} GB are in use"
        problem = f"the cache of copies may hold {limit / 1e9:g} GB: {gigabytes}"
        raise UserError(problem, address, f"export {CACHE_VARIABLE}={together / 1e9 * 1.1:.1f}")


def _limit_bytes() -> float:
    text = os.environ.get(CACHE_VARIABLE, str(CACHE_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(
            f"{CACHE_VARIABLE} is {text!r}, must be a number of gigabytes", "", f"export {CACHE_VARIABLE}=20"
        )
    return limit * 1e9


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

"""Files in a store: found by a folder, a name or a pattern, and read whole, without a copy on a disk."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flawmap.errors import UserError
from flawmap.storage.address import explained, opened, scheme_of

STATE = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "sha256", "LastModified", "mtime", "created")


@dataclass(frozen=True, order=True)
class RemoteFile:
    """A file in a store.

    Attributes:
        address: of the file.
        name: relative to what was looked for, with forward slashes.
        size: in bytes.
        state: changes when the content does, as far as the store tells.
    """

    address: str
    name: str
    size: int
    state: str = ""

    def __str__(self) -> str:
        return self.address

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            UserError: it cannot be read.
        """
        with explained("the file cannot be read", self.address):
            files, path = opened(self.address)
            return files.cat_file(path)


def files_at(address: str) -> tuple[RemoteFile, ...]:
    """The file at an address, all files below it, or the matches of a pattern; sorted, asked for anew each time.

    Returns:
        empty where there is none.

    Raises:
        UserError: the store does not answer; or a name could not be that of a file on a disk.
    """
    with explained("the files cannot be listed", address):
        files, path = opened(address)
        files.invalidate_cache()
        root, infos = path, _found_below(files, path)
        if not infos and (magic := re.search(r"[*?[]", path)):
            root, infos = path[: magic.start()].rpartition("/")[0], files.glob(path, detail=True)
        found = [_described(address, key, root, info or files.info(key)) for key, info in infos.items()]
    listed = tuple(sorted(file for file in found if file is not None))
    for file in listed:
        if {"", ".", ".."} & set(file.name.split("/")) or "\\" in file.name or "\0" in file.name:
            raise UserError("this name cannot be that of a file on a disk", file.address, "rename it in the store")
    return listed


def nothing_at(address: str) -> UserError:
    """The error that says so."""
    return UserError("there is nothing", address, "check the address; the store's own tools list what there is")


def is_file(address: str, found: Sequence[RemoteFile]) -> bool:
    """Whether :func:`files_at` has found the file itself."""
    return len(found) == 1 and found[0].address == address.rstrip("/")


def _found_below(files: Any, path: str) -> dict[str, Any]:
    try:
        return files.find(path, withdirs=False, detail=True)
    except FileNotFoundError:
        return {}


def _described(address: str, key: str, root: str, info: Mapping[str, Any]) -> RemoteFile | None:
    """A file of a listing; None for a folder, or an empty object that stands for one."""
    if info["type"] == "directory" or key.endswith("/"):
        return None
    key, prefix = key.lstrip("/"), root.strip("/") + "/"
    name = key.removeprefix(prefix) if key.startswith(prefix) else key.rpartition("/")[2]
    state = next((f"{name} {info[name]}" for name in STATE if info.get(name)), "")
    return RemoteFile(f"{scheme_of(address)}://{key}", name, int(info["size"] or 0), state)

"""What a command has written on this disk goes to a store when it is finished.

A store has no rename: each object is written whole, and a marker that lists them all goes last. Without it, an upload
is not complete.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap.errors import UserError
from flawmap.plural import plural
from flawmap.storage.address import explained, is_address, opened, scheme_of
from flawmap.storage.remote_file import RemoteFile, files_at

MARKER = "uploaded.json"  # names and sizes of all files of an upload


@dataclass(frozen=True)
class Destination:
    """Where results go: a local path, and the address that they are uploaded to, if any.

    Attributes:
        local: where the command writes.
        address: None where the local path is all.
    """

    local: Path
    address: str | None = None

    @classmethod
    def of(cls, text: str, resume: bool = False, parent: Path = Path()) -> "Destination":
        """From what a person named. Of an address, the local path is its last part, in ``parent``.

        Raises:
            UserError: something is at the address, or at the local path, and nothing is to be resumed.
        """
        if not is_address(text):
            return cls(Path(text))
        address = text.rstrip("/")
        if scheme_of(address) == "file":
            return cls(Path("/" + opened(address)[1].lstrip("/")))
        local = parent / address.rpartition("/")[2]
        if "/" not in opened(address)[1].strip("/"):
            problem = "results need a name of their own in a bucket"
            raise UserError(problem, address, f"for example {address}/results")
        if not resume:
            if local.exists():
                problem = f"results for an address are written to {local} first, and that is there already"
                raise UserError(problem, address, "choose another name, or move it away")
            if files_at(address):
                raise UserError("something is there already", address, "choose another name")
        return cls(local, address)

    def upload(self, path: Path) -> str | None:
        """Upload a folder with all that is in it, or an exported file.

        Returns:
            what was done, in words; None where there is no address.

        Raises:
            UserError: the store does not take it; what is on this disk stays as it is.
        """
        if self.address is None:
            return None
        if path.is_dir():
            files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
            marker, home = f"{self.address}/{MARKER}", self.address
        else:
            weights = path.with_suffix(".bin")  # of OpenVINO
            files = {file.name: file for file in (path, weights) if file == path or path.suffix == ".xml"}
            marker, home = None, self.address.rpartition("/")[0]
        remedy = f"{path} is whole on this disk; repeat with --resume, or upload it by the store's own tool"
        with explained("the results cannot be uploaded", self.address, remedy):
            store, root = opened(home)
            if marker is not None and store.exists(opened(marker)[1]):  # of an earlier upload: now it is not complete
                store.rm_file(opened(marker)[1])
            for name, file in files.items():
                store.put_file(str(file), f"{root}/{name}")
            if marker is not None:
                sizes = {name: file.stat().st_size for name, file in files.items()}
                store.pipe_file(opened(marker)[1], json.dumps({"files": sizes}).encode())
        return f"{plural(len(files), 'file')} -> {self.address}"


def refuse_incomplete(address: str, found: Sequence[RemoteFile]) -> None:
    """Compare a run or a model with the marker of its upload.

    Raises:
        UserError: there is no marker, or files that it lists are missing or of another size.
    """
    sizes = {file.name: file.size for file in found}
    marker = next((file for file in found if file.name == MARKER), None)
    remedy = "upload it again, or wait until its upload has ended"
    if marker is None:
        raise UserError(f"it was not uploaded completely: it has no {MARKER}", address, remedy)
    try:
        listed = json.loads(marker.read_bytes())["files"]
        differing = sorted(name for name, size in listed.items() if sizes.get(name) != size)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"this is no {MARKER} of flawmap", marker.address, remedy) from error
    if differing:
        noun = "file is" if len(differing) == 1 else "files are"
        problem = f"it was not uploaded completely: {len(differing)} {noun} missing or of another size"
        raise UserError(f"{problem}, first: {differing[0]}", address, remedy)

"""Images that are dropped into the page: written into the folder under their own names, and nothing is overwritten."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from flawmap.data.images.formats import HEAD_BYTES, READ_FORMATS, format_of
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.errors import UserError
from flawmap_studio.place import Place

MAX_BYTES = 500_000_000  # of one image
Outcome = Literal["added", "there already"]


async def receive(place: Place, name: str, body: AsyncIterator[bytes]) -> tuple[Path, Outcome]:
    """Write one image file.

    The body goes to a file of the studio first, so that an upload that breaks off leaves nothing among the images.

    Args:
        place: of the studio.
        name: where it goes, relative to the folder.
        body: the file's bytes.

    Returns:
        the file, and whether it is new; a file with the same bytes under that name is left as it is, and one with other
        bytes makes the new one get a number.

    Raises:
        UserError: the name leads outside or is not possible, or the bytes are not those of an image that is read.
    """
    target = place.new(name)
    if any(meaning_of(folder) == "masks" for folder in name.split("/")[:-1]):
        raise UserError("by its folder this is a mask, and no image of a part", name, "leave masks out")
    incoming = place.own / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    unfinished = incoming / secrets.token_hex(8)
    try:
        sha256 = await _written(unfinished, body, name)
        found = format_of(_head(unfinished))
        if found not in READ_FORMATS:
            what = f"{found} is not read" if found else "this is no image"
            raise UserError(f"{what} ({', '.join(READ_FORMATS)} are read)", name, "save it as PNG, or leave it out")
        return _put(place, unfinished, target, sha256)
    finally:
        unfinished.unlink(missing_ok=True)


async def _written(path: Path, body: AsyncIterator[bytes], name: str) -> str:
    size, digest = 0, hashlib.sha256()
    with path.open("xb") as file:
        async for part in body:
            size += len(part)
            if size > MAX_BYTES:
                raise UserError(f"the file is larger than {MAX_BYTES // 1_000_000} MB", name, "copy it into the folder")
            digest.update(part)
            file.write(part)
    if size == 0:
        raise UserError("the file is empty", name, "leave it out")
    return digest.hexdigest()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _put(place: Place, unfinished: Path, target: Path, sha256: str) -> tuple[Path, Outcome]:
    """Give the file its name, or the next free one; a link fails where a name is taken, so nothing is overwritten."""
    target.parent.mkdir(parents=True, exist_ok=True)
    place.new(place.relative(target))  # a folder may have become a link to elsewhere
    candidate, number = target, 2
    while True:
        try:
            _link(unfinished, candidate)
            return candidate, "added"
        except FileExistsError:
            if candidate.is_file() and _sha256(candidate) == sha256:
                return candidate, "there already"
            candidate, number = target.with_name(f"{target.stem}-{number}{target.suffix}"), number + 1


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with target.open("xb") as file:
            file.write(source.read_bytes())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

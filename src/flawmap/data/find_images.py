"""Images that a person names: files, folders and patterns."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap.data.image_list import Shows, is_image_list, read_image_list
from flawmap.data.images.files import IMAGE_SUFFIXES
from flawmap.data.layouts.image_folders import images_in
from flawmap.data.left_out import counted
from flawmap.data.sample import LeftOut
from flawmap.data.similar_name import similar_beside
from flawmap.data.walk import Listing, not_meant, without_companions
from flawmap.errors import UserError
from flawmap.storage.address import is_address
from flawmap.storage.remote_file import RemoteFile, files_at, is_file


@dataclass(frozen=True)
class FoundImages:
    """Images to judge.

    Attributes:
        listing: of the images, and of what was passed over.
        shows: what lists say of some of them.
    """

    listing: Listing[Path | RemoteFile]
    shows: Mapping[Path | RemoteFile, Shows]


def find_images(patterns: Sequence[str]) -> Listing[Path]:
    """Files, the images in folders and below them, and the matches of patterns; each file once, in the order given.

    A file that is named is an image, whatever it is; in a folder, what is none is passed over with a reason.

    Raises:
        UserError: nothing was found for one of the patterns.
    """
    images: dict[Path, None] = {}
    left_out: tuple[LeftOut, ...] = ()
    for pattern in patterns:
        path, found = Path(pattern), Listing[Path]()
        if path.is_dir():
            found = images_in(path)
        elif path.is_file():
            found = Listing((path,))
        else:
            matches = map(Path, sorted(glob.glob(pattern, recursive=True)))
            found = Listing(tuple(match for match in matches if match.is_file()))
        if not found.images:
            beside = f" ({counted(found.left_out)})" if found.left_out else ""
            is_missing = not path.exists() and not glob.has_magic(pattern)
            near = similar_beside(path) if is_missing else None
            hint = f"; {near} exists" if near else ""
            remedy = f"give files, folders or patterns (you are in {Path.cwd()}{hint})"
            problem = "there is no such file or folder" if is_missing else f"no images there{beside}"
            raise UserError(problem, pattern, remedy)
        images.update(dict.fromkeys(found.images))
        left_out += found.left_out
    return Listing(tuple(images), left_out)


def find_images_anywhere(patterns: Sequence[str]) -> FoundImages:
    """As :func:`find_images`, also in lists (a CSV file) and in stores: a folder, a file or a pattern at an address.

    A file in a store is judged by its name alone. Names of what is passed over are relative to what was named.

    Raises:
        UserError: as :func:`find_images` and :func:`read_image_list`, or a store does not answer.
    """
    images: dict[Path | RemoteFile, None] = {}
    left_out: tuple[LeftOut, ...] = ()
    shows: dict[Path | RemoteFile, Shows] = {}
    for pattern in patterns:
        if not is_address(pattern) and is_image_list(Path(pattern)) and Path(pattern).is_file():
            listed = read_image_list(Path(pattern))
            for image, shown in listed.items():
                if shows.setdefault(image, shown) != shown:
                    problem = f"{image} has another product or camera in an earlier list"
                    raise UserError(problem, pattern, "name each image in one list")
            images.update(dict.fromkeys(listed))
            continue
        found = _images_in_store(pattern) if is_address(pattern) else find_images([pattern])
        images.update(dict.fromkeys(found.images))
        left_out += found.left_out
    return FoundImages(Listing(tuple(images), left_out), shows)


def _images_in_store(address: str) -> Listing[RemoteFile]:
    files = files_at(address)
    if is_file(address, files):
        return Listing(files)
    by_path = {
        Path(file.name): file for file in files if not any(part.startswith(".") for part in file.name.split("/"))
    }
    images, left_out = [], []
    for path in by_path:
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        reason = not_meant(path)
        if reason is None and not is_image:
            reason = LeftOut(path, "by its name no image", path.suffix.lower() or "file without extension")
        (images if reason is None else left_out).append(path if reason is None else reason)
    listing = without_companions(Listing(tuple(images), tuple(left_out)))
    if not listing.images:
        beside = f" ({counted(listing.left_out)})" if listing.left_out else ""
        raise UserError(
            f"no images there{beside}", address, "check the address; the store's own tools list what there is"
        )
    return Listing(tuple(by_path[path] for path in listing.images), listing.left_out)


def names_several(name: str | Path) -> bool:
    """Whether a name is that of a folder, or a pattern such as ``new/*.png`` that is no file's name."""
    path = Path(name)
    return path.is_dir() or (glob.has_magic(str(name)) and not path.exists())

"""Images that a person names: files, folders and patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from flawmap.data.layouts.image_folders import images_in
from flawmap.data.left_out import counted
from flawmap.data.sample import LeftOut
from flawmap.data.walk import Listing
from flawmap.errors import UserError


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
            remedy = f"give files, folders or patterns (you are in {Path.cwd()})"
            raise UserError(f"no images there{beside}", pattern, remedy)
        images.update(dict.fromkeys(found.images))
        left_out += found.left_out
    return Listing(tuple(images), left_out)


def names_several(name: str | Path) -> bool:
    """Whether a name is that of a folder, or a pattern such as ``new/*.png`` that is no file's name."""
    path = Path(name)
    return path.is_dir() or (glob.has_magic(str(name)) and not path.exists())

"""Names of files and folders that are made of a user's: Windows can have them, too, and no file system finds them long.

Results are copied to Windows and written to its shares, and an image or a data set on Linux may be called anything.
"""

import re
from pathlib import PurePath

from flawmap.data.device_names import is_device_name

MAX_LENGTH = 48  # characters; with four bytes each, and what is put around them, fewer than 255 bytes
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def possible_name(text: str) -> str:
    """A name that a file or folder can have on any system; the same text where it is one.

    >>> possible_name("lot 7: top?"), possible_name("aux.2024"), possible_name("end. "), possible_name("..")
    ('lot 7_ top_', '_aux.2024', 'end', '_')
    """
    name = _FORBIDDEN.sub("_", text)[:MAX_LENGTH].rstrip(". ")
    return f"_{name}"[:MAX_LENGTH] if not name or is_device_name(name) else name


def numbered_name(number: int, image: PurePath) -> str:
    """What files about an image are called, without their extensions, such as ``0003_part``."""
    return f"{number:04d}_{possible_name(image.stem)}"

"""Names of products and cameras: each becomes a part of a file's name, on any system."""

import re
import unicodedata

from flawmap.data.device_names import is_device_name

MAX_NAME_LENGTH = 64
NAME = rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 2}}}[A-Za-z0-9_-])?"
DEFAULT = "default"  # how the threshold without a camera is called


def is_part_name(name: str) -> bool:
    """Whether a file on any system can be named after the product or camera."""
    return bool(re.fullmatch(NAME, name)) and not is_device_name(name) and name.lower() != DEFAULT


def wrong_with(name: str) -> str:
    """Why a product or camera cannot have a name that is none, as the end of a sentence."""
    if name.lower() == DEFAULT:
        return ", which is the threshold without --camera"
    if is_device_name(name):
        return ", which Windows keeps for a device"
    return f": names have 1 to {MAX_NAME_LENGTH} letters A to Z, digits and - _ . between them"


def usable_name(name: str, kind: str) -> str:
    """A similar name that a file can have; one made of ``kind``, product or camera, where nothing of it can stay."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[: MAX_NAME_LENGTH - 8].strip("-._")
    if not plain or is_device_name(plain) or plain.lower() == DEFAULT:
        plain = f"{kind}-{plain.partition('.')[0] or 1}"
    return plain

"""A part of a data set by its groups: ``nih:sex=M`` or ``elpv:cell=poly``, for training and test alike.

A group is a property that is known of every image, normal or not (sex, view, cell type): it says nothing of a defect.
"""

from collections.abc import Mapping
from pathlib import Path

from flawmap.errors import UserError

Groups = Mapping[str, str]
EVERYTHING: Groups = {}


def split_location(location: str | Path) -> tuple[str, dict[str, str]]:
    """The data location, and the groups that it is restricted to.

    Args:
        location: a path or name, with ``:NAME=VALUE,NAME=VALUE`` behind it or not. What exists as a path is one.

    Raises:
        UserError: a restriction without name or value.
    """
    text = str(location)
    place, colon, pairs = text.rpartition(":")
    if not colon or "=" not in pairs or Path(text).exists():
        return text, {}
    only = {}
    for pair in pairs.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if not name or not value:
            raise UserError(f"{pair!r} restricts nothing", text, "write :NAME=VALUE, for example nih:sex=M,view=PA")
        only[name] = value
    return place, only


def is_chosen(groups: Groups, only: Groups) -> bool:
    """Whether an image of these groups is in the part."""
    return all(groups.get(name) == value for name, value in only.items())

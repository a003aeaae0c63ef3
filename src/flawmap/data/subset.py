"""Part of a data set by its strata: ``nih:sex=M`` or ``elpv:cell=poly``, for training and test alike.

A stratum is a property known for every image, normal or not (sex, view, cell type), so it says nothing about defects.
"""

from collections.abc import Mapping
from pathlib import Path

from flawmap.errors import UserError

Strata = Mapping[str, str]


def split_location(location: str | Path) -> tuple[str, dict[str, str]]:
    """Split a data location into its path or name and the strata that it is restricted to.

    Args:
        location: with or without ``:NAME=VALUE,NAME=VALUE`` at its end; an existing path is never split.

    Raises:
        UserError: a restriction without a name or value.
    """
    text = str(location)
    place, colon, pairs = text.rpartition(":")
    is_drive = len(place) == 1 and place.isalpha()  # C:\x=1, on Windows
    if not colon or "=" not in pairs or is_drive or Path(text).exists():
        return text, {}
    only = {}
    for pair in pairs.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if not name or not value:
            remedy = "write :NAME=VALUE, for example nih:sex=M,view=PA"
            raise UserError(f"{pair!r} has no name or no value", text, remedy)
        only[name] = value
    return place, only


def is_chosen(strata: Strata, only: Strata) -> bool:
    """Whether an image with these strata belongs to the part."""
    return all(strata.get(name) == value for name, value in only.items())

"""Remarks on files as lines for people: the same remark on many files is one line."""

import re
from collections.abc import Iterable

from flawmap.data.sample import FileRemark

SHOWN = 3  # files of a line that are named
_NUMBER = re.compile(r"\d+([.,]\d+)*(e[+-]?\d+)?")


def remark_lines(remarks: Iterable[FileRemark]) -> list[str]:
    """A line for each remark, in order of its first file.

    Remarks that differ in numbers alone count as the same: the line has the numbers of the first file, and names it,
    some of the others, and how many there are.
    """
    groups: dict[str, list[FileRemark]] = {}
    for remark in remarks:
        groups.setdefault(_NUMBER.sub("0", remark.text), []).append(remark)
    return [_line(group) for group in groups.values()]


def _line(group: list[FileRemark]) -> str:
    first, *others = group
    folder = first.key[: first.key.rfind("/") + 1]  # named once
    named = [other.key.removeprefix(folder) for other in others[: SHOWN - 1]]
    more = f" and {len(others) - len(named)} more" if len(others) > len(named) else ""
    likewise = f" (likewise {', '.join(named)}{more})" if others else ""
    return f"{first.key}: {first.text}{likewise}"

"""What a walk passed over, in words: a list for people, a count for the last line, and a refusal for ``--strict``."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flawmap.data.sample import LeftOut, SkippedFile
from flawmap.errors import UserError

MOST_NAMED = 5  # files of one kind in a list for people; --json has all


def counted(left_out: Sequence[LeftOut]) -> str:
    """``3 left out (2 .gif, 1 recycle bin)``; empty without any."""
    if not left_out:
        return ""
    kinds = Counter(item.kind for item in left_out)
    shown = ", ".join(f"{number} {_plural(kind) if number > 1 else kind}" for kind, number in kinds.most_common())
    return f"{len(left_out)} left out ({shown})"


def lines(left_out: Iterable[LeftOut], root: Path | None = None) -> list[str]:
    """One line for each file or folder, and one for those of a kind beyond the first five.

    Args:
        left_out: what was passed over.
        root: names are relative to it where they lie in it.
    """
    by_reason: defaultdict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    for item in left_out:
        by_reason[item.kind, item.reason].append(item)
    found = []
    for (kind, reason), items in by_reason.items():
        found += [f"{_name(item.path, root)}: {reason}" for item in items[:MOST_NAMED]]
        if (more := len(items) - MOST_NAMED) > 0:
            found.append(f"and {more} more {_plural(kind) if more > 1 else kind}: {reason}")
    return found


def as_records(left_out: Iterable[LeftOut]) -> list[dict[str, str]]:
    """For JSON."""
    return [{"path": str(item.path), "reason": item.reason, "kind": item.kind} for item in left_out]


def from_records(records: Iterable[Mapping[str, str]]) -> tuple[LeftOut, ...]:
    """What :func:`as_records` was made of."""
    return tuple(LeftOut(Path(record["path"]), record["reason"], record["kind"]) for record in records)


def unreadable(skipped: Iterable[SkippedFile]) -> tuple[LeftOut, ...]:
    """Images that could not be decoded, as files that are left out; their paths are their keys."""
    return tuple(LeftOut(Path(file.key), file.reason, "unreadable file") for file in skipped)


def refuse_left_out(left_out: Sequence[LeftOut], place: str) -> None:
    """What ``--strict`` does.

    Raises:
        UserError: anything was left out.
    """
    if not left_out:
        return
    named = "; ".join(lines(left_out)[:MOST_NAMED])
    raise UserError(f"{counted(left_out)}: {named}", place, "move them to another folder, or leave out --strict")


def _name(path: Path, root: Path | None) -> str:
    shown = path if root is None or path == root or not path.is_relative_to(root) else path.relative_to(root)
    return shown.as_posix() + ("/" if path.is_dir() else "")


def _plural(kind: str) -> str:
    """``files without extension`` of ``file without extension``; extensions such as ``.gif`` stay."""
    if kind.startswith(".") or kind.endswith("s"):
        return kind
    noun, space, rest = re.sub(r" (without|of|that) ", r"\n\1 ", kind, count=1).partition("\n")
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{plural} {rest}" if space else plural

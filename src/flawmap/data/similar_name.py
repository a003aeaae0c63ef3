"""What a mistyped path may have meant."""

from difflib import get_close_matches
from pathlib import Path

from flawmap.data.walk import entries_of
from flawmap.errors import UserError


def similar_beside(path: Path) -> Path | None:
    """What lies beside a path that does not exist and has the most similar name; None where nothing is similar.

    >>> similar_beside(Path("nowhere/at/all")) is None
    True
    """
    try:
        names = [entry.name for entry in entries_of(path.parent)] if path.parent.is_dir() else []
    except UserError:  # a hint only: a folder that cannot be read has none
        return None
    similar = get_close_matches(path.name, names, n=1, cutoff=0.6)
    similar = similar or [name for name in names if name.startswith(f"{path.name} ")]  # without its quotes
    return path.parent / similar[0] if similar else None

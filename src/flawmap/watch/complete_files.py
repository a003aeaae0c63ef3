"""Which files are completely written: size and time have stayed as they are for a while.

Nothing else can be known of a file on a network share, and a camera or an FTP server that writes slowly looks the same
everywhere. The clock is ours, because that of a share may be wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileState:
    """A file as a folder shows it.

    Attributes:
        path: as it was found.
        size_bytes: of its content.
        time_ns: when it was changed, nanoseconds since 1970.
        left_out: why it is no image; None for an image.
    """

    path: Path
    size_bytes: int
    time_ns: int
    left_out: str | None = None


@dataclass(frozen=True)
class CompleteFile:
    """A file that is completely written.

    Attributes:
        state: of the file.
        seen_s: when it was first seen in this state, by the clock of the one who looks.
    """

    state: FileState
    seen_s: float


class CompleteFiles:
    """Follows the files of a folder from look to look, and gives each out once in each of its states.

    Args:
        settle_s: how long a file must stay as it is.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, CompleteFile] = {}
        self._given: dict[Path, FileState] = {}

    def look(self, states: Iterable[FileState], now_s: float) -> list[CompleteFile]:
        """Take in what is there now.

        Args:
            states: all files that are there.
            now_s: of a clock that only goes forwards.

        Returns:
            files that are complete now and were not given out before, oldest first.
        """
        before, self._seen = self._seen, {}
        given, self._given = self._given, {}
        complete = []
        for state in states:
            if given.get(state.path) == state:
                self._given[state.path] = state
                continue
            seen = before.get(state.path)
            if seen is None or seen.state != state:
                seen = CompleteFile(state, now_s)
            if now_s - seen.seen_s >= self._settle_s:
                self._given[state.path] = state
                complete.append(seen)
            else:
                self._seen[state.path] = seen
        return sorted(complete, key=lambda file: (file.state.time_ns, file.state.path))

    def n_settling(self, seen_until_s: float = float("inf")) -> int:
        """Files that are not known to be complete yet, of those that were first seen until then."""
        return sum(file.seen_s <= seen_until_s for file in self._seen.values())

    def give_again(self, state: FileState) -> None:
        """A file could not be dealt with: give it out again after it has settled once more."""
        self._given.pop(state.path, None)

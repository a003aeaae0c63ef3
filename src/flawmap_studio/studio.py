"""The parts of one studio, and the lock that keeps a second one out of the same folder."""

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from flawmap.errors import UserError
from flawmap_studio.image_list import ImageList
from flawmap_studio.jobs import Jobs
from flawmap_studio.pictures import Pictures
from flawmap_studio.place import Place
from flawmap_studio.state import State


class Studio:
    """A folder with its images, state, pictures and jobs; use it in a ``with`` block.

    Raises:
        UserError: another studio works in the folder, it cannot be written, or its state is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        try:
            self.place.own.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problem = f"the studio cannot write into this folder: {error.strerror}"
            raise UserError(problem, str(folder), "choose a folder that is yours") from error
        self._lock = FileLock(self.place.own / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            problem = "another studio works in this folder"
            raise UserError(problem, str(folder), "use the address that it printed, or stop it with Ctrl-C") from None
        self.state = State(self.place.own / "state.sqlite")
        self.images = ImageList(self.place, self.state)
        self.pictures = Pictures(self.place)
        self.jobs = Jobs(self.place, self.state)

    def __enter__(self) -> "Studio":
        self.images.scan()
        self.pictures.prune()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.state.close()
        self._lock.release()

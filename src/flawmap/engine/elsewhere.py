"""Work that divides into tasks, done in this process or in others, which may be on other machines."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flawmap.data.images.files import ImageReader, read_image

Work = Callable[[Any, ImageReader], Any]  # from a task, and from what reads images of this machine, to its result
# Gives the number of each task with its result, as they are done. All of them can be pickled. Tasks of lost processes
# are done again, and few results are held at once.
Elsewhere = Callable[[Work, Sequence[Any]], Iterator[tuple[int, Any]]]


def here(work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """One task after another, in this process."""
    for number, task in enumerate(tasks):
        yield number, work(task, read_image)

"""Work on images in several threads, with the results in the order of the images and bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

PIXELS_PER_THREAD = 25_000_000  # in flight: an image of 5000 x 5000 px for each thread, and one more
PIXELS_PER_BATCH = 64_000_000  # of the images as they are on disk

T = TypeVar("T")
R = TypeVar("R")


class PixelBudget:
    """Bounds the pixels that are worked on at once; the first item without a result never waits.

    So an item that is too large for the budget is still worked on, and no item waits for one behind it. At most the
    budget and one item more are in use.

    Args:
        limit: pixels.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._changed = limit, Condition()
        self._taken: dict[int, int] = {}  # pixels by number of the item
        self._first, self._is_cancelled = 0, False

    @property
    def in_use(self) -> int:
        """Pixels that are taken."""
        return sum(self._taken.values())

    def take(self, number: int, pixels: int) -> None:
        """Wait until an item's pixels fit in.

        Args:
            number: of the item, counted from 0.
            pixels: of the item.

        Raises:
            CancelledError: nobody wants the result any more.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_cancelled or number == self._first or self.in_use + pixels <= self._limit
            )
            if self._is_cancelled:
                raise CancelledError
            self._taken[number] = pixels

    def give_back(self, number: int) -> None:
        """Give back the pixels of the first item; the one behind it is now the first."""
        with self._changed:
            self._taken.pop(number, None)
            self._first = number + 1
            self._changed.notify_all()

    def cancel(self) -> None:
        """Let all who wait go."""
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()


def in_order(
    work: Callable[[int, T], R], items: Sequence[T], threads: int, budget: PixelBudget
) -> Generator[R, None, None]:
    """``work(number, item)`` for each item, in several threads; the results come in the order of the items.

    At most twice as many items as there are threads are begun before the first of them has been taken over by the
    caller. When the caller stops, what has begun is finished and dropped.

    Args:
        work: calls ``budget.take`` before it needs much memory; its pixels are given back when the caller comes for
            the next result.
        items: what to work on.
        threads: at least 1.
        budget: of this call alone.

    Raises:
        BaseException: what ``work`` raised, in the place of the item's result.
    """
    pool = ThreadPoolExecutor(threads, "flawmap-images")
    begun: deque[Future[R]] = deque()
    try:
        for number in range(len(items)):
            for following in range(number + len(begun), min(len(items), number + 2 * threads)):
                begun.append(pool.submit(work, following, items[following]))
            yield begun.popleft().result()
            budget.give_back(number)
    finally:
        budget.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def batches_of(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in their order, so many in each batch but the last."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def fewer_if_large(size: int, pixels: int) -> int:
    """The size of a batch, made smaller where images of so many pixels, with their maps, would fill the memory."""
    return max(1, min(size, PIXELS_PER_BATCH // max(1, pixels)))

"""How fast images are judged, and how far behind: for the line that is printed now and then."""

from collections import deque

WINDOW_S = 60.0


class Rate:
    """Images of the last minute.

    Args:
        start_s: of the watch, by the same clock as the others.
    """

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._last: deque[tuple[float, float]] = deque()  # when an image was done, and how long after it was seen

    def add(self, seen_s: float, done_s: float) -> None:
        """An image that was first seen and was done at these times."""
        self._last.append((done_s, done_s - seen_s))
        self._forget(done_s)

    def _forget(self, now_s: float) -> None:
        while self._last and self._last[0][0] < now_s - WINDOW_S:
            self._last.popleft()

    def words(self, now_s: float) -> str:
        """``5.0 images/s, lag 1.2 s``: the lag is the mean time from the first sight of an image to its verdict."""
        self._forget(now_s)
        span_s = max(1e-3, min(WINDOW_S, now_s - self._start_s))
        rate = f"{len(self._last) / span_s:.1f} images/s"
        return f"{rate}, lag {sum(lag for _, lag in self._last) / len(self._last):.1f} s" if self._last else rate

"""How long to wait before the next try."""

import random

FIRST_S, MOST_S = 1.0, 60.0


class Backoff:
    """Waits that double up to a minute, each shortened by chance, so that many clients do not come back at once.

    Args:
        generator: of the chance.

    Attributes:
        n_failures: since the last success.
    """

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self.n_failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure: between half of the doubled wait and all of it."""
        wait_s = min(MOST_S, FIRST_S * 2.0 ** min(self.n_failures, 30))
        self.n_failures += 1
        return wait_s * self._generator.uniform(0.5, 1.0)

    def succeed(self) -> None:
        """Begin again with the first wait."""
        self.n_failures = 0

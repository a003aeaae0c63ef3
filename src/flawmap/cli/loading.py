"""Loading modules and weights, which nobody will ever throw away, without looking for garbage among them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Python's collector rests while a model is loaded, and never looks at what was loaded.

    It would go through the objects of torch's modules again and again, also when the process ends; that takes a third
    of the time of loading a run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if gc.get_freeze_count() == 0:  # a caller that loads many models may throw them away
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()

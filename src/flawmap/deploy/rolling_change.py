"""A running server takes the place of its model by that on disk, once that is complete and passes its self-test."""

import threading
import time
from collections.abc import Callable

from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.model_health import ModelHealth
from flawmap.deploy.opened_model import OpenedModel
from flawmap.deploy.work_queue import WorkQueue
from flawmap.engine.progress import say
from flawmap.errors import UserError

LOOK_EVERY_S = 2.0  # a file that has not changed from one look to the next counts as completely written


class RollingChange:
    """Looks at the model on disk; a new one is opened and tested beside the one in use, which answers meanwhile.

    The new one takes over between two batches, so that no request is lost and no answer mixes two models. While both
    are open, both need memory. A model that cannot be opened, or fails its self-test, never takes over.

    Args:
        current: model of the server.
        work: queue in front of it.
        open_again: opens what is on disk now, as the first model was opened.
    """

    def __init__(self, current: CurrentModel, work: WorkQueue, open_again: Callable[[], OpenedModel]) -> None:
        self._current, self._work, self._open_again = current, work, open_again
        self._seen, self._refused = current.in_use, (current.in_use, current.threshold_stamp)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="flawmap-change", daemon=True)

    def start(self) -> None:
        """Look again and again, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a model that is just being opened is given up with the process."""
        self._ends.set()

    def look(self) -> bool:
        """Look once; returns whether another model has taken over."""
        on_disk, threshold = self._current.on_disk(), self._current.threshold_stamp
        if on_disk == self._current.in_use or (on_disk, threshold) == self._refused:
            return False
        if on_disk != self._seen:
            self._seen = on_disk
            return False
        started = time.perf_counter()
        model, health, reason = self._opened()
        if self._current.on_disk() != on_disk:
            return False  # it was replaced while it was opened
        if model is None or health is None or reason:
            self._refused = on_disk, threshold
            self._current.refuse(reason)
            return False
        former, tested = self._current.facts, model
        self._work.change_model(lambda: self._current.take(tested, on_disk), health).result()
        seconds = time.perf_counter() - started
        say("model", f"{former.model_id} is replaced by {model.facts.model_id}, opened in {seconds:.1f} s")
        return True

    def _opened(self) -> tuple[OpenedModel | None, ModelHealth | None, str]:
        """The model on disk after its self-test; and why it cannot be used, empty where it can."""
        try:
            model = self._open_again()
        except UserError as error:
            return None, None, error.problem
        health = ModelHealth(model.facts.self_test)
        health.run_self_test(model)
        return model, health, "" if health.readiness.is_ready else health.readiness.reason

    def _follow(self) -> None:
        while not self._ends.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # the server goes on with the model that it has
                self._current.refuse(f"{type(error).__name__}: {error}")

"""Tasks through actors, one for each core of a cluster: few under way at once, and those of a lost node done again."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayError

from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.plural import plural

UNDER_WAY = 2  # tasks of an actor: one that it works on, and one that is there when it is done
LOOK_S = 2.0  # between two looks for new nodes
PATIENCE_S = 120.0  # without any actor
MOST_TRIES = 3  # of a task whose actors die

TaskT = TypeVar("TaskT")


class Pool:
    """Actors, as many as the cluster has cores at the moment.

    Args:
        start: makes an actor with a method ``ready``, which fails where it cannot work.
        under_way: tasks that an actor is given at once.
        noun: what a task is called in messages.
        patience_s: how long there may be no actor that is ready.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        under_way: int = UNDER_WAY,
        noun: str = "image",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._start, self._under_way, self._noun, self._patience_s = start, under_way, noun, patience_s
        self._starting: dict[Any, Any] = {}  # actors by the answer of ``ready``
        self._idle: dict[Any, int] = {}  # tasks that each actor may still be given
        self._looked = -LOOK_S
        self._alone_since = time.monotonic()

    def answers(
        self, tasks: Sequence[TaskT], give: Callable[[Any, TaskT], Any]
    ) -> Generator[tuple[TaskT, Any], None, None]:
        """Each task with its answer, as they come.

        Args:
            tasks: each is answered once.
            give: calls an actor with a task; returns the reference of the answer.

        Raises:
            UserError: there are no actors for two minutes, or those that a task was given to died three times.
        """
        waiting, tries = list(reversed(range(len(tasks)))), Counter[int]()
        under_way: dict[Any, tuple[int, Any]] = {}
        while waiting or under_way:
            self._look_for_nodes()
            for actor in [actor for actor, room in self._idle.items() if room]:
                while waiting and self._idle[actor]:
                    number = waiting.pop()
                    under_way[give(actor, tasks[number])] = number, actor
                    self._idle[actor] -= 1
            asked = [*under_way, *self._starting]
            ready, _ = ray.wait(asked, timeout=LOOK_S) if asked else ([], time.sleep(LOOK_S))
            for answer in ready:
                if answer in self._starting:
                    self._take_in(answer)
                    continue
                if answer not in under_way:  # of an actor that an earlier answer has shown to be lost
                    continue
                number, actor = under_way.pop(answer)
                try:
                    result = ray.get(answer)
                except (RayActorError, ObjectLostError):
                    lost = [number] + [
                        under_way.pop(one)[0] for one in [a for a, (_, b) in under_way.items() if b == actor]
                    ]
                    tries[number] += 1
                    self._idle.pop(actor, None)
                    say("cluster", f"a worker was lost; {plural(len(lost), self._noun)} for others")
                    if tries[number] == MOST_TRIES:
                        problem = f"{MOST_TRIES} workers died with the same {self._noun}"
                        raise UserError(problem, str(tasks[number]), "look into Ray's logs of the nodes") from None
                    waiting += reversed(lost)
                    continue
                self._idle[actor] += 1
                yield tasks[number], result

    def _look_for_nodes(self) -> None:
        """Start an actor for each core that has none."""
        now = time.monotonic()
        if self._idle:
            self._alone_since = now
        elif now - self._alone_since > self._patience_s:
            raise UserError("the cluster has no free core", "", "look at `ray status`; what is done is kept: --resume")
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        cores = int(ray.cluster_resources().get("CPU", 0))
        for _ in range(cores - len(self._idle) - len(self._starting)):
            actor = self._start()
            self._starting[actor.ready.remote()] = actor

    def _take_in(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            ray.get(answer)
        except RayActorError:  # its node was lost before it was ready
            return
        except RayError as error:
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, UserError) else error from None
        self._idle[actor] = self._under_way
        say("cluster", f"workers: {len(self._idle)}")

"""The server's queue in any order of uploads, failures and pauses: each upload gets one answer, and its own."""

from concurrent.futures import Future

import numpy as np
from fuzz_readers import brightness_model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flawmap.deploy.work_queue import Scored, WorkQueue
from flawmap.errors import UserError

PATIENCE_S = 30


class Queue(RuleBasedStateMachine):
    """Uploads of known brightness, unreadable ones, and ones that make the model fail."""

    def __init__(self) -> None:
        super().__init__()
        self.made = brightness_model()
        self.model = self.made.BrightnessModel()
        self.queue = WorkQueue(self.model, batch_size=3, max_pixels=400)
        self.answers: list[tuple[object, Future]] = []

    @rule(gray=st.integers(0, 255), height=st.integers(1, 20))
    def upload(self, gray: int, height: int) -> None:
        data = self.made.gray_png(gray, height, 16)
        self._submit((float(gray), height), data)

    @rule(data=st.binary(max_size=40))
    def upload_rubbish(self, data: bytes) -> None:
        self._submit(UserError, data)

    @rule()
    def upload_too_many_pixels(self) -> None:
        self._submit(UserError, self.made.gray_png(9, 40, 40))

    @rule()
    def upload_what_breaks_the_model(self) -> None:
        self._submit(RuntimeError, self.made.gray_png(9, 13, 13))

    @rule()
    def pause(self) -> None:
        self.model.may_go.clear()

    @rule()
    def go_on(self) -> None:
        self.model.may_go.set()

    @rule(place=st.integers(0, 50))
    def give_up(self, place: int) -> None:
        """A client goes away; whether its image is scored all the same depends on the moment."""
        if self.answers:
            self.answers[place % len(self.answers)][1].cancel()

    def _submit(self, expected: object, data: bytes) -> None:
        def make(scored: Scored) -> tuple[float, int]:
            return scored.detection.score, scored.pixels.shape[0]

        self.answers.append((expected, self.queue.submit(data, make)))

    @invariant()
    def batches_are_small(self) -> None:
        assert all(size <= 3 for size in self.model.batches)

    def teardown(self) -> None:
        self.model.may_go.set()
        self.queue.close()  # answers what waits
        for expected, answer in self.answers:
            assert answer.done()
            if answer.cancelled():
                continue
            error = answer.exception(PATIENCE_S)
            if isinstance(expected, type):
                assert isinstance(error, expected)
            else:
                assert error is None and np.allclose(answer.result(), expected)
        assert self.queue.waiting == 0


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)

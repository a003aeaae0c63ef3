"""A line without a network: bright images are anomalous. And a receiver that records, delays and refuses."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from flawmap.detect.detection import Detection, NotScoredError, judge
from flawmap.detect.model_facts import ModelFacts
from flawmap.runs.calibration import Calibration, MapScale
from flawmap.watch.inspector import Inspector, Places
from flawmap.watch.journal import Journal
from images import write_image

CALIBRATION = Calibration(100.0, 0.01, 50, 0.02, 150.0, MapScale(0.0, 300.0), (10.0, 100.0))
FACTS = ModelFacts("bright", "ab" * 32, "none", "made up", "none", (32,), "mean", ("mean",), "fp32", CALIBRATION, "0.1")
GOOD, DEFECT, SPOILT = 50, 200, 13  # gray values


class BrightModel:
    """The score is the mean of all values; an image of one gray value in particular gets no score."""

    batch_size = 1

    def __init__(self, facts: ModelFacts = FACTS) -> None:
        self.facts = facts
        self.n_judged = 0

    def predict_many(
        self, images: Sequence[np.ndarray], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        self.n_judged += len(images)
        return [self._predict(image) for image in images]

    def _predict(self, image: np.ndarray) -> Detection:
        if image.mean() == SPOILT:
            raise NotScoredError("the model gives no finite score", "", "copy it again")
        return judge({"mean": float(image.mean())}, "mean", image[..., 0].astype(np.float32), self.facts.calibration)

    def with_facts(self, facts: ModelFacts) -> "BrightModel":
        return BrightModel(facts)

    def attention(self, image: np.ndarray) -> None:
        return None


def gray(path: Path, value: int, side_px: int = 12) -> Path:
    return write_image(path, np.full((side_px, side_px, 3), value, np.uint8))


def inspector_of(journal: Journal, places: Places | None = None, root: Path | None = None) -> Inspector:
    return Inspector(BrightModel(), journal, places or Places(), lambda message: None, lambda line: None, root)


class Receiver:
    """What a web server was sent, and what it answers.

    Attributes:
        got: (headers, body) of each request that was answered with 200.
        answers: statuses of the next requests; 200 when there are none.
        delay_s: before each answer.
    """

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.delay_s = 0.0
        self.address = ""
        self._lock = threading.Lock()

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["id"] for _, body in self.got]

    def take(self, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            status = self.answers.pop(0) if self.answers else 200
        time.sleep(self.delay_s)
        with self._lock:
            if status == 200:
                self.got.append((headers, body))
        return status


@contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """A web server on a free port."""
    receiver = receiver or Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            with suppress(OSError):  # a killed client
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.address = f"http://127.0.0.1:{server.server_address[1]}/verdicts?token=geheim"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A model without networks: bright images are anomalous, the map is the red channel. And a server around a model."""

import copy
import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image

from flawmap.deploy.server import ServerSettings, create_app
from flawmap.detect.detection import Detection, judge
from flawmap.detect.model_facts import ModelFacts
from flawmap.runs.calibration import Calibration, MapScale

CALIBRATION = Calibration(100.0, 0.01, 50, 0.02, 150.0, MapScale(0.0, 300.0), (10.0, 100.0))
FACTS = ModelFacts(
    name="bright",
    weights_sha256="ab" * 32,
    architecture="none",
    weights_source="made up",
    weights_licence="none",
    sizes_px=(32, 64),
    image_score="mean_logit",
    score_names=("mean_logit",),
    precision="fp32",
    calibration=CALIBRATION,
    flawmap="0.1.0",
)


class BrightnessModel:
    """Score = mean of all values, so that a test knows every answer."""

    batch_size = 1

    def __init__(self, facts: ModelFacts = FACTS, seconds: float = 0.0) -> None:
        self.facts, self.seconds = facts, seconds
        self.batches: list[int] = []
        self.cameras: list[str | None] = []  # that were named for the images, one by one
        self.spoils: dict[str, float] = {}  # what "score" and "map" become for images that are 12 px wide
        self.left_counts = False  # whether the region of interest is the left half, and not the whole image
        self.may_go = threading.Event()
        self.may_go.set()

    def predict_many(
        self, images: Sequence[np.ndarray], cameras: Sequence[str | None] | None = None
    ) -> list[Detection]:
        self.cameras += cameras or [None] * len(images)
        self.may_go.wait(timeout=60)
        time.sleep(self.seconds)
        self.batches.append(len(images))
        return [self._predict(image) for image in images]

    def _predict(self, image: np.ndarray) -> Detection:
        if image.shape == (13, 13, 3):
            raise RuntimeError("thirteen, in /secret/place")
        scores, anomaly_map = {"mean_logit": float(image.mean())}, image[..., 0].astype(np.float32)
        if self.spoils and image.shape[1] == 12:
            scores["mean_logit"] = self.spoils.get("score", scores["mean_logit"])
            anomaly_map[-1, -1] = self.spoils.get("map", anomaly_map[-1, -1])
        facts, inside = self.facts, None
        if self.left_counts:
            inside = np.zeros(anomaly_map.shape, bool)
            inside[:, : image.shape[1] // 2] = True
        return judge(scores, "mean_logit", anomaly_map, facts.calibration, inside, min_area_px=facts.min_area_px)

    def with_facts(self, facts: ModelFacts) -> "BrightnessModel":
        other = copy.copy(self)
        other.facts = facts
        return other

    def attention(self, image: np.ndarray) -> np.ndarray | None:
        return np.array([[0.0, 0.5], [1.0, 0.25]], np.float32) if image.shape[0] > 10 else None


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def gray_png(value: int, height: int = 12, width: int = 20) -> bytes:
    return png(np.full((height, width, 3), value, np.uint8))


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Opens a connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named, encode_chunked=not isinstance(body, bytes | None))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def detect(self, body: bytes, query: str = "", content_type: str = "image/png", **headers: str) -> Answer:
        return self.ask("POST", f"/v1/detect{query}", body, content_type=content_type, **headers)


def form(content: bytes, name: str = "part.png", content_type: str = "image/png") -> tuple[bytes, str]:
    """A multipart body with one file, and its content type."""
    head = f'--xx\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: {content_type}'
    return f"{head}\r\n\r\n".encode() + content + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"


@contextmanager
def serving(
    model: object,
    reviews: Path,
    source: Path | None = None,
    open_again: Callable[[], object] | None = None,
    **changes: object,
) -> Iterator[Client]:
    """A real server on a free port."""
    app = create_app(model, ServerSettings(reviews=reviews, **changes), source, open_again=open_again)
    config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=20)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()

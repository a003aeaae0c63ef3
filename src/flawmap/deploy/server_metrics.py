"""Counters of the server in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flawmap.deploy.work_queue import Scored, WorkQueue

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ServerMetrics:
    """One set per application, so that two in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("flawmap_answers", "Answers by HTTP status", ["status"], registry=self._registry)
        self._images = Counter("flawmap_images", "Scored images by verdict", ["verdict"], registry=self._registry)
        self._seconds = Histogram(
            "flawmap_image_seconds", "Seconds of the model per image", registry=self._registry, buckets=SECONDS
        )
        self._waiting = Gauge("flawmap_waiting_images", "Images in the queue", registry=self._registry)

    def watch(self, work: WorkQueue) -> None:
        """Report this queue's length."""
        self._waiting.set_function(lambda: float(work.waiting))

    def count_answer(self, status: int) -> None:
        """Of a request; what breaks beyond the application's own answers is in the log only."""
        self._answers.labels(str(status)).inc()

    def count_image(self, scored: Scored) -> None:
        """Of a scored image."""
        self._images.labels("anomaly" if scored.detection.is_anomalous else "ok").inc()
        self._seconds.observe(scored.seconds)

    def as_text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)

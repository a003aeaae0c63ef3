"""The counters of a server, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flawmap.deploy.work_queue import Scored, WorkQueue

BUCKETS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # of the time per image


class ServerMetrics:
    """Counters in Prometheus' text format; one set per application, so that two in one process do not mix.

    Args:
        work: whose length is reported.
    """

    def __init__(self, work: WorkQueue) -> None:
        self._registry = registry = CollectorRegistry()
        self._answers = Counter("flawmap_answers", "Answers by HTTP status", ["status"], registry=registry)
        self._images = Counter("flawmap_images", "Scored images by verdict", ["verdict"], registry=registry)
        self._seconds = Histogram(
            "flawmap_image_seconds", "Seconds of the model per image", registry=registry, buckets=BUCKETS_SECONDS
        )
        self._not_scored = Counter("flawmap_not_scored", "Readable images without a finite score", registry=registry)
        waiting = Gauge("flawmap_waiting_images", "Images in the queue", registry=registry)
        waiting.set_function(lambda: float(work.waiting))
        ready = Gauge("flawmap_ready", "1 where /readyz answers 200, else 0", registry=registry)
        ready.set_function(lambda: float(work.health.readiness.is_ready))

    def count_answer(self, status: int) -> None:
        """Count an answer by its status; a failure outside the application is in the log only."""
        self._answers.labels(str(status)).inc()

    def count_image(self, scored: Scored) -> None:
        """Count a scored image."""
        self._images.labels("anomaly" if scored.detection.is_anomalous else "ok").inc()
        self._seconds.observe(scored.seconds)

    def count_not_scored(self) -> None:
        """Count a readable image that got no finite score."""
        self._not_scored.inc()

    def as_text(self) -> bytes:
        """All counters."""
        return generate_latest(self._registry)

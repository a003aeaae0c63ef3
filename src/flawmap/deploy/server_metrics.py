"""The counters of a server, for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flawmap.deploy.drift_watch import Measure
from flawmap.deploy.line_watch import LineWatch
from flawmap.deploy.work_queue import Scored, WorkQueue

BUCKETS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # of the time per image


class ServerMetrics:
    """Counters in Prometheus' text format; one set per application, so that two in one process do not mix.

    Args:
        work: whose length is reported.
        line: whose drift and false alarms are reported.
    """

    def __init__(self, work: WorkQueue, line: LineWatch) -> None:
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
        self._drifts = Counter(
            "flawmap_drift_warnings", "Drift warnings that began", ["camera", "measure"], registry=registry
        )
        registry.register(_OfLine(line))

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

    def count_drifts(self, camera: str | None, measures: Iterable[Measure]) -> None:
        """Count warnings that have just begun."""
        for measure in measures:
            self._drifts.labels(camera or "", measure).inc()

    def as_text(self) -> bytes:
        """All counters."""
        return generate_latest(self._registry)


class _OfLine(Collector):
    """Drift and false alarms as they are when somebody asks."""

    def __init__(self, line: LineWatch) -> None:
        self._line = line

    def collect(self) -> Iterable[Metric]:
        """All gauges."""
        by_measure = ["camera", "measure"]
        warns = GaugeMetricFamily("flawmap_drift_warning", "1 while images have moved, else 0", labels=by_measure)
        moved = GaugeMetricFamily(
            "flawmap_drift_moved_ratio",
            "Share of the images since a change that lie above the level which at most half of good images exceed",
            labels=by_measure,
        )
        images = GaugeMetricFamily("flawmap_drift_images", "Images that the watch has seen", labels=["camera"])
        for watch in self._line.watches:
            camera = watch.camera or ""
            images.add_metric([camera], float(watch.n_images))
            for name, watched in watch.measures.items():
                n, n_above = watched.chart.since
                warns.add_metric([camera, name], float(watched.chart.is_warning))
                moved.add_metric([camera, name], n_above / n if n else 0.0)
        yield from (warns, moved, images)
        yield from self._of_today()

    def _of_today(self) -> Iterable[Metric]:
        counted = GaugeMetricFamily(
            "flawmap_today_images", "Images of this day (UTC), each once, by what is known", labels=["camera", "kind"]
        )
        rates = GaugeMetricFamily(
            "flawmap_today_false_alarm_ratio",
            "Share of this day's good images called anomalous, from reviews, and the ends of its 95 % interval",
            labels=["camera", "end"],
        )
        for day in self._line.today():
            for kind in ("images", "alarms", "reviewed", "false_alarms"):
                counted.add_metric([day.camera, kind], float(getattr(day, kind)))
            for end, value in zip(("estimate", "low", "high"), day.rate or (), strict=False):
                rates.add_metric([day.camera, end], value)
        yield from (counted, rates)

"""The histogram of the test images' scores, with what its slider needs."""

from typing import Any

from flawmap.report import charts
from flawmap.report.run_files import RunFiles


def score_chart(files: RunFiles) -> dict[str, Any] | None:
    """The histogram and what its script needs; None without test scores or threshold."""
    threshold = files.threshold
    if not files.images or threshold is None:
        return None
    good = [image.score for image in files.images if not image.is_anomalous]
    anomalous = [image.score for image in files.images if image.is_anomalous]
    chart = charts.histogram(good, anomalous, threshold)
    data = {
        "good": sorted(good),
        "anomalous": sorted(anomalous),
        "threshold": threshold,
        "low": chart.axis.low,
        "high": chart.axis.high,
        "left": chart.axis.left,
        "right": chart.axis.right,
    }
    return {
        "chart": chart,
        "data": data,
        "n_missed": sum(score <= threshold for score in anomalous),
        "n_false_alarms": sum(score > threshold for score in good),
    }

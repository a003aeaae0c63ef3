"""What is known of a model beyond its weights: the data it learned from, and how it did on a test. Numpy alone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flawmap.errors import UserError
from flawmap.runs.manifest import ONLY_PRETRAINED, read_run_manifest

KNOWN_LICENCES = {"elpv": "CC BY-NC-SA 4.0 (elpv-dataset)"}


def record_of_run(run: Path) -> dict[str, Any]:
    """``data`` and ``evaluation`` of a run folder, as JSON-ready values; a part that is not there is left out.

    The data's hash is the SHA-256 of the sorted SHA-256 of all images, so it does not depend on their names or order.
    """
    record: dict[str, Any] = {}
    rows = read_run_manifest(run)
    if rows:
        digest = hashlib.sha256("\n".join(sorted(row.sha256 for row in rows)).encode("ascii")).hexdigest()
        counts = {side: sum(row.split == side for row in rows) for side in ("train", "held_out", ONLY_PRETRAINED)}
        record["data"] = {"sha256": digest, **counts, "licence": _licence(run)}
    evaluation = _evaluation(run / "evaluation")
    return record | ({"evaluation": evaluation} if evaluation else {})


def _licence(run: Path) -> str:
    try:
        location = json.loads((run / "environment.json").read_text(encoding="utf-8")).get("data", "")
    except (OSError, ValueError, AttributeError):
        location = ""
    return KNOWN_LICENCES.get(location, "not stated: that of whoever took the pictures")


def _evaluation(folder: Path) -> dict[str, Any]:
    """Measures with the 95 % intervals that ``flawmap evaluate`` gave them."""
    if not (folder / "metrics.json").is_file():
        return {}
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return {
            "data": str(metrics["data"]),
            "n_good": int(metrics["n_good"]),
            "n_anomalous": int(metrics["n_anomalous"]),
            **{level: _measured(metrics.get(level)) for level in ("image", "pixel")},
            "threshold": metrics.get("threshold"),
            "realised_false_alarm_rate": metrics.get("realised_false_alarm_rate"),
            "missed_rate": metrics.get("missed_rate"),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "flawmap evaluate RUN DATA"
        raise UserError(f"the evaluation cannot be read: {error}", str(folder), remedy) from error


def _measured(measures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of a block of metrics.json that are defined."""
    return {name: dict(measure) for name, measure in (measures or {}).items() if measure is not None}

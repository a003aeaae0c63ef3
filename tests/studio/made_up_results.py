"""A run of a studio that learned from nothing, and a test of it."""

import json
from pathlib import Path

from flawmap.runs.cameras import Calibrations
from made_up_model import made_up_calibration, write_made_up_run

RUN = "2026-11-30_line"


def write_made_up_results(folder: Path, scores: dict[str, float], threshold: float = 3.0) -> Path:
    """The run folder, and beside it verdicts on some images by their scores."""
    run = folder / "runs" / RUN
    write_made_up_run(run, Calibrations(made_up_calibration(threshold)))
    results = folder / "detections" / RUN
    results.mkdir(parents=True)
    same = {
        "regions": [],
        "n_small_regions": 0,
        "overlay": None,
        "model_id": f"{'0' * 16}-fp32",
        "threshold": threshold,
    }
    rows = [
        same | {"image": image, "score": score, "is_anomalous": score > threshold, "scores": {"map_max": 9.0}}
        for image, score in scores.items()
    ]
    (results / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
    whole = {"model": f"runs/{RUN}", "drift": {"text": ""}, "not_scored": []}
    (results / "result.json").write_text(json.dumps(whole), encoding="ascii")
    return run

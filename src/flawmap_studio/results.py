"""What a test has found: the results that ``flawmap detect`` wrote, with what people say about the images."""

import json
from pathlib import Path
from typing import Any

from flawmap.errors import UserError
from flawmap.runs.cameras import read_calibrations
from flawmap.runs.run_folder import RunFolder
from flawmap_studio.place import RESULTS
from flawmap_studio.studio import Studio

LINES, RESULT = "results.jsonl", "result.json"


def results(studio: Studio) -> list[dict[str, Any]]:
    """All tests of the studio, newest first."""
    folder = studio.place.root / RESULTS
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if (path / LINES).is_file():
            found.append({"name": path.name, "at": (path / LINES).stat().st_mtime, "run": _whole(path).get("model")})
    return sorted(found, key=lambda one: one["at"], reverse=True)


def records(studio: Studio, name: str) -> list[dict[str, Any]]:
    """The verdicts of one test, one for each image.

    Raises:
        UserError: there is no such test.
    """
    folder = studio.place.existing(f"{RESULTS}/{name}")
    if folder.parent != studio.place.root / RESULTS or not (folder / LINES).is_file():
        raise UserError("there is no such test", name, "test the images again")
    found = []
    for line in (folder / LINES).read_text(encoding="ascii").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a test that was interrupted
        path = Path(studio.place.root, record["image"])
        if path.is_relative_to(studio.place.root):
            found.append(record | {"image": studio.place.relative(path)})
    return found


def result(studio: Studio, name: str) -> dict[str, Any]:
    """One test: its verdicts with labels and reviews, and what the model's good images score."""
    images = {image.path: image for image in studio.images.all()}
    rows = studio.state.ask("SELECT path, truth, note FROM reviews WHERE result = ? ORDER BY number", (name,))
    reviews = {path: {"truth": truth, "note": note} for path, truth, note in rows}
    shown = []
    for record in records(studio, name):
        image = images.get(record["image"])
        shown.append(
            {
                "path": record["image"],
                "score": record["score"],
                "threshold": record["threshold"],
                "is_anomalous": record["is_anomalous"],
                "regions": len(record["regions"]),
                "has_overlay": bool(record["overlay"]),
                "label": image.label if image else "",
                "version": image.mtime_ns if image else 0,
                "is_there": image is not None,
                "review": reviews.get(record["image"]),
            }
        )
    whole = _whole(studio.place.root / RESULTS / name)
    model = whole.get("model") or ""
    drift = (whole.get("drift") or {}).get("text", "")
    failures = [failure for failure in whole.get("not_scored", [])]
    scores = _good_scores(studio, model)
    return {"name": name, "run": model, "images": shown, "drift": drift, "not_scored": failures, "good_scores": scores}


def overlay(studio: Studio, name: str, path: str) -> Path:
    """The picture with map and verdict of an image.

    Raises:
        UserError: there is none.
    """
    for record in records(studio, name):
        if record["image"] == path and record["overlay"]:
            file = studio.place.existing(record["overlay"])
            if file.suffix == ".png" and file.is_relative_to(studio.place.root / RESULTS):
                return file
    raise UserError("there is no picture of this image", path, "test the images again")


def _whole(folder: Path) -> dict[str, Any]:
    """What is written at the end of a test; nothing where it was killed."""
    try:
        content = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _good_scores(studio: Studio, model: str) -> list[float]:
    try:
        run = RunFolder(studio.place.existing(model)) if model else None
        calibration = read_calibrations(run.model).default if run else None
    except UserError:
        return []
    return list(calibration.held_out_scores) if calibration else []

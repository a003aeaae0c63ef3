"""flawmap detect IMAGES --model RUN."""

import glob
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_device_argument, add_json_argument, free_path
from flawmap.errors import UserError

if TYPE_CHECKING:
    from flawmap.detect.detection import Detection
    from flawmap.detect.detector import AnomalyDetector

RESULT = "result.json"


def add_arguments(parser: ArgumentParser) -> None:
    """IMAGES, the model and where results go."""
    parser.add_argument("images", type=str, nargs="+", help="image files, folders or patterns")
    parser.add_argument("--model", type=str, default=None, help="a run or model folder (default: the latest run)")
    parser.add_argument(
        "--output",
        type=str,
        default="detections",
        help="folder for result.json and overlays; a taken name gets a number (default: detections)",
    )
    parser.add_argument("--fail-on-anomaly", action="store_true", help="exit with 1 if any image is anomalous")
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Detect; one line per image on stdout, then a summary."""
    import time

    paths = find_images(arguments.images)
    model, detector = _load(arguments)
    folder = free_path(Path(arguments.output))
    folder.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    failed: list[tuple[Path, UserError]] = []
    width, started = max(len(str(path)) for path in paths), time.monotonic()
    try:
        for number, path in enumerate(paths):
            try:
                results.append(detect_one(detector, path, folder, number))
            except UserError as error:  # one bad image must not cost the others
                failed.append((path, error))
                continue
            if not arguments.json:
                print(as_line(results[-1], width), flush=True)
    finally:  # when interrupted, too: what was scored is kept
        content = _write_results(folder, results, failed, str(model))
    if arguments.json:
        print(json.dumps(content))
    anomalous = sum(record["is_anomalous"] for record in results)
    seconds = (time.monotonic() - started) / max(1, len(results))
    images = "1 image" if len(results) == 1 else f"{len(results)} images"
    print(f"{images}, {anomalous} anomalous, {seconds:.2f} s per image -> {folder}/", file=sys.stderr)
    for path, error in failed:
        print(f"not scored: {path}: {error.problem}", file=sys.stderr)
    if failed:
        return 2
    return 1 if arguments.fail_on_anomaly and anomalous else 0


def _load(arguments: Namespace) -> tuple[Path, "AnomalyDetector"]:
    """The model and where it lies; says so when it has no threshold."""
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.training.run_folder import latest_run

    model = Path(arguments.model) if arguments.model else latest_run()
    if model is None:
        raise UserError("no model given and no run here", "--model", "flawmap train DATA, or --model RUN")
    detector = AnomalyDetector.from_pretrained(model, arguments.device)
    if detector.calibration_ is None:
        remedy = f"flawmap calibrate {model} GOOD_IMAGES"
        if arguments.fail_on_anomaly:
            raise UserError("without a threshold nothing is called anomalous", str(model), remedy)
        print(f"note       no threshold yet, so nothing is called anomalous: {remedy}", file=sys.stderr)
    return model, detector


def find_images(patterns: list[str]) -> list[Path]:
    """Files, the images in folders, and what patterns match; each file once, in the order given.

    Hidden files in folders are passed over, and so are results of an earlier ``flawmap detect``, with a note.

    Raises:
        UserError: nothing was found for one of the patterns.
    """
    from flawmap.data.image_folders import list_images

    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = list_images(path, recursive=True)
            for ours in sorted({p.parent for p in matches if (p.parent / RESULT).is_file()}):
                print(f"left out   {ours}/: results of an earlier detection", file=sys.stderr)
                matches = [p for p in matches if p.parent != ours]
        elif path.is_file():
            matches = [path]
        else:
            matches = [p for p in map(Path, sorted(glob.glob(pattern, recursive=True))) if p.is_file()]
        if not matches:
            raise UserError("no images there", pattern, f"give files, folders or patterns (you are in {Path.cwd()})")
        found.update(dict.fromkeys(matches))
    return list(found)


def detect_one(detector: "AnomalyDetector", path: Path, folder: Path, number: int) -> dict[str, Any]:
    """Score one image and write its overlay."""
    from PIL import Image

    from flawmap.data.image_files import read_image

    pixels = read_image(path)
    detection = detector.verdict(detector.analyse(pixels))
    overlay_path = folder / f"{number:04d}_{path.stem[:48]}.png"  # a name that no file system finds too long
    Image.fromarray(_overlay(detector, pixels, detection)).save(overlay_path)
    return {"image": str(path), **detection.to_json(), "overlay": str(overlay_path)}


def _overlay(detector: "AnomalyDetector", pixels: Any, detection: "Detection") -> Any:
    from flawmap.report.colour import ColourScale
    from flawmap.report.overlay import overlay

    scale = detector.map_scale
    return overlay(pixels, detection.anomaly_map, ColourScale(scale.low, (scale.low + scale.high) / 2, scale.high))


def as_line(record: dict[str, Any], width: int) -> str:
    """The verdict on one image for people."""
    verdict = "-" if record["threshold"] is None else "ANOMALY" if record["is_anomalous"] else "ok"
    line = f"{record['image']:<{width}}   {verdict:<8} {record['score']:7.3f}"
    regions = record["regions"]
    if record["is_anomalous"] and regions:
        first = regions[0]
        left, top, right, bottom = first["box_xyxy_px"]
        plural = "region" if len(regions) == 1 else "regions"
        line += f"   {len(regions)} {plural}, {first['area_px']} px at ({(left + right) // 2}, {(top + bottom) // 2})"
    return line


def _write_results(
    folder: Path, results: list[dict[str, Any]], failed: list[tuple[Path, UserError]], model: str
) -> dict[str, Any]:
    """Write result.json; returns its content."""
    from flawmap.reproducibility import atomic_write_text

    errors = [{"image": str(path), "problem": error.problem} for path, error in failed]
    content = {"model": model, "images": results, "not_scored": errors}
    atomic_write_text(folder / RESULT, json.dumps(content, indent=2))
    return content

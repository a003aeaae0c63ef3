"""flawmap detect IMAGES --model RUN."""

import glob
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.cli.arguments import add_device_argument
from flawmap.errors import UserError
from flawmap.runs.result_folders import new_folder
from flawmap.runs.result_log import ResultLog, holds_results

if TYPE_CHECKING:
    from flawmap.deploy.batch import Job, Outcome
    from flawmap.deploy.opened_model import OpenedModel

PROGRESS_FROM = 20  # fewer images are their own progress


def add_arguments(parser: ArgumentParser) -> None:
    """IMAGES, the model and where results go."""
    parser.add_argument("images", type=str, nargs="+", help="image files, folders or patterns")
    parser.add_argument(
        "--model", type=str, default=None, help="a run or model folder, or an exported file (default: the latest run)"
    )
    parser.add_argument(
        "--output",
        type=str,
        default="detections",
        help="folder for results and overlays; a taken name gets a number (default: detections)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on in --output: images that are scored there are not scored again"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, each with the model and its share of the cores (default: 1)"
    )
    parser.add_argument("--fail-on-anomaly", action="store_true", help="exit with 1 if any image is anomalous")
    add_device_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per image, as it is scored")


def run(arguments: Namespace) -> int:
    """Detect; one line per image on stdout as it is scored, then a summary."""
    if arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}, must be at least 1", "--workers", "--workers 1")
    paths = find_images(arguments.images)
    path, model = _load(arguments)
    folder = Path(arguments.output)
    if arguments.resume:
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = new_folder(folder)
    calibration = model.facts.calibration
    log = ResultLog(folder, model.facts.model_id, calibration.threshold if calibration else None)
    jobs = _jobs(paths, log, folder)
    if earlier := len(paths) - len(jobs):
        print(f"resumed    {earlier} of {len(paths)} images are scored already", file=sys.stderr)
    started = time.monotonic()
    not_scored: list[dict[str, Any]] = []
    try:
        _detect_all(arguments, path, model, jobs, log, not_scored)
    finally:  # when interrupted, too
        log.close(str(path), not_scored)
    anomalous = sum(log.done.get(str(path), False) for path in paths)
    scored = len(jobs) - len(not_scored)
    images = "1 image" if len(paths) - len(not_scored) == 1 else f"{len(paths) - len(not_scored)} images"
    seconds = (time.monotonic() - started) / max(1, scored)
    print(f"{images}, {anomalous} anomalous, {seconds:.2f} s per image -> {folder}/", file=sys.stderr)
    for one in not_scored:
        print(f"not scored: {one['image']}: {one['problem']}", file=sys.stderr)
    if not_scored:
        return 2
    return 1 if arguments.fail_on_anomaly and anomalous else 0


def _detect_all(
    arguments: Namespace,
    path: Path,
    model: "OpenedModel",
    jobs: "Sequence[Job]",
    log: ResultLog,
    not_scored: list[dict[str, Any]],
) -> None:
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.deploy.batch import outcomes

    progress = ProgressLine("detect") if len(jobs) > PROGRESS_FROM else None
    width = max((len(str(job.image)) for job in jobs), default=0)
    for number, (job, outcome) in enumerate(outcomes(model, jobs, path, arguments.device, arguments.workers)):
        _report(job, outcome, log, not_scored, None if arguments.json else width)
        if progress is not None:
            progress(number + 1, len(jobs))


def _report(
    job: "Job", outcome: "Outcome", log: ResultLog, not_scored: list[dict[str, Any]], width: int | None
) -> None:
    """Keep and print one outcome; as JSON where ``width`` is None."""
    if isinstance(outcome, UserError):
        not_scored.append({"image": str(job.image), "problem": outcome.problem})
        return
    line = log.add(outcome)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)  # the progress line, which ends without a line feed
    print(line if width is None else as_line(outcome, width), flush=True)


def _jobs(paths: Sequence[Path], log: ResultLog, folder: Path) -> "list[Job]":
    from flawmap.deploy.batch import Job

    numbers = [path.name.partition("_")[0] for path in folder.glob("*_*.png")]
    jobs, first = [], 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
    for path in paths:
        if str(path) not in log.done:
            name = f"{first + len(jobs):04d}_{path.stem[:48]}.png"  # a name that no file system finds too long
            jobs.append(Job(path, folder / name))
    return jobs


def _load(arguments: Namespace) -> tuple[Path, "OpenedModel"]:
    """The model and where it lies; says so when it has no threshold."""
    from flawmap.deploy.opened_model import open_model
    from flawmap.runs.run_folder import latest_run

    path = Path(arguments.model) if arguments.model else latest_run()
    if path is None:
        raise UserError("no model given and no run here", "--model", "flawmap train DATA, or --model RUN")
    model = open_model(path, arguments.device)
    if model.facts.calibration is None:
        remedy = f"flawmap calibrate {path} GOOD_IMAGES"
        if arguments.fail_on_anomaly:
            raise UserError("without a threshold nothing is called anomalous", str(path), remedy)
        print(f"note       no threshold yet, so nothing is called anomalous: {remedy}", file=sys.stderr)
    return path, model


def find_images(patterns: list[str]) -> list[Path]:
    """Files, the images in folders, and what patterns match; each file once, in the order given.

    Hidden files in folders are passed over, and so are results of an earlier ``flawmap detect``, with a note.

    Raises:
        UserError: nothing was found for one of the patterns.
    """
    from flawmap.data.layouts.image_folders import list_images

    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = list_images(path, recursive=True)
            for ours in sorted(folder for folder in {p.parent for p in matches} if holds_results(folder)):
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

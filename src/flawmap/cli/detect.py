"""flawmap detect IMAGES --model RUN."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawmap.advice import command
from flawmap.cli.arguments import (
    STRICT_HELP,
    add_cluster_argument,
    add_device_argument,
    add_threshold_arguments,
    count,
    threshold_choice,
)
from flawmap.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flawmap.data.image_list import Shows
    from flawmap.deploy.batch import ScoresElsewhere
    from flawmap.deploy.opened_model import OpenedModel
    from flawmap.detect.model_facts import ModelFacts
    from flawmap.storage.remote_file import RemoteFile

PROGRESS_FROM = 20  # images; for fewer, their own lines show the progress


def add_arguments(parser: ArgumentParser) -> None:
    """IMAGES, the model and where results go."""
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, folders or patterns, here or in a store (s3://BUCKET/FOLDER); or a CSV list with the column "
        "image, and product and camera where they differ",
    )
    parser.add_argument(
        "--model", help="a run or model folder, or an exported file, here or in a store (default: the latest run)"
    )
    parser.add_argument(
        "--output",
        default="detections",
        help="folder for results and pictures; a taken name gets a number (default: detections). Those for a store are "
        "written here first, into a folder of its last name, and uploaded at the end",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue in --output: images with a result are not scored again"
    )
    parser.add_argument(
        "--workers",
        type=count,
        help="images that are scored at the same time, each on a core of its own (default: all cores); an accelerator "
        "scores images in batches, and this many cores read and draw for it. Scores do not depend on it",
    )
    add_cluster_argument(parser, "score")
    parser.add_argument("--no-overlays", action="store_true", help="write no pictures")
    parser.add_argument(
        "--maps",
        choices=("npy", "tiff"),
        help="also write each anomaly map as float32 numbers, at the size of its image, to OUTPUT/maps",
    )
    parser.add_argument("--strict", action="store_true", help=STRICT_HELP)
    add_threshold_arguments(parser)
    parser.add_argument("--fail-on-anomaly", action="store_true", help="exit with 1 if any image is anomalous")
    add_device_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per image, as it is scored")


def run(arguments: Namespace) -> int:
    """Detect; prints one line per image as it is scored, then a summary."""
    from flawmap.cli.loading import without_collecting
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.data.find_images import find_images_anywhere
    from flawmap.data.left_out import counted, refuse_left_out
    from flawmap.data.left_out import lines as left_out_lines
    from flawmap.deploy.batch import Batch
    from flawmap.detect.detection import NotScoredError
    from flawmap.engine.cores import usable_cores
    from flawmap.storage.upload import Destination

    destination = Destination.of(arguments.output, arguments.resume)
    asked = find_images_anywhere(arguments.images)
    found, shows = asked.listing, _shows(arguments, asked.shows)
    if arguments.strict:
        refuse_left_out(found.left_out, " ".join(arguments.images))
    for line in left_out_lines(found.left_out):
        print(f"left out   {line}", file=sys.stderr)
    images = found.images
    workers = min(arguments.workers or usable_cores(), len(images))
    with without_collecting():
        path, model = _load(arguments, workers)
    overlays, facts_of = not arguments.no_overlays, _listed(arguments, path, model, shows)
    batch = Batch(model, found, destination.local, arguments.resume, arguments.maps, overlays, facts_of)
    if batch.n_resumed:
        print(f"resumed    {batch.n_resumed} of {len(images)} images have a result already", file=sys.stderr)
    progress = ProgressLine("detect") if batch.n_to_score > PROGRESS_FROM else None
    width = max(len(str(image)) for image in images)
    remedy = ""
    started = time.monotonic()
    elsewhere = _cluster(arguments, path) if arguments.cluster else None
    with closing(batch.run(path, workers, elsewhere)) as outcomes:
        for n_done, outcome in enumerate(outcomes, 1):
            if not isinstance(outcome, UserError):
                if sys.stderr.isatty():
                    print("\r\033[K", end="", file=sys.stderr, flush=True)  # the progress line has no line feed
                print(json.dumps(outcome) if arguments.json else as_line(outcome, width), flush=True)
            elif isinstance(outcome, NotScoredError):
                remedy = outcome.remedy
            if progress is not None:
                progress(n_done, batch.n_to_score)
    seconds = (time.monotonic() - started) / max(1, batch.n_to_score - len(batch.not_scored))
    for image, problem in batch.not_scored.items():
        print(f"not scored: {image}: {problem}", file=sys.stderr)
    if remedy:  # of all these images, because the fault is the model's
        print(f"remedy: {remedy}", file=sys.stderr)
    counts = [f"{len(images) - len(batch.not_scored)} scored"]
    counts += [f"{len(batch.not_scored)} not scored"] if batch.not_scored else []
    counts += [counted(found.left_out)] if found.left_out else []
    counts += [f"{batch.n_anomalous} anomalous", f"{seconds:.2f} s per image -> {batch.folder}/"]
    print(", ".join(counts), file=sys.stderr)
    for watch in batch.watches.values():
        if drift := watch.text(path if isinstance(path, Path) else None):
            print(f"drift      {drift}", file=sys.stderr)
    if uploaded := destination.upload(batch.folder):
        print(f"uploaded   {uploaded}", file=sys.stderr)
    if batch.not_scored:
        return 2
    return 1 if arguments.fail_on_anomaly and batch.n_anomalous else 0


def _cluster(arguments: Namespace, path: str | Path) -> "ScoresElsewhere":
    """What scores images in a cluster, from the package flawmap_cluster, which comes with this one."""
    from importlib import import_module

    from flawmap.storage.local_copy import path_of_model

    found = import_module("flawmap_cluster.detect")
    return found.in_cluster(arguments.cluster, path_of_model(path), arguments.device)


def _load(arguments: Namespace, workers: int) -> tuple[str | Path, "OpenedModel"]:
    """The model, and its path or its address in a store; prints a note when it has no threshold."""
    from flawmap.deploy.opened_model import open_model
    from flawmap.detect.model_facts import NO_CHECKSUM
    from flawmap.runs.run_folder import latest_run
    from flawmap.storage.address import is_address
    from flawmap.storage.local_copy import path_of_model

    path = (
        arguments.model if is_address(arguments.model) else Path(arguments.model) if arguments.model else latest_run()
    )
    if path is None:
        raise UserError("no model given and no run here", "--model", "flawmap train DATA, or --model RUN")
    if not arguments.model:
        print(f"model      {path} (the latest run)", file=sys.stderr)
    # one core for each image: a score then does not depend on how many there are
    choice = threshold_choice(arguments)
    model = open_model(path_of_model(path), arguments.device, threads=1, choice=choice, at_once=workers)
    if model.facts.threshold_file or choice.false_alarm_rate is not None:
        print(f"threshold  {model.facts.threshold_words[0]}", file=sys.stderr)
    if model.facts.self_test is None:
        print(f"note       {NO_CHECKSUM}", file=sys.stderr)
    for note in model.facts.notes:
        print(f"note       {note}", file=sys.stderr)
    if model.facts.calibration is None:
        remedy = command("flawmap", "calibrate", path, "GOOD_IMAGES")
        if arguments.fail_on_anomaly:
            raise UserError("without a threshold nothing is called anomalous", str(path), remedy)
        print(f"note       no threshold yet, so nothing is called anomalous: {remedy}", file=sys.stderr)
    return path, model


def _shows(arguments: Namespace, shows: "Mapping[Path | RemoteFile, Shows]") -> "Mapping[Path | RemoteFile, Shows]":
    """Raises: UserError: lists name products or cameras, which one threshold file cannot judge."""
    if arguments.threshold and any(shown.product or shown.camera for shown in shows.values()):
        remedy = "leave out --threshold, or the columns product and camera"
        raise UserError("a list names products or cameras, and the file has one threshold", "--threshold", remedy)
    return shows


def _listed(
    arguments: Namespace, path: str | Path, model: "OpenedModel", shows: "Mapping[Path | RemoteFile, Shows]"
) -> "dict[Path | RemoteFile, ModelFacts]":
    """The facts with the thresholds of the product and camera that a list names; what it leaves open, options say."""
    if not shows:
        return {}
    from flawmap.deploy.current_model import CurrentModel
    from flawmap.runs.threshold_names import threshold_name
    from flawmap.storage.local_copy import path_of_model

    named = {
        image: threshold_name(shown.product or arguments.product, shown.camera or arguments.camera)
        for image, shown in shows.items()
    }
    current = CurrentModel(model, path_of_model(path), threshold_choice(arguments))
    facts_of = {name: current.facts_of_camera(name) for name in set(named.values()) if name is not None}
    return {image: facts_of[name] for image, name in named.items() if name in facts_of}


def as_line(record: dict[str, Any], width: int) -> str:
    """The verdict on one image, for people."""
    verdict = "-" if record["threshold"] is None else "ANOMALY" if record["is_anomalous"] else "ok"
    verdict = "UNKNOWN" if record.get("is_unknown_product") else verdict
    line = f"{record['image']:<{width}}   {verdict:<8} {record['score']:7.3f}"
    line += f"   {record['product']}" if record.get("product") else ""
    regions = record["regions"]
    if record["is_anomalous"] and regions:
        left, top, right, bottom = regions[0]["box_xyxy_px"]
        noun, area = "region" if len(regions) == 1 else "regions", regions[0]["area_px"]
        line += f"   {len(regions)} {noun}, {area} px at ({(left + right) // 2}, {(top + bottom) // 2})"
    elif record.get("n_small_regions") and not regions and record["score"] > record["threshold"]:
        noun = "region" if record["n_small_regions"] == 1 else "regions"
        line += f"   {record['n_small_regions']} {noun} smaller than --min-area"
    elif record.get("is_unknown_product"):
        line += "   looks like no product of the model, so no threshold judges it"
    elif record["is_anomalous"]:
        line += "   unusual as a whole, no region stands out"
    return line

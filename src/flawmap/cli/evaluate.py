"""flawmap evaluate RUN DATA."""

import json
import secrets
import shutil
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flawmap.cli.arguments import (
    add_data_arguments,
    add_device_argument,
    add_json_argument,
)
from flawmap.errors import UserError
from flawmap.runs.result_folders import free_path, put_in_place

MIN_EVALUATION_SIZE_PX, MAX_EVALUATION_SIZE_PX = 16, 4096


@dataclass(frozen=True)
class EvaluationOrder:
    """What to evaluate on what.

    Attributes:
        run: a run folder, or a model folder.
        location: labelled data.
        overrides: of the run's own data settings, such as ``data.normal=OK``.
        output: where results go; None: into the run, where a report is written, too. Results of a model folder that is
            in no run are then not kept.
        skip_unreadable: leave files out that cannot be decoded.
        device: where to compute.
        command: what was typed, for the record.
        evaluation_size_px: side of the square at which pixels are compared; None: each image's own resolution.
    """

    run: Path
    location: str
    overrides: tuple[str, ...] = ()
    output: Path | None = None
    skip_unreadable: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    command: str = ""
    evaluation_size_px: int | None = None


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, DATA and options."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("data", type=str, help="labelled data: MVTec AD folder, manifest.csv, or elpv")
    parser.add_argument("--set", action="append", default=[], metavar="data.B=C", help="change how the data is read")
    parser.add_argument(
        "--output", type=str, default=None, help="folder for metrics and maps (default: RUN/evaluation)"
    )
    parser.add_argument(
        "--evaluation-size",
        type=int,
        default=None,
        metavar="PX",
        help="compare maps and masks at PX x PX, as papers with 224 or 256 do (default: each image's own resolution)",
    )
    add_data_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Evaluate; prints the metrics."""
    size = arguments.evaluation_size
    if size is not None and not MIN_EVALUATION_SIZE_PX <= size <= MAX_EVALUATION_SIZE_PX:
        raise UserError(
            f"--evaluation-size is {size}, must be {MIN_EVALUATION_SIZE_PX} to {MAX_EVALUATION_SIZE_PX} px",
            "flawmap evaluate",
            "for example 256; leave it out for the original resolution",
        )
    metrics = evaluate_run(
        EvaluationOrder(
            Path(arguments.run),
            arguments.data,
            tuple(arguments.set),
            Path(arguments.output) if arguments.output else None,
            arguments.skip_unreadable,
            arguments.device,
            arguments.command,
            size,
        )
    )
    print(json.dumps(metrics) if arguments.json else summary(metrics))
    return 0


def evaluate_run(order: EvaluationOrder) -> dict[str, Any]:
    """Evaluate a run and write its report; an earlier evaluation is kept under another name."""
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.data.checks import check_test_data, refuse_unwritable_names
    from flawmap.data.open_data import open_test_data
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.detect.pretrained import model_folder, refresh_card
    from flawmap.evaluate.encoder_pictures import write_attention
    from flawmap.evaluate.evaluate import evaluate
    from flawmap.recipe.files import to_yaml
    from flawmap.report.html import write_report
    from flawmap.report.sheet import write_sheet
    from flawmap.runs.manifest import read_run_manifest

    detector = AnomalyDetector.from_pretrained(order.run, order.device)
    settings = _data_settings(to_yaml(detector.recipe), order.overrides)
    # held-out images have set the threshold: they are no test images either
    known = {of: row.key for row in read_run_manifest(model_folder(order.run).parent) for of in row.hashes}
    data = check_test_data(open_test_data(order.location, settings), order.skip_unreadable, known)
    refuse_unwritable_names(name for sample in data.samples for name in (sample.key, str(sample.path.absolute())))
    in_run = (order.run / "model").is_dir() and order.output is None
    final = order.run / "evaluation" if in_run else free_path(order.output) if order.output else None
    if final is None:
        return evaluate(detector, data, None, order.command, ProgressLine("evaluate"), order.evaluation_size_px)
    # a name that nobody else draws: two that evaluate at once never write into one folder
    unfinished = final.with_name(f"{final.name}-unfinished-{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        progress = ProgressLine("evaluate")
        metrics = evaluate(detector, data, unfinished, order.command, progress, order.evaluation_size_px)
    except BaseException:  # the earlier results stay in their place
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    put_in_place(unfinished, final)
    if in_run:
        write_attention(order.run, detector)
        write_sheet(order.run)
        write_report(order.run)
        refresh_card(order.run)
    return metrics


def _data_settings(recipe_yaml: str, overrides: tuple[str, ...]) -> Any:
    """The run's own data settings with ``--set data.x=y`` on top of them."""
    import yaml

    from flawmap.recipe.files import load_recipe

    for override in overrides:
        if not override.strip().startswith("data."):
            raise UserError(
                f"--set {override} does not say how the data is read",
                "flawmap evaluate",
                "only data.NAME=VALUE changes without a new training",
            )
    own = [
        f"data.{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in yaml.safe_load(recipe_yaml)["data"].items()
    ]
    return load_recipe(None, [*own, *overrides]).data


def summary(metrics: dict[str, Any]) -> str:
    """The metrics for people; brackets hold 95 % bootstrap intervals over images."""
    counts = f"{metrics['n_good']} good, {metrics['n_anomalous']} anomalous"
    lines = [f"data       {metrics['data']}: {counts}", *_left_out(metrics)]
    if metrics["n_good"] and metrics["n_anomalous"]:
        lines += [*_measures(metrics), *_comparisons(metrics)]
    else:
        lines.append(f"image      no AUROC: it needs good and anomalous images, and these are {counts}")
        lines += _pixel_measures(metrics) if metrics["pixel"] else []
    if metrics["threshold"] is not None:
        lines.append(
            f"threshold  {metrics['threshold']:.4g}: {_percent(metrics['realised_false_alarm_rate'])} false alarms "
            f"(wanted {_percent(metrics['false_alarm_rate'])}), {_percent(metrics['missed_rate'])} missed"
        )
    if metrics["drift"] is not None:
        lines.append(f"drift      {metrics['drift']['text']}")
    lines.append(f"time       {metrics['seconds_per_image']:.3f} s per image")
    return "\n".join(lines)


def _left_out(metrics: dict[str, Any]) -> list[str]:
    """What is not in the numbers, or not in all of them."""
    lines = []
    if skipped := metrics["skipped"]:
        first = skipped[0]
        lines.append(f"left out   {len(skipped)} unreadable, first: {first['key']} ({first['reason']})")
    if without := metrics["without_truth"]:
        of = f"{len(without)} of {metrics['n_anomalous']} anomalous images have no mask, first: {without[0]}"
        lines.append(f"no mask    {of}; they count for image measures only")
    return lines


def _measures(metrics: dict[str, Any]) -> list[str]:
    image = metrics["image"]
    lines = [
        f"image      AUROC {_interval(image['auroc'])}  by {metrics['image_score']}",
        f"           AP {_interval(image['ap'])}, F1-max {_interval(image['f1_max'])}, "
        f"FPR at 95 % TPR {_interval(image['fpr_at_95_tpr'])}",
        *_pixel_measures(metrics),
    ]
    for name in ("per_kind", "groups"):
        lines += [_class_line(kind, values) for kind, values in metrics[name].items()]
    for size_class, block in metrics["by_size"].items():
        values = {"n": block["n"], "image_auroc": _value(block["image"]), "pixel_auroc": _value(block["pixel"])}
        lines.append(_class_line(f"{size_class} defects", values))
    return lines


def _pixel_measures(metrics: dict[str, Any]) -> list[str]:
    pixel, size = metrics["pixel"], metrics["evaluation_size_px"]
    if not pixel:
        return ["pixel      no AUROC: no image has ground truth for its pixels"]
    resolution = f" at {size} x {size} px" if size else ""
    return [
        f"pixel      AUROC {_interval(pixel['auroc'])}  on {metrics['n_pixel_images']} images{resolution}",
        f"           AP {_interval(pixel['ap'])}, F1-max {_interval(pixel['f1_max'])}, "
        f"AUPRO at 30 % {_interval(pixel['aupro_30'])}, at 5 % {_interval(pixel['aupro_05'])}",
    ]


def _class_line(name: str, values: dict[str, Any]) -> str:
    image, pixel = _number(values["image_auroc"]), _number(values["pixel_auroc"])
    return f"  {name:<14} n={values['n']:<4} image {image}  pixel {pixel}"


def _comparisons(metrics: dict[str, Any]) -> list[str]:
    """What several scales and the vote are worth, by the same images."""
    scores, single, count = metrics["image_scores"], metrics["single_scale"], len(metrics["per_scale"])
    if "vote" not in scores:
        return [
            f"score      image {_number(scores['mean_logit'])}, the map's peak instead {_number(scores['map_max'])}"
        ]
    all_scales = f"all {count} scales" if count > 1 else "all scales (1)"
    return [
        f"scales     {single['size_px']} px alone: image {_number(single['image_auroc'])}  "
        f"pixel {_number(single['pixel_auroc'])};  {all_scales}: image {_number(scores['mean_logit'])}  "
        f"pixel {_number(metrics['pixel_auroc'])}  (image by mean logit)",
        f"score      vote {_number(scores['vote'])}, vote then mean logit {_number(scores['vote_mean'])}, "
        f"mean logit {_number(scores['mean_logit'])}, map's peak {_number(scores['map_max'])}",
    ]


def _interval(measure: dict[str, float | None] | None) -> str:
    if not measure:
        return "-"
    value, low, high = measure["value"], measure["low"], measure["high"]
    interval = "(too few images for an interval)" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
    return f"{value:.3f} {interval}"


def _value(measures: dict[str, Any] | None) -> float | None:
    return measures["auroc"]["value"] if measures and measures["auroc"] else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

"""flawmap evaluate RUN|FILE DATA."""

import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.cli.arguments import add_cluster_argument, add_data_arguments, add_device_argument
from flawmap.data.left_out import counted, from_records, unreadable
from flawmap.data.left_out import lines as left_out_lines
from flawmap.data.remark_lines import remark_lines
from flawmap.errors import UserError
from flawmap.plural import plural

if TYPE_CHECKING:
    from flawmap.runs.evaluation import Block, Evaluation, Measure


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, DATA and options."""
    parser.add_argument("run", help="a run or model folder, or a file of flawmap export, here or in a store")
    parser.add_argument(
        "data",
        nargs="+",
        help="labelled data: MVTec AD folder, manifest.csv, or elpv; several count as one data set",
    )
    parser.add_argument("--set", action="append", default=[], metavar="data.B=C", help="change how the data is read")
    parser.add_argument(
        "--output",
        help="folder for metrics and maps (default: RUN/evaluation; of an exported file they are only printed)",
    )
    parser.add_argument(
        "--evaluation-size",
        type=int,
        metavar="PX",
        help="compare maps and masks at PX x PX, as papers with 224 or 256 do (default: each image's own resolution)",
    )
    add_cluster_argument(parser, "score")
    add_data_arguments(parser)
    add_device_argument(parser)


def run(arguments: Namespace) -> int:
    """Evaluate; prints the metrics."""
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.deploy.runtime import is_exported
    from flawmap.evaluate.test_images import TestImages
    from flawmap.runs.run_folder import RunFolder
    from flawmap.storage.address import is_address
    from flawmap.storage.local_copy import path_of_model
    from flawmap.storage.upload import Destination

    path = path_of_model(arguments.run)
    if is_address(arguments.run) and not arguments.output:
        raise UserError("a run in a store is not changed", arguments.run, "name a folder for the results with --output")
    destination = Destination.of(arguments.output) if arguments.output else None
    output = destination.local if destination else None
    progress, size = ProgressLine("evaluate"), arguments.evaluation_size
    elsewhere = None
    if arguments.cluster:  # the package comes with this one, which does not import it
        elsewhere = import_module("flawmap_cluster.evaluate").in_cluster(arguments.cluster, path)
    if is_exported(path):
        from flawmap.deploy.evaluate_file import evaluate_file

        asked = TestImages(arguments.data, arguments.set, arguments.skip_unreadable, arguments.strict)
        evaluation = evaluate_file(path, asked, output, arguments.command, size, progress, elsewhere)
    else:
        from flawmap.evaluate.evaluate_run import evaluate_run

        evaluation = evaluate_run(
            path,
            arguments.data,
            overrides=arguments.set,
            output=output,
            skip_unreadable=arguments.skip_unreadable,
            device=arguments.device,
            command=arguments.command,
            evaluation_size_px=size,
            progress=progress,
            strict=arguments.strict,
            elsewhere=elsewhere,
        )
    report = RunFolder(path).report
    written = report if not arguments.output and report.is_file() else None
    print(json.dumps(asdict(evaluation)) if arguments.json else summary(evaluation, written))
    if destination and (uploaded := destination.upload(destination.local)):
        print(f"uploaded   {uploaded}", file=sys.stderr)
    return 0


def summary(evaluation: "Evaluation", report: Path | None = None) -> str:
    """The metrics for people, and where the report is; brackets hold 95 % bootstrap intervals over images or groups."""
    counts = f"{evaluation.n_good} good, {evaluation.n_anomalous} anomalous"
    lines = [f"data       {evaluation.data}: {counts}", *_groups(evaluation), *_left_out(evaluation)]
    lines += [f"region     {evaluation.outside_roi.words}"] if evaluation.outside_roi else []
    if evaluation.n_good and evaluation.n_anomalous:
        lines += [*_measures(evaluation), *_comparisons(evaluation)]
    else:
        lines.append(f"image      no AUROC: it needs good and anomalous images, and these are {counts}")
        lines += _pixel_measures(evaluation) if evaluation.pixel else []
    if evaluation.calibration is not None:
        lines.append(
            f"threshold  {evaluation.threshold:.4g}: {_percent(evaluation.realised_false_alarm_rate)} false alarms "
            f"(wanted {_percent(evaluation.calibration.false_alarm_rate)}), {_percent(evaluation.missed_rate)} missed"
        )
        lines += _f1_at_threshold(evaluation)
    if evaluation.drift is not None:
        lines.append(f"drift      {evaluation.drift.text}")
    lines.append(f"time       {evaluation.seconds_per_image:.3f} s per image")
    lines += [f"report     {report}"] if report else []
    if passed_over := from_records(evaluation.left_out) + unreadable(evaluation.skipped):
        n_scored = evaluation.n_good + evaluation.n_anomalous
        lines.append(f"total      {n_scored} scored, {counted(passed_over)}")
    return "\n".join(lines)


def _groups(evaluation: "Evaluation") -> list[str]:
    """What the intervals are over, if not over images."""
    if evaluation.n_groups is None:
        return []
    by = f" ({evaluation.grouped_by})" if evaluation.grouped_by else ""
    return [f"groups     {plural(evaluation.n_groups, 'group')}{by}: the intervals are over groups, not over images"]


def _left_out(evaluation: "Evaluation") -> list[str]:
    """What is not in the numbers, or not in all of them, and remarks on the files behind them."""
    passed_over = left_out_lines(from_records(evaluation.left_out), Path(evaluation.root))
    lines = [f"left out   {line}" for line in passed_over]
    if skipped := evaluation.skipped:
        lines.append(f"left out   {len(skipped)} unreadable, first: {skipped[0].key} ({skipped[0].reason})")
    if without := evaluation.without_truth:
        counts = f"{len(without)} of {evaluation.n_anomalous} anomalous images have no mask, first: {without[0]}"
        lines.append(f"no mask    {counts}; they count for image measures only")
    return lines + [f"remark     {line}" for line in remark_lines(evaluation.remarks)]


def _measures(evaluation: "Evaluation") -> list[str]:
    image = evaluation.image
    lines = [
        f"image      AUROC {_interval(image['auroc'])}  by {evaluation.image_score}",
        f"           AP {_interval(image['ap'])}, F1-max {_interval(image['f1_max'])}, "
        f"FPR at 95 % TPR {_interval(image['fpr_at_95_tpr'])}",
        *_pixel_measures(evaluation),
    ]
    lines += [_block_line(kind, f"n={block.n_anomalous}", block) for kind, block in evaluation.by_kind.items()]
    lines += [
        _block_line(stratum, f"n={block.n_good + block.n_anomalous} ({block.n_anomalous} anomalous)", block)
        for stratum, block in evaluation.by_stratum.items()
    ]
    lines += [
        _block_line(f"{size} defects", f"n={block.n_anomalous}", block) for size, block in evaluation.by_size.items()
    ]
    return lines


def _pixel_measures(evaluation: "Evaluation") -> list[str]:
    pixel, size = evaluation.pixel, evaluation.evaluation_size_px
    if not pixel:
        return ["pixel      no AUROC: no image has ground truth for its pixels"]
    resolution = f" at {size} x {size} px" if size else ""
    return [
        f"pixel      AUROC {_interval(pixel['auroc'])}  on {evaluation.n_pixel_images} images{resolution}",
        f"           AP {_interval(pixel['ap'])}, F1-max {_interval(pixel['f1_max'])}, "
        f"AUPRO at 30 % {_interval(pixel['aupro_30'])}, at 5 % {_interval(pixel['aupro_05'])}",
        *_saturated(evaluation),
    ]


def _saturated(evaluation: "Evaluation") -> list[str]:
    """The overlap that saturates, of each kind and their mean; nothing for data without it."""
    lines = []
    for name, limit in (("au_spro_30", "30 %"), ("au_spro_05", "5 %")):
        values = {kind: (block.pixel or {}).get(name) for kind, block in evaluation.by_kind.items()}
        kinds = ", ".join(f"{kind} {_interval(value)}" for kind, value in values.items() if value)
        if kinds:
            mean = _number(evaluation.mean_over_kinds(name))
            lines.append(f"           AU-sPRO at {limit} {mean}, the mean of {kinds}")
    return lines


def _f1_at_threshold(evaluation: "Evaluation") -> list[str]:
    """F1 of the verdicts on images, and of pixels above the map's threshold; and what regions above it are worth."""
    of_images, of_pixels = (
        (measures or {}).get("f1_at_threshold") for measures in (evaluation.image, evaluation.pixel)
    )
    found = [f"images {_interval(of_images)}"] if of_images else []
    found += [f"pixels {_interval(of_pixels)}"] if of_pixels else []
    lines = [f"           F1 at this threshold and the map's: {', '.join(found)}"] if found else []
    if precision := (evaluation.pixel or {}).get("region_precision"):
        lines.append(f"           regions above the map's threshold that touch a defect: {_interval(precision)}")
    return lines


def _block_line(name: str, number: str, block: "Block") -> str:
    image, pixel = (_number_and_interval((measures or {}).get("auroc")) for measures in (block.image, block.pixel))
    return f"  {name:<14} {number:<6} image {image}  pixel {pixel}"


def _number_and_interval(measure: "Measure | None") -> str:
    """As :func:`_interval`, without a word where there is none."""
    return "-" if measure is None else _interval(measure) if measure.low is not None else _number(measure.value)


def _comparisons(evaluation: "Evaluation") -> list[str]:
    """What several scales and the vote are worth, by the same images."""
    scores, single, count = evaluation.image_scores, evaluation.single_scale, len(evaluation.per_scale)
    if "vote" not in scores or single is None:
        return [
            f"score      image {_number(scores['mean_logit'])}, the map's peak instead {_number(scores['map_max'])}"
        ]
    all_scales = f"all {count} scales" if count > 1 else "all scales (1)"
    return [
        f"scales     {single.size_px} px alone: image {_number(single.image_auroc)}  "
        f"pixel {_number(single.pixel_auroc)};  {all_scales}: image {_number(scores['mean_logit'])}  "
        f"pixel {_number(evaluation.pixel_auroc)}  (image by mean logit)",
        f"score      vote {_number(scores['vote'])}, vote then mean logit {_number(scores['vote_mean'])}, "
        f"mean logit {_number(scores['mean_logit'])}, map's peak {_number(scores['map_max'])}",
    ]


def _interval(measure: "Measure | None") -> str:
    if measure is None:
        return "-"
    few = measure.low is None or measure.high is None
    interval = "(too few images for an interval)" if few else f"[{measure.low:.3f}, {measure.high:.3f}]"
    return f"{measure.value:.3f} {interval}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

"""flawmap evaluate RUN DATA."""

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_data_arguments, add_device_argument, add_json_argument


def add_arguments(parser: ArgumentParser) -> None:
    """RUN, DATA and options."""
    parser.add_argument("run", type=str, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("data", type=str, help="labelled data: MVTec AD folder, manifest.csv, or elpv")
    parser.add_argument("--set", type=str, action="append", default=[], metavar="data.B=C", help="how the data is read")
    parser.add_argument(
        "--output", type=str, default=None, help="folder for metrics and maps (default: RUN/evaluation)"
    )
    add_data_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Evaluate; prints the metrics."""
    metrics = evaluate_run(
        Path(arguments.run),
        arguments.data,
        arguments.set,
        arguments.output,
        arguments.skip_unreadable,
        arguments.device,
    )
    print(json.dumps(metrics) if arguments.json else summary(metrics))
    return 0


def evaluate_run(
    run_path: Path,
    location: str,
    overrides: list[str],
    output: str | None = None,
    skip_unreadable: bool = False,
    device: Any = "auto",
) -> dict[str, Any]:
    """Evaluate a run and write its report; an earlier evaluation is kept under another name."""
    from flawmap.cli.arguments import free_path
    from flawmap.cli.progress_line import ProgressLine
    from flawmap.data.checks import check_test_data
    from flawmap.data.open_data import open_test_data
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.evaluate import evaluate
    from flawmap.recipe_files import load_recipe, to_yaml
    from flawmap.report.html import write_report
    from flawmap.report.sheet import write_sheet

    detector = AnomalyDetector.from_pretrained(run_path, device)
    settings = load_recipe(None, [*_data_settings(to_yaml(detector.recipe)), *overrides]).data
    data = check_test_data(open_test_data(location, settings), skip_unreadable)
    is_run = (run_path / "model").is_dir()
    folder = Path(output) if output else (run_path / "evaluation" if is_run else None)
    if folder is not None and folder.exists():
        folder.rename(free_path(folder.with_name(f"{folder.name}-earlier")))
    command = "flawmap " + " ".join(sys.argv[1:])
    metrics = evaluate(detector, data, folder, command, ProgressLine("evaluate"))
    if is_run and not output:
        write_sheet(run_path)
        write_report(run_path)
    return metrics


def _data_settings(recipe_yaml: str) -> list[str]:
    """The run's own data settings as overrides, so that ``--set data.x=y`` goes on top of them."""
    import yaml

    values = yaml.safe_load(recipe_yaml)["data"]
    return [f"data.{name}={json.dumps(value)}" for name, value in values.items()]


def summary(metrics: dict[str, Any]) -> str:
    """The metrics for people."""
    lines = [
        f"data       {metrics['data']}: {metrics['n_good']} good, {metrics['n_anomalous']} anomalous",
        f"image      AUROC {_number(metrics['image_auroc'])}  by {metrics['image_score']}",
        f"pixel      AUROC {_number(metrics['pixel_auroc'])}  on {metrics['n_pixel_images']} images",
    ]
    for name in ("per_kind", "groups"):
        for kind, values in metrics[name].items():
            lines.append(
                f"  {kind:<14} n={values['n']:<4} image {_number(values['image_auroc'])}  "
                f"pixel {_number(values['pixel_auroc'])}"
            )
    if metrics["threshold"] is not None:
        lines.append(
            f"threshold  {metrics['threshold']:.4g}: {_percent(metrics['realised_false_alarm_rate'])} false alarms "
            f"(wanted {_percent(metrics['false_alarm_rate'])}), {_percent(metrics['missed_rate'])} missed"
        )
    lines.append(f"time       {metrics['seconds_per_image']:.3f} s per image")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

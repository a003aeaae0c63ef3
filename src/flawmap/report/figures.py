"""``figures/``: every figure of a run as an SVG file of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError
from flawmap.report import charts
from flawmap.report.collapse import num_prototypes
from flawmap.report.feature_map import embed, feature_figure
from flawmap.report.figure import Figure, Label, Part, Place
from flawmap.report.picture_figures import localization_figure, simulation_figure, training_figure
from flawmap.report.rate_curves import RateChart, rate_charts
from flawmap.report.run_files import RunFiles, read_run
from flawmap.report.score_chart import score_chart
from flawmap.reproducibility import atomic_write_text

FOLDER = "figures"
_CURVE = (300.0, 128.0)  # width and height of a training curve with its title


@dataclass(frozen=True)
class Features:
    """What the encoder says of some test images before any projection head.

    Attributes:
        vectors: float32 (n, d).
        kinds: of length n; "good" for good pictures.
    """

    vectors: NDArray[np.float32]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """The files that were written, and for each figure that was not, why."""

    paths: tuple[Path, ...]
    missing: dict[str, str]


def write_figures(run: Path, features: Features | None = None, why_no_features: str = "no features") -> Written:
    """Writes ``RUN/figures/*.svg``; what the run cannot show is left out and named.

    Args:
        run: a run folder.
        features: of test images, for the t-SNE.
        why_no_features: said where ``features`` is None.

    Raises:
        UserError: the folder is no run, or one of its files is malformed.
    """
    files = read_run(run)
    folder = files.run / FOLDER
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("curves_*.svg"):  # of stages that an earlier training had
        stale.unlink()
    figures, missing = _figures(files), {}
    try:
        figures["features"] = None if features is None else feature_figure(embed(features.vectors), features.kinds)
        reason = why_no_features
    except UserError as error:
        figures["features"], reason = None, f"{error.problem}: {error.remedy}"
    paths = []
    for name, figure in figures.items():
        if figure is None:
            missing[name] = reason if name == "features" else _WHY_MISSING[name]
            (folder / f"{name}.svg").unlink(missing_ok=True)  # of an earlier evaluation
            continue
        path = folder / f"{name}.svg"
        atomic_write_text(path, figure.svg())
        paths.append(path)
    return Written(tuple(paths), missing)


_WHY_MISSING = {
    "training": "the run holds no samples",
    "simulated_defects": "the run holds no samples",
    "localization": "no test picture with map, ground truth and the picture itself",
    "scores": "no test scores, or no threshold",
    "curves": "the run holds no log of training",
    "roc_images": "needs scores of good and anomalous test pictures",
    **dict.fromkeys(("roc_pixels", "precision_recall", "pro"), "no ground truth for pixels, or an older evaluation"),
}


def _figures(files: RunFiles) -> dict[str, Figure | None]:
    k = num_prototypes(files.recipe)
    curves = charts.curves_of(files.log, None if k is None else math.log(k))
    rates = rate_charts(files)
    return {
        "training": training_figure(files),
        "simulated_defects": simulation_figure(files),
        "localization": localization_figure(files),
        "scores": _scores_figure(files),
        **(
            {f"curves_{stage}": curves_figure(stage, of_stage) for stage, of_stage in curves.items()}
            or {"curves": None}
        ),
        **{
            name: rate_figure(name, rates[name]) if name in rates else None
            for name in ("roc_images", "roc_pixels", "precision_recall", "pro")
        },
    }


def _scores_figure(files: RunFiles) -> Figure | None:
    scores = score_chart(files)
    if scores is None:
        return None
    chart, height = scores["chart"], scores["chart"].bottom + 40
    words, is_left = f"threshold {scores['data']['threshold']:.4g}", chart.threshold_x < 360
    x = chart.threshold_x + (6 if is_left else -6)
    return Figure(
        "scores",
        "Scores of the test pictures",
        720.0,
        height,
        (Part("histogram", scores, Place(0.0, 0.0, 720.0, height)),),
        (Label(words, x, chart.bottom - 6, "" if is_left else "end"),),
    )


def curves_figure(stage: str, curves: Sequence[charts.Curve]) -> Figure:
    """All logged quantities of a stage, three in a row; a dashed line is where a collapsed model would be."""
    width, height = _CURVE
    parts, labels = [], []
    for i, curve in enumerate(curves):
        x, y = 10.0 + (i % 3) * (width + 20), 10.0 + (i // 3) * (height + 16)
        parts.append(Part("curve", curve, Place(x, y + 18, width, height - 22)))
        labels.append(Label(curve.name, x, y + 12, "heading"))
        labels.append(Label(f"end {curve.last}", x + width - 4, y + 12, "end"))
    rows, columns = math.ceil(len(curves) / 3), min(3, len(curves))
    title = f"Curves. {charts.STAGE_TITLES.get(stage, stage)}"
    return Figure(
        f"curves_{stage}", title, columns * (width + 20), rows * (height + 16) + 10, tuple(parts), tuple(labels)
    )


def rate_figure(name: str, chart: RateChart) -> Figure:
    """One ROC, precision-recall or PRO curve."""
    width, height = 326.0, chart.size + 56
    labels = (Label(chart.title, 60.0, 18.0, "heading strong"), Label(chart.summary, width - 20, 18.0, "end heading"))
    part = Part("rates", chart, Place(8.0, 26.0, width - 16, height))
    return Figure(name, f"{chart.title}, {chart.summary}", width, height + 30, (part,), labels)

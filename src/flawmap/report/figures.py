"""``figures/``: the figures of a run for papers and slides, as SVG files drawn by matplotlib.

This module chooses what a figure shows; :mod:`flawmap.report.plots` draws it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError
from flawmap.extras import needs
from flawmap.report.curves import rate_curves, training_curves
from flawmap.report.plots import STYLE, curves_figure, features_figure, image_grid, rate_figure, scores_figure
from flawmap.report.run_files import RunFiles, read_run
from flawmap.report.thumbnails import read_truth, sample_images, tiles_of
from flawmap.report.training_words import num_prototypes
from flawmap.runs.evaluation import ScoredImage
from flawmap.runs.samples import SampleRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"
_RATES = ("roc_images", "roc_pixels", "precision_recall", "pro")
_MAX_SAMPLES = 4  # rows of the figure of training
_MAX_SIMULATED = 6
_MAX_LOCALIZED = 10
_TILE_PX = 220


@dataclass(frozen=True)
class Features:
    """What the encoder gives for some test images, before any projection head.

    Attributes:
        vectors: float32 (n, d).
        kinds: of length n; "good" for good images.
    """

    vectors: NDArray[np.float32]
    kinds: tuple[str, ...]


def write_figures(run: Path, features: Features | str = "no features") -> dict[str, Path | str]:
    """Write ``RUN/figures/*.svg``; files of figures that the run has no data for are removed.

    Args:
        run: a run folder.
        features: of test images, for the t-SNE; or the reason why there are none.

    Returns:
        the file of each figure, or the reason why there is none.

    Raises:
        UserError: matplotlib is not installed, the folder is not a run folder, or one of its files is damaged.
    """
    with needs("matplotlib", "--figures"):
        from matplotlib import rc_context
    files = read_run(run)
    folder = files.run / FOLDER
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.svg"):
        stale.unlink()
    written: dict[str, Path | str] = {}
    with rc_context(STYLE):
        for name, figure in draw_figures(files, features).items():
            written[name] = figure if isinstance(figure, str) else folder / f"{name}.svg"
            if not isinstance(figure, str):
                figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return written


def draw_figures(files: RunFiles, features: Features | str) -> "dict[str, Figure | str]":
    """Each figure by name, or the reason why this run has none."""
    k = num_prototypes(files.recipe)
    curves = training_curves(files.log, None if k is None else math.log(k))
    rates = rate_curves(files)
    figures: dict[str, Figure | str] = {
        "training": training_figure(files.samples),
        "simulated_defects": simulation_figure(files.samples),
        "localization": localization_figure(files),
        "scores": scores_figure(files.images, files.threshold),
    }
    figures |= {f"curves_{stage}": curves_figure(stage, of_stage) for stage, of_stage in curves.items()}
    if not curves:
        figures["curves"] = "the run has no training log"
    for name in _RATES:
        needs = "good and anomalous test images" if name == "roc_images" else "test images with ground truth for pixels"
        figures[name] = rate_figure(rates[name]) if name in rates else f"needs {needs}"
    try:
        figures["features"] = (
            features if isinstance(features, str) else features_figure(features.vectors, features.kinds)
        )
    except UserError as error:
        figures["features"] = f"{error.problem}: {error.remedy}"
    return figures


def training_figure(samples: Sequence[SampleRow]) -> "Figure | str":
    """Image, attention, masked view and simulated defect of good images (the paper's Fig. 1)."""
    if not samples:
        return "the run has no samples"
    titles = {"input": "image", "attention": "attention", "masked": "masked view", "simulated": "simulated defect"}
    rows = []
    for sample in samples[:_MAX_SAMPLES]:
        images, footprint = _sample(sample)
        rows.append([(images.get(name), footprint if name == "simulated" else None) for name in titles])
    return image_grid(rows, list(titles.values()))


def simulation_figure(samples: Sequence[SampleRow]) -> "Figure | str":
    """Simulated defects above the masks of where pixels changed (the paper's Fig. 4b)."""
    columns = []
    for sample in samples[:_MAX_SIMULATED]:
        images, footprint = _sample(sample)
        if footprint is not None and "simulated" in images:
            mask = np.repeat(footprint[..., None], 3, axis=2).astype(np.uint8) * np.uint8(255)
            columns.append(((images["simulated"], None), (mask, None)))
    if not columns:
        return "the run has no samples with simulated defects"
    return image_grid([list(row) for row in zip(*columns, strict=True)], row_titles=["simulated", "mask"])


def localization_figure(files: RunFiles) -> "Figure | str":
    """Images, maps and overlays with the outline of the ground truth (the paper's Fig. 4a).

    How well an image turned out has no influence on whether it is shown: see :func:`spread_over_kinds`.
    """
    if files.evaluation is None:
        return "the run has not been evaluated"
    scale, columns, titles = files.test_scale, [], []
    for image in spread_over_kinds(files.images, _MAX_LOCALIZED):
        tiles = tiles_of(image, files.evaluation.map_scale, scale, _TILE_PX, files.roi_of(image))
        if image.truth_file is not None and "overlay" in tiles:
            truth = read_truth(image.truth_file, *tiles["image"].shape[:2])
            columns.append([(tiles[name], truth) for name in ("image", "map", "overlay")])
            titles.append(image.kind)
    if not columns:
        return "no test image has a map, ground truth and its original file"
    rows = [list(row) for row in zip(*columns, strict=True)]
    return image_grid(rows, titles, ["image", "anomaly map", "overlay"], scale)


def spread_over_kinds(images: Sequence[ScoredImage], count: int) -> list[ScoredImage]:
    """Images with ground truth, the same number of each kind, from low to high scores within the kind.

    One image of a kind is the one in the middle of its scores; two are at a quarter and at three quarters; and so on.

    Args:
        images: all test images.
        count: how many to choose at most; kinds beyond it in alphabetical order are left out.
    """
    by_kind: dict[str, list[ScoredImage]] = {}
    for image in sorted(images, key=lambda image: (image.kind, image.score, image.key)):
        if image.truth_file is not None and image.map_file is not None:
            by_kind.setdefault(image.kind, []).append(image)
    each = max(1, count // max(1, len(by_kind)))
    chosen = []
    for candidates in list(by_kind.values())[:count]:
        n = min(each, len(candidates))
        chosen += [candidates[int((i + 0.5) / n * len(candidates))] for i in range(n)]
    return chosen


def _sample(sample: SampleRow) -> tuple[Mapping[str, NDArray[np.uint8]], NDArray[np.bool_] | None]:
    """The images of a sample with nothing drawn on them, and the footprint of its simulated defect."""
    images = sample_images(sample, None, _TILE_PX, outline=False)
    if "footprint" not in sample.files or "simulated" not in images:
        return images, None
    height, width = images["simulated"].shape[:2]
    return images, read_truth(sample.files["footprint"], height, width)

"""How figures are drawn by matplotlib, which comes with the extra ``figures`` and is imported only to draw one."""

import math
from collections.abc import Sequence
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flawmap.advice import install
from flawmap.drawing.axes import add_colour_bar
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.overlay import TRUTH_GREEN
from flawmap.errors import UserError
from flawmap.report.charts import HISTOGRAM_BINS, axis_of
from flawmap.report.curves import STAGE_TITLES, RateCurve, TrainingCurve
from flawmap.runs.evaluation import ScoredImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TILE_INCHES = 1.35
_PERPLEXITY = 30.0
_GOOD, _BAD, _BLUE, _INK, _FAINT, _RULE = "#0b7a75", "#c2410c", "#1d4ed8", "#16202e", "#4b5565", "#e3e7ed"
_GREEN = tuple(level / 255 for level in TRUTH_GREEN)
# Okabe and Ito's colours (2008), which the colour-blind can tell apart; good images are gray
_KIND_COLOURS = ("#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#000000")
_KIND_MARKERS = "os^vDP"  # after seven kinds, the colours begin again with another marker
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.axisbelow": True,
    "axes.edgecolor": _FAINT,
    "axes.grid": True,
    "axes.labelcolor": _FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flawmap",  # the same run gives the same file
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
}


Tile = tuple[NDArray[np.uint8] | None, NDArray[np.bool_] | None]  # an image and the mask that is outlined on it


def scores_figure(images: Sequence[ScoredImage], threshold: float | None) -> "Figure | str":
    """Scores of good images upwards and of anomalous ones downwards, each as a share of its class."""
    if not images or threshold is None:
        return "needs test scores and a threshold"
    axis = axis_of([image.score for image in images], threshold)
    edges = np.linspace(axis.low, axis.high, HISTOGRAM_BINS + 1)
    figure, axes = _new_figure(6.4, 3.0)
    ends = [0.0, 0.0]
    for is_anomalous, name, colour in ((False, "good", _GOOD), (True, "anomalous", _BAD)):
        scores = [image.score for image in images if image.is_anomalous == is_anomalous]
        if not scores:
            continue
        shares = np.histogram(scores, edges)[0] / len(scores) * (-100 if is_anomalous else 100)
        axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=colour, edgecolor="white", linewidth=0.5)
        ends[is_anomalous] = 1.3 * shares[np.abs(shares).argmax()]
        y, vertical = (0.02, "bottom") if is_anomalous else (0.98, "top")
        label = f"{name} ({len(scores)})"
        axes.text(0.995, y, label, color=colour, weight="bold", ha="right", va=vertical, transform=axes.transAxes)
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    axes.axvline(threshold, color=_INK)
    axes.axvspan(threshold, axis.high, color=_BAD, alpha=0.07, linewidth=0)
    place = (threshold - axis.low) / (axis.high - axis.low)
    axes.set_title(f"threshold {threshold:.4g}", x=place, loc="center", size=8.5)
    axes.set(xlim=(axis.low, axis.high), ylim=(ends[1], ends[0]), xlabel="score", ylabel="share of the class")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g} %")
    axes.grid(axis="x", visible=False)
    return figure


def curves_figure(stage: str, curves: Sequence[TrainingCurve]) -> "Figure":
    """All logged quantities of a stage, three in a row; a dashed line is the value of a collapsed model."""
    n_rows, n_columns = math.ceil(len(curves) / 3), min(3, len(curves))
    figure, grid = _new_grid(n_rows, n_columns, 2.6 * n_columns, 0.3 + 1.45 * n_rows)
    figure.suptitle(STAGE_TITLES.get(stage, stage), x=0.01, ha="left", color=_INK, weight="bold", size=10)
    for axes, curve in zip(grid.flat, curves, strict=False):
        is_smoothed = curve.smooth_values.size > 0
        axes.plot(
            curve.steps, curve.values, color=_BLUE, alpha=0.3 if is_smoothed else 1, lw=0.8 if is_smoothed else None
        )
        axes.plot(curve.smooth_steps, curve.smooth_values, color=_BLUE)
        if curve.collapsed is not None:
            axes.axhline(curve.collapsed, color=_BAD, linestyle=(0, (4, 3)), linewidth=1.1)
        axes.set_title(curve.name)
        axes.set_title(f"{curve.end:.3g}", loc="right", color=_FAINT, size=8.5)
        axes.locator_params(nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("step")
    return figure


def rate_figure(curve: RateCurve) -> "Figure":
    """One ROC, precision-recall or PRO curve with its area."""
    figure, axes = _new_figure(3.3, 3.3)
    axes.plot((0, curve.x_limit), curve.guess, color=_FAINT, linestyle=(0, (4, 3)), linewidth=1)
    axes.plot(curve.points[:, 0], curve.points[:, 1], color=_BLUE)
    axes.set(xlabel=curve.x_title, ylabel=curve.y_title, xlim=(0, curve.x_limit), ylim=(0, 1))
    axes.set_box_aspect(1)
    axes.set_title(curve.title, weight="bold", pad=18)
    axes.text(0, 1.025, curve.summary, color=_FAINT, transform=axes.transAxes)
    return figure


def embed(features: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton 2008) by scikit-learn, started from the principal components.

    Args:
        features: (n, d), n at least 4.
        seed: the same seed gives the same result.

    Returns:
        (n, 2).

    Raises:
        UserError: scikit-learn is not installed, or there are too few features.
    """
    if len(features) < 4:
        raise UserError(f"t-SNE needs at least 4 images, has {len(features)}", "figures/features", "add test images")
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError(
            "t-SNE needs scikit-learn, which is not installed", "figures/features", install("figures")
        ) from error
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features), np.float64)


def features_figure(vectors: NDArray[np.float32], kinds: Sequence[str]) -> "Figure":
    """t-SNE of the features, good images in gray below each kind of defect in a colour (the paper's Fig. 5).

    Args:
        vectors: (n, d).
        kinds: of length n; "good" for good images.

    Raises:
        UserError: as of :func:`embed`.
    """
    places = embed(vectors)
    figure, axes = _new_figure(5.6, 4.0)
    looks = {"good": ("o", "#9aa4b2")} if "good" in kinds else {}
    defects = sorted(set(kinds) - {"good"})
    looks |= dict(zip(defects, cycle(product(_KIND_MARKERS, _KIND_COLOURS)), strict=False))
    for kind, (marker, colour) in looks.items():
        x, y = places[np.array(kinds) == kind].T
        label = f"{kind} ({len(x)})"
        axes.scatter(x, y, 22, colour, marker=marker, alpha=0.85, edgecolors="white", linewidths=0.5, label=label)
    axes.set_aspect("equal", "datalim")
    axes.set(xticks=[], yticks=[])
    axes.set_title("t-SNE of the features before the projection head", weight="bold")
    axes.spines[:].set(visible=True, color=_RULE)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.2)
    return figure


def image_grid(
    rows: Sequence[Sequence[Tile]],
    titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    scale: ColourScale | None = None,
) -> "Figure":
    """Images in rows and columns, each row as high as its highest image, with a colour bar below where there is one."""
    heights = [max((i.shape[0] / max(i.shape[:2]) for i, _ in row if i is not None), default=1.0) for row in rows]
    width = _TILE_INCHES * len(rows[0]) + (0.25 if row_titles else 0)
    height = _TILE_INCHES * sum(heights) + (0.25 if titles else 0) + (0.65 if scale else 0)
    figure, grid = _new_grid(len(rows), len(rows[0]), width, height, heights)
    for y, row in enumerate(rows):
        for x, (image, mask) in enumerate(row):
            axes = grid[y, x]
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if image is not None:
                axes.imshow(image, interpolation="none")
            if mask is not None and mask.any() and not mask.all():
                axes.contour(mask, [0.5], colors=[_GREEN], linewidths=1.2)
            if y == 0 and titles:
                axes.set_title(titles[x], loc="center")
            if x == 0 and row_titles:
                axes.set_ylabel(row_titles[y])
    if scale is not None:
        add_colour_bar(figure, grid, scale, anchor=(0, 0), aspect=18, shrink=min(1, 3 / len(rows[0])))
    return figure


def _new_figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure of some inches with one plot."""
    figure, grid = _new_grid(1, 1, width, height)
    return figure, grid[0, 0]


def _new_grid(
    n_rows: int, n_columns: int, width: float, height: float, height_ratios: Sequence[float] | None = None
) -> "tuple[Figure, NDArray[Any]]":
    """A figure of some inches with a grid of plots, and these as an array (n_rows, n_columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, height_ratios=height_ratios)

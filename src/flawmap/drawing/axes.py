"""A verdict as a plot by matplotlib, which comes with the extra ``figures`` and is imported only to draw one."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flawmap.drawing.colour import ColourScale, colour_table
from flawmap.drawing.verdict_picture import Verdict, marked, score_words, verdict_of
from flawmap.extras import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def plot_verdict(
    image: NDArray[np.uint8],
    detection: Verdict,
    scale: ColourScale,
    min_area_px: float = 0.0,
    axes: "Axes | None" = None,
) -> "Axes":
    """The image with map and outline, verdict and score above it, and the colours of the map below it.

    Args:
        image: uint8 (h, w, 3).
        detection: of this image.
        scale: the model's colour scale; its middle is the map's threshold.
        min_area_px: regions with fewer pixels have no outline.
        axes: to draw into; None makes a figure of its own.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with needs("matplotlib", "a plot"):
        import matplotlib.pyplot as plt  # not only Figure: a notebook shows what pyplot has made
    if axes is None:
        axes = plt.subplots(layout="constrained")[1]
    axes.imshow(marked(image, detection, scale, min_area_px), interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{verdict_of(detection)}: {score_words(detection)}")
    add_colour_bar(axes.figure, axes, scale, aspect=30, shrink=0.8)
    return axes


def add_colour_bar(figure: "Figure | SubFigure", axes: Any, scale: ColourScale, **layout: Any) -> None:
    """Add the colours of a map below one or several axes, with its ends and its threshold; ``layout`` as matplotlib."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    ends = (f"{scale.low:.4g}\nnormal", f"{scale.threshold:.4g}\nthreshold", f"{scale.high:.4g}\nanomalous")
    colours = ScalarMappable(cmap=ListedColormap(colour_table() / 255))
    bar = figure.colorbar(colours, ax=axes, location="bottom", **layout)
    bar.set_ticks([0, 0.5, 1], labels=ends)
    bar.outline.set_visible(False)

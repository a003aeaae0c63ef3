"""What a figure of ``figures/`` is made of: labels and placed parts, drawn by the template ``figure.svg``."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flawmap.report.pictures import data_uri
from flawmap.report.templates import page_template


@dataclass(frozen=True)
class Place:
    """A rectangle of the figure in SVG units."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """A line of text; ``kind`` holds the classes of the template's style."""

    text: str
    x: float
    y: float
    kind: str = "mid"


@dataclass(frozen=True)
class Panel:
    """A picture with an outline in its own pixels; see :func:`outline_of`."""

    uri: str
    width: int
    height: int
    outline: str = ""


@dataclass(frozen=True)
class Part:
    """Something to draw, and where."""

    kind: Literal["histogram", "curve", "rates", "scatter", "bar", "picture"]
    content: Any
    place: Place


@dataclass(frozen=True)
class Figure:
    """A whole figure; ``name`` is its file's without the suffix."""

    name: str
    title: str
    width: float
    height: float
    parts: tuple[Part, ...]
    labels: tuple[Label, ...] = ()

    def svg(self) -> str:
        """The text of the SVG file; it loads nothing."""
        return page_template("figure.svg").render(figure=self).strip() + "\n"


def panel_of(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Panel:
    """A uint8 (h, w, 3) picture, with the outline of a bool (h, w) mask over it."""
    return Panel(data_uri(image, quality=90), image.shape[1], image.shape[0], "" if mask is None else outline_of(mask))


def outline_of(mask: NDArray[np.bool_]) -> str:
    """The outline of a mask along the edges of its pixels, as the ``d`` of an SVG path.

    The picture's border is no outline: a region that it cuts off stays open there.

    Args:
        mask: bool (h, w).

    Returns:
        horizontal and vertical pieces, each as long as it can be; "" for a mask without an outline.
    """
    below = mask[1:] != mask[:-1]  # an edge between row i and row i + 1
    beside = mask[:, 1:] != mask[:, :-1]
    pieces = [f"M{start} {row + 1}h{length}" for row, start, length in _runs(below)]
    pieces += [f"M{column + 1} {start}v{length}" for column, start, length in _runs(beside.T)]
    return "".join(pieces)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, first column, length) of each run of True."""
    padded = np.pad(flags, ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(padded, axis=1)
    starts, ends = np.argwhere(changes == 1), np.argwhere(changes == -1)
    return [(int(row), int(first), int(end - first)) for (row, first), (_, end) in zip(starts, ends, strict=True)]

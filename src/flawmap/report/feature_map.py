"""Fig. 5: features before the projection head in two dimensions, the good pictures and each kind of defect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flawmap.errors import UserError
from flawmap.report.figure import Figure, Part, Place

# Okabe and Ito's colours (2008), which the colour-blind tell apart, then Tol's muted ones; good pictures are gray
_GOOD_COLOUR = "#9aa4b2"
_COLOURS = ("#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#000000")
_COLOURS += ("#332288", "#117733", "#999933", "#882255", "#44aa99", "#aa4499", "#661100")
_SIZE, _LEGEND, _ROOM = 420.0, 190.0, 10.0
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Group:
    """The points of one kind in SVG units."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scatter:
    """All groups, the good pictures first, so that no defect is hidden by them; ``size`` is where the points end."""

    n: int
    size: float
    width: float
    height: float
    groups: tuple[Group, ...]


def embed(features: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """t-SNE (van der Maaten and Hinton 2008) as scikit-learn computes it, started from the principal components.

    Args:
        features: (n, d), n at least 4.
        seed: the same seed gives the same picture.

    Returns:
        (n, 2).

    Raises:
        UserError: scikit-learn is not installed, or there are too few features.
    """
    if len(features) < 4:
        raise UserError(
            f"t-SNE needs at least 4 pictures, has {len(features)}", "figures/features", "add test pictures"
        )
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError(
            "t-SNE needs scikit-learn, which is not installed", "figures/features", "pip install 'flawmap[figures]'"
        ) from error
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features), np.float64)


def feature_figure(places: NDArray[np.float64], kinds: Sequence[str]) -> Figure:
    """A scatter plot of embedded features.

    Args:
        places: (n, 2), of :func:`embed`.
        kinds: of length n; "good" for good pictures.
    """
    extent = np.ptp(places, axis=0)
    scaled = _ROOM + (places - places.min(axis=0)) / max(float(extent.max()), 1e-12) * (_SIZE - 2 * _ROOM)
    right, bottom = (float(end) for end in scaled.max(axis=0) + _ROOM)  # a long cloud gets a long figure
    names = sorted(set(kinds), key=lambda kind: (kind != "good", kind))
    groups = []
    for name in names:
        colour = _GOOD_COLOUR if name == "good" else _COLOURS[(len(groups) - ("good" in names)) % len(_COLOURS)]
        members = [i for i, kind in enumerate(kinds) if kind == name]
        groups.append(Group(name, colour, tuple((round(float(x), 1), round(float(y), 1)) for x, y in scaled[members])))
    height = round(max(bottom, 30.0 + 20 * len(groups)), 1)
    scatter = Scatter(len(kinds), round(right, 1), round(right + _LEGEND, 1), height, tuple(groups))
    part = Part("scatter", scatter, Place(0.0, 0.0, scatter.width, scatter.height))
    return Figure("features", "t-SNE of features before the projection head", scatter.width, scatter.height, (part,))

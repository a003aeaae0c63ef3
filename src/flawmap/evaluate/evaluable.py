"""What an evaluation needs from a model: a detector has it, and so does an exported file without torch."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from flawmap.data.sample import LabelledImage
from flawmap.detect.products import Judging
from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import Calibration, MapScale


@runtime_checkable
class Analysed(Protocol):
    """What was computed for one image; see :class:`flawmap.detect.scoring.Analysis`."""

    @property
    def scales(self) -> Sequence[Any]:
        """One ``ScaleResult`` per test size; none of an exported file."""
        ...

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """(h, w) of the image; higher = more anomalous."""
        ...

    @property
    def scores(self) -> Mapping[str, float]:
        """All image scores by name."""
        ...

    @property
    def inside(self) -> NDArray[np.bool_] | None:
        """(h, w), the pixels in the region of interest; None: all."""
        ...


@runtime_checkable
class Evaluable(Protocol):
    """A model whose scores are measured."""

    @property
    def recipe(self) -> Recipe:
        """Which score decides, and the size of training."""
        ...

    @property
    def calibration_(self) -> Calibration | None:
        """The thresholds in use."""
        ...

    @property
    def judging(self) -> Judging:
        """By whose thresholds images are judged."""
        ...

    @property
    def score_names(self) -> tuple[str, ...]:
        """The image scores that it gives."""
        ...

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of its maps."""
        ...

    @property
    def device(self) -> str:
        """Where it computes."""
        ...

    @property
    def batch_size(self) -> int:
        """Images that share a forward pass."""
        ...

    def analyse_many(
        self, images: Sequence[NDArray[np.uint8]], places: Sequence[str], cameras: Sequence[str | None]
    ) -> Sequence[Analysed]:
        """Score images (h, w, 3), which errors call by their places, by the cameras that took them where known."""
        ...


@dataclass(frozen=True)
class ScoredFile:
    """What was computed for the file of an image: its EXIF orientation, 1 to 8, and how long scoring took."""

    analysis: Analysed
    orientation: int
    seconds: float


# scores images on other machines, each with one core of a processor or on a device of this kind, and gives the answers
# in the order of the images
AnalysesElsewhere = Callable[[Sequence[LabelledImage], str], Generator[ScoredFile, None, None]]

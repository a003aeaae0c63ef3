"""Methods of a few lines, for tests of what boards do with methods."""

from collections.abc import Sequence

import numpy as np

from flawmap.data.images.files import read_image
from flawmap.data.sample import NormalImage
from flawmap_bench.method import MethodSettings, ScoredImage


class Darkness:
    """Scores an image by how dark its darkest pixels are."""

    note = "a method for tests"

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def fit(self, images: Sequence[NormalImage]) -> None:
        self.count = len(images)

    def score(self, image: np.ndarray) -> ScoredImage:
        darkness = 255.0 - image.mean(axis=2).astype(np.float32)
        return ScoredImage(float(np.sort(darkness, axis=None)[-50:].mean()), darkness)

    def num_parameters(self) -> int:
        return self.count


class CalibratedDarkness(Darkness):
    """The same, with a score of each good image."""

    def fit(self, images: Sequence[NormalImage]) -> None:
        super().fit(images)
        wanted = images if self.settings.with_threshold else ()
        self.map_threshold = 0.5 if self.settings.with_threshold else None
        self.good_scores = [(self.score(read_image(image.path)).image_score, image.group) for image in wanted]


class Broken(Darkness):
    """Gives no number."""

    def score(self, image: np.ndarray) -> ScoredImage:
        return ScoredImage(float("nan"), None)

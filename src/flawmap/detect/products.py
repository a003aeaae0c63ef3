"""Which product an image shows, where nobody has named it, and by whose thresholds it is judged. Needs numpy alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from flawmap.detect.detection import APPEARANCE_DISTANCE, Detection, judge
from flawmap.detect.image_like import ImageLike
from flawmap.runs.calibration import Calibration
from flawmap.runs.cameras import Calibrations, command_for_camera, refuse_unknown_camera
from flawmap.runs.threshold_names import camera_in, nearest_name, product_in, products_in, threshold_name

if TYPE_CHECKING:
    from flawmap.detect.scoring import Analysis

OF_PRODUCT = f"{APPEARANCE_DISTANCE}:"  # begins the scores that say how unlike the good images of one product it looks
UNLIKE = 2.0  # times as unlike as the most unusual good image of a product: it shows none that the model knows


@dataclass(frozen=True)
class Choice:
    """What an image shows, and by what it is judged.

    Attributes:
        product: that was named or found; None where the model knows none, or the image looks like none.
        calibration: the thresholds; None before calibration, and of an unknown product.
        is_unknown_product: whether the image looks like no product that the model knows.
    """

    product: str | None
    calibration: Calibration | None
    is_unknown_product: bool = False


@dataclass(frozen=True)
class Judging:
    """By whose thresholds images are judged.

    Attributes:
        image_score: the name of the one that decides.
        calibration: of ``name``, or those that judge where it has none of its own; None before calibration.
        name: see :mod:`flawmap.runs.threshold_names`; None for the default.
        others: the thresholds of all products and cameras that have their own.
        min_area_px: see :func:`judge`.
    """

    image_score: str
    calibration: Calibration | None
    name: str | None = None
    others: Mapping[str, Calibration] = field(default_factory=dict)
    min_area_px: float = 0.0

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """All that an image may be judged by: of several products, those of each, and none."""
        judging = [self.calibration]
        if product_in(self.name) is None and (products := products_in(self.others)):
            judging += [*map(self.calibration_of, products), None]
        return tuple(dict.fromkeys(None if one is None else one.threshold for one in judging))

    def calibration_of(self, product: str) -> Calibration | None:
        """The thresholds of a product at the camera of ``name``: its own, or else those in use."""
        nearest = nearest_name(threshold_name(product, camera_in(self.name)), self.others)
        return self.calibration if nearest is None or product_in(nearest) is None else self.others[nearest]

    def product_of(self, scores: Mapping[str, float]) -> str | None:
        """The product that an image looks most like, of those that it may show; None where it is unlike all.

        Some products vary more than others. Whether an image may show one is therefore asked of the largest distance
        among its good images, each by a fit that has not seen it.

        Args:
            scores: of the image, with those of each product.
        """
        distances = {name.removeprefix(OF_PRODUCT): scores[name] for name in scores if name.startswith(OF_PRODUCT)}
        possible = [product for product in distances if distances[product] <= UNLIKE * self._largest_distance(product)]
        return min(possible, key=lambda product: distances[product], default=None)

    def _largest_distance(self, product: str) -> float:
        """Of good images of a product, or of all where it has too few; infinite where that is not known."""
        calibration = self.calibration_of(product)
        return max(calibration.appearance_distances, default=math.inf) if calibration else math.inf

    def named(self, product: str | None, camera: str | None) -> "Judging":
        """By the thresholds of a product and a camera, or those that judge where these have none of their own."""
        name = threshold_name(product or product_in(self.name), camera or camera_in(self.name))
        nearest = nearest_name(name, self.others)
        return replace(self, name=name, calibration=self.calibration if nearest is None else self.others[nearest])

    def choose(self, scores: Mapping[str, float]) -> Choice:
        """The product of an image and its thresholds, from its scores.

        Where the model knows several products and none of them is named, it is the one that the image looks most like.
        """
        product, known = product_in(self.name), {name for name in scores if name.startswith(OF_PRODUCT)}
        if not known or f"{OF_PRODUCT}{product}" in known:
            return Choice(product, self.calibration)
        if (product := self.product_of(scores)) is None:
            return Choice(None, None, is_unknown_product=True)
        return Choice(product, self.calibration_of(product))

    def verdict(self, analysis: "Analysis | Detection", image: ImageLike | None = None) -> Detection:
        """The verdict on an analysed image, or again on one that was judged; see :meth:`judge`."""
        return self.judge(analysis.scores, analysis.anomaly_map, analysis.inside, image)

    def judge(
        self,
        scores: Mapping[str, float],
        anomaly_map: np.ndarray,
        inside: np.ndarray | None = None,
        image: ImageLike | None = None,
    ) -> Detection:
        """The verdict on an image; see :func:`flawmap.detect.detection.judge`.

        Where the model knows several products and none is named, the image is judged by the thresholds of the one that
        it looks most like. One that looks like none has no threshold. It is called anomalous, so that it does not pass.
        """
        choice = self.choose(scores)
        verdict = judge(scores, self.image_score, anomaly_map, choice.calibration, inside, self.min_area_px, image)
        if choice.is_unknown_product:
            return replace(verdict, is_anomalous=True, is_unknown_product=True)
        return replace(verdict, product=choice.product)


def judging_by(name: str | None, calibrations: Calibrations, trained: Mapping[str, int], image_score: str) -> Judging:
    """By the thresholds of a product or camera, or those that judge where it has none of its own.

    Raises:
        UserError: the model does not know it.
    """
    known = calibrations.cameras
    remedy = command_for_camera("RUN", name) if name is not None else ""
    refuse_unknown_camera(name, known, "AnomalyDetector", remedy, trained)
    nearest = nearest_name(name, known)
    return Judging(image_score, calibrations.default if nearest is None else known[nearest], name, known)

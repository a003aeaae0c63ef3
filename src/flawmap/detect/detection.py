"""The verdict on one image. It needs neither torch nor OpenCV, as the machine that runs an exported model has none."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.detect.image_like import ImageLike, as_rgb, place_of
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.verdict_picture import as_png, verdict_picture
from flawmap.errors import UserError
from flawmap.metrics.defect_regions import number_regions
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

APPEARANCE_DISTANCE = "appearance_distance"  # among the image scores of models that remember good images
MAX_REGIONS = 50  # per image; the strongest are kept
DAMAGED_MODEL = "the model is damaged: copy it again, or train it again"


class NotScoredError(UserError):
    """The model gave an image a score or a map that is not finite, so there is no verdict on this image.

    Pixels are finite, so the fault lies in the model or in the machine, not in the image.
    """

    def at(self, image: object) -> "NotScoredError":
        """The same error with its place, for a caller that knows which image it was."""
        return NotScoredError(self.problem, str(image), self.remedy)


@dataclass(frozen=True)
class Region:
    """A connected part of the image above the map's threshold.

    Attributes:
        box_xyxy_px: left, top, right, bottom in pixels of the original image; right and bottom are exclusive.
        area_px: number of pixels.
        peak_score: highest map value inside.
    """

    box_xyxy_px: tuple[int, int, int, int]
    area_px: int
    peak_score: float


@dataclass(frozen=True)
class Detection:
    """The verdict on one image; one without finite scores and a finite map cannot be made.

    Attributes:
        score: higher = more anomalous; comparable between images of one detector.
        is_anomalous: whether ``score`` is above ``threshold``, see ``n_small_regions``.
        threshold: the detector's, from good images; None for an uncalibrated detector.
        anomaly_map: float32 (height, width) of the original image; higher = more evidence of a defect. All maps of a
            detector share the colour scale ``AnomalyDetector.map_scale``.
        regions: parts of the map above the map's threshold, highest peak first.
        scores: all image scores of the detector, by name; ``appearance_distance`` says how unlike any good image the
            whole image looks, in [0, 2], and decides nothing.
        inside: bool (height, width), the pixels in the region of interest; None: all. Outside, the map has the lowest
            value of those inside.
        n_small_regions: parts above the map's threshold that were left out because of a minimum area. Where no other is
            left, the image is not called anomalous.
        map_scale: ends of the colour scale of the detector's maps; the map's threshold is half-way.
        min_area_px: the minimum area.
        image: the image as it was given to ``predict``, for pictures of it: a path is read again when one is drawn.
            None where it was not kept.
        product: by whose thresholds it was judged, as named or found by likeness; None where the model knows none.
        is_unknown_product: whether it looks like no product that the model knows. There is no threshold for it then,
            and it is called anomalous, so that it does not pass.
    """

    score: float
    is_anomalous: bool
    threshold: float | None
    anomaly_map: np.ndarray = field(repr=False)
    regions: tuple[Region, ...]
    scores: dict[str, float]
    inside: np.ndarray | None = field(default=None, repr=False)
    n_small_regions: int = 0
    map_scale: MapScale = field(default=UNCALIBRATED_MAP_SCALE, repr=False)
    min_area_px: float = field(default=0.0, repr=False)
    image: ImageLike | None = field(default=None, repr=False, compare=False)
    product: str | None = None
    is_unknown_product: bool = False

    def __post_init__(self) -> None:
        """Raises: NotScoredError: a score or a value of the map is not finite."""
        refuse_not_finite({**self.scores, "score": self.score}, self.anomaly_map)

    @property
    def is_tolerated(self) -> bool:
        """Whether all that is above the map's threshold is smaller than the minimum area."""
        return self.n_small_regions > 0 and not self.regions

    @property
    def name(self) -> str:
        """The path of the image; empty for an image that was in memory, or was not kept."""
        return "" if self.image is None else place_of(self.image, 1, 1)

    def overlay(self, image: ImageLike | None = None) -> Image.Image:
        """The picture that ``flawmap detect`` saves: map and outline over the image, and below it the verdict.

        Args:
            image: that was judged; None takes :attr:`image`.

        Returns:
            RGB, as wide as the image and a little higher; an image of less than 420 pixels is put in the middle.

        Raises:
            UserError: the image was not kept, cannot be read (any more), or has another size than the map.
        """
        pixels = self._pixels(image)
        return Image.fromarray(verdict_picture(pixels, self, self._colours, self.min_area_px))

    def plot(self, axes: "Axes | None" = None, image: ImageLike | None = None) -> "Axes":
        """Plot map and outline over the image, with the verdict as title and the colours of the map.

        Args:
            axes: of matplotlib, to draw into; None makes a figure of its own.
            image: as in :meth:`overlay`.

        Returns:
            the axes; ``axes.figure.savefig(...)`` saves the plot.

        Raises:
            MissingPackageError: matplotlib is not installed, which comes with the extra ``figures``.
            UserError: as :meth:`overlay`.
        """
        from flawmap.drawing.axes import plot_verdict

        return plot_verdict(self._pixels(image), self, self._colours, self.min_area_px, axes)

    def save(self, path: str | Path, image: ImageLike | None = None) -> Path:
        """Write :meth:`overlay` to a file, completely or not at all; a file of this name is replaced.

        Args:
            path: the extension sets the format, such as ``.png`` or ``.jpg``.
            image: as in :meth:`overlay`.

        Returns:
            the path.

        Raises:
            UserError: the extension is that of no picture; or as :meth:`overlay`.
        """
        path = Path(path)
        format_ = Image.registered_extensions().get(path.suffix.lower())
        if format_ not in Image.SAVE:
            raise UserError(f"{path.suffix or 'no extension'} is no format of pictures", str(path), "name it .png")
        picture = self.overlay(image)
        file = io.BytesIO()
        picture.save(file, format_)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, file.getvalue())
        return path

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; None, and so the words alone, where the image was not kept."""
        return None if self.image is None else as_png(np.asarray(self.overlay()))

    @property
    def _colours(self) -> ColourScale:
        low, high = self.map_scale.low, self.map_scale.high
        return ColourScale(low, (low + high) / 2, high)

    def _pixels(self, image: ImageLike | None) -> NDArray[np.uint8]:
        image = self.image if image is None else image
        if image is None:
            raise UserError("this detection has not kept its image", "", "give it: overlay(image=...)")
        pixels = as_rgb(image)
        if pixels.shape[:2] != self.anomaly_map.shape:
            (h, w), (map_h, map_w) = pixels.shape[:2], self.anomaly_map.shape
            problem = f"the image has {w} x {h} pixels, but {map_w} x {map_h} were judged"
            raise UserError(problem, place_of(image, 1, 1), "give the image that was judged")
        return pixels

    def to_json(self) -> dict[str, Any]:
        """Everything except the map, as JSON-ready values.

        With a region of interest, also the share of the image in it; where the model knows products, also which.
        """
        more = {} if self.inside is None else {"inside_share": float(self.inside.mean())}
        if self.product is not None or self.is_unknown_product:
            more |= {"product": self.product, "is_unknown_product": self.is_unknown_product}
        return more | {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "threshold": self.threshold,
            "regions": [asdict(region) | {"box_xyxy_px": list(region.box_xyxy_px)} for region in self.regions],
            "n_small_regions": self.n_small_regions,
            "scores": self.scores,
        }


def judge(
    scores: Mapping[str, float],
    image_score: str,
    anomaly_map: np.ndarray,
    calibration: Calibration | None,
    inside: np.ndarray | None = None,
    min_area_px: float = 0.0,
    image: ImageLike | None = None,
) -> Detection:
    """The verdict from an image's scores and map.

    Args:
        scores: all image scores.
        image_score: the name of the one that decides.
        anomaly_map: float32 (h, w).
        calibration: thresholds; without them nothing is called anomalous.
        inside: bool (h, w), the pixels in the region of interest, in which alone regions lie; None: all.
        min_area_px: smaller regions are left out, see :class:`Detection`; 0 keeps all. An image above the threshold
            without any region is called anomalous whatever the minimum: nothing says that its defect is small.
        image: kept for pictures of the verdict.

    Raises:
        NotScoredError: a score or a value of the map is not finite.
    """
    score = scores[image_score]
    counted = anomaly_map if inside is None else np.where(inside, anomaly_map, np.float32(-np.inf))
    regions, n_small = _regions(counted, calibration.map_threshold, min_area_px) if calibration else ((), 0)
    is_tolerated = n_small > 0 and not regions
    return Detection(
        score=score,
        is_anomalous=calibration is not None and score > calibration.threshold and not is_tolerated,
        threshold=calibration.threshold if calibration else None,
        anomaly_map=anomaly_map,
        regions=regions,
        scores=dict(scores),
        inside=inside,
        n_small_regions=n_small,
        map_scale=calibration.map_scale if calibration else UNCALIBRATED_MAP_SCALE,
        min_area_px=min_area_px,
        image=image,
    )


def refuse_not_finite(scores: Mapping[str, float], anomaly_map: np.ndarray) -> None:
    """Refuse what is no score: NaN is above no threshold, so that a damaged model would call every part good.

    Args:
        scores: all image scores, also those that do not decide: ``vote`` is finite even where the logits are not.
        anomaly_map: float32 (h, w).

    Raises:
        NotScoredError: a score or a value of the map is NaN or infinite.
    """
    for name, score in scores.items():
        if not isfinite(score):
            raise NotScoredError(f"the model gives no finite score ({name} is {score})", "", DAMAGED_MODEL)
    # the extremes show it without another array of the map's size: NaN is passed on by both
    if not (isfinite(anomaly_map.min()) and isfinite(anomaly_map.max())):
        n_bad = anomaly_map.size - int(np.isfinite(anomaly_map).sum())
        share = f"{n_bad:,} of {anomaly_map.size:,} values are not"
        raise NotScoredError(f"the model gives no finite anomaly map ({share})", "", DAMAGED_MODEL)


def find_regions(anomaly_map: NDArray[np.float32], threshold: float) -> tuple[Region, ...]:
    """Regions (8-neighbours) where the map is above ``threshold``, highest peak first; at most MAX_REGIONS.

    Args:
        anomaly_map: (h, w).
        threshold: a map value; a pixel at the threshold is outside.
    """
    return _regions(anomaly_map, threshold, 0.0)[0]


def _regions(anomaly_map: NDArray[np.float32], threshold: float, min_area_px: float) -> tuple[tuple[Region, ...], int]:
    """As :func:`find_regions`, without smaller ones; and how many these are."""
    above = anomaly_map > threshold
    numbers = number_regions(above)  # (n,), the region of each pixel above the threshold
    if numbers.size == 0:
        return (), 0
    rows, columns = np.nonzero(above)
    areas = np.bincount(numbers)
    low, high = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    left, right = np.full(areas.size, low), np.full(areas.size, high)
    top, bottom = np.full(areas.size, low), np.full(areas.size, high)
    peaks = np.full(areas.size, -np.inf, np.float32)
    np.minimum.at(left, numbers, columns)
    np.maximum.at(right, numbers, columns)
    np.minimum.at(top, numbers, rows)
    np.maximum.at(bottom, numbers, rows)
    np.maximum.at(peaks, numbers, anomaly_map[above])
    large = np.flatnonzero(areas >= min_area_px)
    strongest = large[np.argsort(-peaks[large], kind="stable")[:MAX_REGIONS]]
    regions = tuple(
        Region((int(left[i]), int(top[i]), int(right[i]) + 1, int(bottom[i]) + 1), int(areas[i]), float(peaks[i]))
        for i in strongest
    )
    return regions, int(areas.size - large.size)

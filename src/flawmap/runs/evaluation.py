"""The folder of an evaluation: metrics.json, per_image.csv, pixel_curves.json, anomaly maps, truth and attention."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.sample import FileRemark, SkippedFile
from flawmap.errors import UserError
from flawmap.metrics.curve_points import PixelCurves
from flawmap.metrics.score_drift import Drift
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale
from flawmap.runs.json_files import read_csv, read_json, write_csv, write_json

METRICS = "metrics.json"
PER_IMAGE = "per_image.csv"
PIXEL_CURVES = "pixel_curves.json"
MAPS, TRUTH, ATTENTION = "maps", "truth", "attention"  # folders; a file has the same name in each
MAX_16_BIT = 65535
EVALUATE_AGAIN = "flawmap evaluate RUN DATA"
_RENAMED = {"by_group": "by_stratum"}  # evaluations that were written before groups were what must not be split
_CURVES = ("roc", "precision_recall", "overlap")
_CURVE_DIGITS = 6  # finer than any screen
IMAGE_TITLES = {
    "auroc": "image AUROC",
    "ap": "image average precision",
    "f1_max": "image F1-max",
    "fpr_at_95_tpr": "false alarms when 95 % are found",
    "f1_at_threshold": "image F1 at the threshold",
}
PIXEL_TITLES = {
    "auroc": "pixel AUROC",
    "ap": "pixel average precision",
    "f1_max": "pixel F1-max",
    "aupro_30": "AUPRO up to 30 % false pixels",
    "aupro_05": "AUPRO up to 5 % false pixels",
    "f1_at_threshold": "pixel F1 at the map's threshold",
    "region_precision": "regions above the map's threshold that touch a defect",
    "au_spro_30": "AU-sPRO up to 30 % false pixels",
    "au_spro_05": "AU-sPRO up to 5 % false pixels",
}
_COLUMNS = ("key", "path", "kind", "is_anomalous", "score", "is_flagged", "map", "truth", "camera")


@dataclass(frozen=True)
class Measure:
    """A value in [0, 1] with its 95 % bootstrap interval over images, or over groups of them where there are some.

    It has no ends where there are too few images or groups.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> str | None:
        """``0.900–0.960``; None where there are too few images."""
        return None if self.low is None or self.high is None else f"{self.low:.3f}–{self.high:.3f}"


Measures = Mapping[str, Measure | None]  # None: a measure that these images do not define


@dataclass(frozen=True)
class Block:
    """The measures of a set of images.

    Attributes:
        n_good: good images.
        n_anomalous: images with a defect.
        image: of image scores: ``auroc``, ``ap``, ``f1_max`` and ``fpr_at_95_tpr``; of the verdicts of a calibrated
            detector: ``f1_at_threshold`` (ClassF1 of MVTec AD 2).
        pixel: of pixels: ``auroc``, ``ap``, ``f1_max``, ``aupro_30`` and ``aupro_05``; with a calibration
            ``f1_at_threshold`` (SegF1) and, where there are regions above the map's threshold, ``region_precision``;
            where defects have an area at which they count as found in full, ``au_spro_30`` and ``au_spro_05``. None
            where no pixel of these images is known to be anomalous.

    Evaluations of earlier versions lack the measures that came later.
    """

    n_good: int
    n_anomalous: int
    image: Measures
    pixel: Measures | None

    @property
    def image_auroc(self) -> float | None:
        """The AUROC of image scores alone."""
        return _value(self.image, "auroc")

    @property
    def pixel_auroc(self) -> float | None:
        """The AUROC of pixels alone."""
        return _value(self.pixel, "auroc")


def _value(measures: Measures | None, name: str) -> float | None:
    measure = (measures or {}).get(name)
    return measure.value if measure else None


@dataclass(frozen=True)
class ScaleScore:
    """The AUROCs of one test size alone; None where undefined."""

    size_px: int
    image_auroc: float | None
    pixel_auroc: float | None


@dataclass(frozen=True)
class OutsideRoi:
    """What of the ground truth lay outside of the model's region of interest, where nothing is scored.

    Attributes:
        inside_share: share of the images' pixels in the region.
        defect_pixels: of all anomalous images.
        defect_pixels_outside: of these, those outside.
        images_outside: anomalous images whose whole defect lies outside; they count for image measures only.
    """

    inside_share: float
    defect_pixels: int
    defect_pixels_outside: int
    images_outside: int

    @property
    def words(self) -> str:
        """In a sentence."""
        share = self.defect_pixels_outside / max(1, self.defect_pixels)
        pixels = f"{self.defect_pixels_outside:,} of {self.defect_pixels:,} defect pixels ({share:.1%}) lie outside"
        images = f"{self.images_outside} anomalous image{'s have' if self.images_outside != 1 else ' has'}"
        return f"{self.inside_share:.0%} of the image counts; {pixels}; {images} no defect inside"


@dataclass(frozen=True)
class Evaluation(Block):
    """metrics.json: one detector on one labelled data set. The inherited measures are those of all images.

    Attributes:
        layout: how the data was read.
        command: that repeats the evaluation.
        image_score: the score that decides.
        image_scores: AUROC of every image score by name.
        n_pixel_images: images whose pixels were counted.
        pixel_pool: which images the protocol admits to pixel measures: ``all``, ``truth_only`` or ``none``.
        evaluation_size_px: side of the square at which pixels were compared; None: each image's own resolution.
        by_kind: each kind of defect against all good images.
        by_size: each class of defect size against all good images; :mod:`flawmap.metrics.defect_size` has the classes.
        by_stratum: the images of each stratum (``sex=F``, ...) on their own.
        per_scale: each test size alone, ascending; empty for an exported file.
        training_size_px: side of the images that the detector learned from; of an exported file, the smallest test
            size.
        calibration: the thresholds that were used; None without.
        realised_false_alarm_rate: share of the good images that were flagged; None without threshold or good images.
        missed_rate: share of the anomalous images that were not flagged; None as above.
        drift: scores of the good images against those of the calibration.
        seconds_per_image: of the detector, without reading files.
        device: ``cpu``, ``cuda`` or ``mps``.
        without_truth: keys of anomalous images without ground truth, in a data set that has ground truth.
        skipped: images that could not be decoded.
        remarks: on test images, masks and boxes that were read; empty in files that were written before there were any.
        left_out: files and folders beside the images that were passed over: ``path``, ``reason`` and ``kind`` of each.
        grouped_by: what the images' groups are, such as ``patient``.
        n_groups: how many groups the images are of; None where each image is on its own.
        outside_roi: ground truth that does not count; None of a model without a region of interest.
    """

    data: str
    layout: str
    root: str
    command: str
    image_score: str
    image_scores: Mapping[str, float | None]
    n_pixel_images: int
    pixel_pool: str
    evaluation_size_px: int | None
    by_kind: Mapping[str, Block]
    by_size: Mapping[str, Block]
    by_stratum: Mapping[str, Block]
    per_scale: tuple[ScaleScore, ...]
    training_size_px: int
    calibration: Calibration | None
    realised_false_alarm_rate: float | None
    missed_rate: float | None
    drift: Drift | None
    seconds_per_image: float
    threads: int
    device: str
    without_truth: tuple[str, ...]
    skipped: tuple[SkippedFile, ...]
    remarks: tuple[FileRemark, ...] = ()
    left_out: tuple[Mapping[str, str], ...] = ()
    grouped_by: str | None = None
    n_groups: int | None = None
    outside_roi: OutsideRoi | None = None

    @property
    def single_scale(self) -> ScaleScore | None:
        """The test size nearest to that of training; None of an exported file, which gives no scores of sizes alone."""
        if not self.per_scale:
            return None
        return min(self.per_scale, key=lambda scale: abs(scale.size_px - self.training_size_px))

    def mean_over_kinds(self, name: str) -> float | None:
        """The unweighted mean of a pixel measure over the kinds of defects that have it; None where none has."""
        values = [value for block in self.by_kind.values() if (value := _value(block.pixel, name)) is not None]
        return sum(values) / len(values) if values else None

    @property
    def threshold(self) -> float | None:
        """The image score above which an image was flagged."""
        return self.calibration.threshold if self.calibration else None

    @property
    def map_scale(self) -> MapScale:
        """The map values that 0 and 65535 stand for in the map files."""
        return self.calibration.map_scale if self.calibration else UNCALIBRATED_MAP_SCALE


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write metrics.json."""
    write_json(folder / METRICS, evaluation)


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read metrics.json; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / METRICS
    return read_json(path, Evaluation, EVALUATE_AGAIN, _RENAMED) if path.is_file() else None


@dataclass(frozen=True)
class ScoredImage:
    """A row of per_image.csv.

    Attributes:
        key: of the image in its data.
        path: of the image when it was scored.
        kind: of defect; "good" for a good image.
        score: the image score that decides.
        is_flagged: whether it is above the threshold.
        map_file: its anomaly map, 16 bit, if it exists; ``truth_file`` and ``attention_file`` likewise.
        scores: every image score by name.
        camera: that took it; None where nobody has said which one, and in evaluations of an earlier flawmap.
    """

    key: str
    path: Path
    kind: str
    is_anomalous: bool
    score: float
    is_flagged: bool
    map_file: Path | None = None
    truth_file: Path | None = None
    attention_file: Path | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    camera: str | None = None


def write_per_image(folder: Path, images: Sequence[ScoredImage]) -> None:
    """Write per_image.csv: each image, its label, its scores, whether it was flagged, and its files in the folder."""
    names = list(images[0].scores) if images else []
    rows = []
    for image in images:
        files = [
            "" if file is None else file.relative_to(folder).as_posix() for file in (image.map_file, image.truth_file)
        ]
        labels = [image.key, image.path, image.kind, int(image.is_anomalous)]
        decision = [repr(image.score), int(image.is_flagged)]
        scores = (repr(image.scores[name]) for name in names)
        rows.append([*labels, *decision, *files, image.camera or "", *scores])
    write_csv(folder / PER_IMAGE, [*_COLUMNS, *names], rows)


def read_per_image(folder: Path) -> tuple[ScoredImage, ...]:
    """Read per_image.csv; nothing where there is none. Files outside of the folder are never returned.

    Raises:
        UserError: it is damaged.
    """

    def parse(row: dict[str, str]) -> ScoredImage:
        map_file = _file_in(folder, row["map"])
        image = ScoredImage(
            key=row["key"],
            path=Path(row["path"]),
            kind=row["kind"],
            is_anomalous=bool(int(row["is_anomalous"])),
            score=float(row["score"]),
            is_flagged=bool(int(row["is_flagged"])),
            map_file=map_file,
            truth_file=_file_in(folder, row["truth"]),
            attention_file=_file_in(folder, f"{ATTENTION}/{map_file.name}" if map_file else ""),
            scores={name: float(value) for name, value in row.items() if name not in _COLUMNS},
            camera=row.get("camera") or None,
        )
        if not math.isfinite(image.score):
            raise ValueError(f"the score is {image.score}")
        return image

    return read_csv(folder / PER_IMAGE, parse, EVALUATE_AGAIN)


def _file_in(folder: Path, name: str) -> Path | None:
    file, folder = (folder / name).resolve(), folder.resolve()
    return file if name and file.is_file() and file.is_relative_to(folder) else None


def write_maps(
    folder: Path,
    name: str,
    anomaly_map: NDArray[np.floating],
    truth: NDArray[np.bool_] | None,
    scale: MapScale,
) -> tuple[Path, Path | None]:
    """Write an anomaly map (h, w) as 16-bit PNG and its truth (h, w) as 8-bit PNG.

    Returns:
        the two files; None for truth that is missing or empty, which is not written.

    Raises:
        UserError: they cannot be written.
    """
    shares = (anomaly_map - scale.low) / (scale.high - scale.low)
    map_file = folder / MAPS / name
    _write_png(map_file, np.rint(shares.clip(0, 1) * MAX_16_BIT).astype(np.uint16))
    if truth is None or not truth.any():
        return map_file, None
    truth_file = folder / TRUTH / name
    _write_png(truth_file, truth.astype(np.uint8) * 255)
    return map_file, truth_file


def write_attention(folder: Path, name: str, attention: NDArray[np.floating]) -> None:
    """Write attention (r, c), one gray pixel per patch, as bright as its own largest value allows.

    Raises:
        UserError: it cannot be written.
    """
    gray = np.rint(255 * attention / max(float(attention.max()), 1e-12)).astype(np.uint8)
    _write_png(folder / ATTENTION / name, gray)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"a map cannot be written: {error.strerror}", str(path), "free some disk space") from error


def write_pixel_curves(folder: Path, curves: PixelCurves | None) -> None:
    """Write pixel_curves.json: lists of [x, y] for each curve; no file where no pixel has ground truth."""
    if curves is not None:
        points = {name: getattr(curves, name).round(_CURVE_DIGITS).tolist() for name in _CURVES}
        content = points | {"anomalous_share": curves.anomalous_share, "n_images": curves.n_images}
        atomic_write_text(folder / PIXEL_CURVES, json.dumps(content))


def read_pixel_curves(folder: Path) -> PixelCurves | None:
    """Read pixel_curves.json; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / PIXEL_CURVES
    if not path.is_file():
        return None
    content = read_json(path, dict, EVALUATE_AGAIN)
    try:
        curves = {name: np.array(content[name], np.float64).reshape(-1, 2) for name in _CURVES}
        return PixelCurves(**curves, anomalous_share=content["anomalous_share"], n_images=content["n_images"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is damaged: {error!r}", str(path), EVALUATE_AGAIN) from error

"""What identifies a model and how to use it, wherever it runs; every exported file carries this. Needs numpy alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from flawmap.data.images.tiles import OVERLAP, Tiling
from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import RegionsOfInterest, rois_of_text
from flawmap.detect.products import Judging
from flawmap.errors import UserError
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale
from flawmap.runs.json_files import refuse_unreadable_format
from flawmap.runs.model_config import ProxyScores
from flawmap.runs.self_test import SelfTest
from flawmap.runs.threshold_names import FEWEST_IMAGES, SIGN, camera_in, nearest_name, products_in, whose

OLDEST_FORMAT, FORMAT = 1, 6  # of an exported file's facts: the oldest and the newest that is read
# the formats of files that an earlier flawmap runs as well
WITHOUT_TILES, WITHOUT_ROI, WITHOUT_PRODUCTS, WITHOUT_BATCH_AXIS, WITHOUT_ROI_OF_CAMERAS = 1, 2, 3, 4, 5
EXPORT_AGAIN = "export it again: flawmap export RUN"
NO_CHECKSUM = (
    "this model is from an earlier flawmap and carries no checksum, so damage to it may go unnoticed; "
    "training or exporting again adds one"
)
METADATA_KEY = "flawmap"  # under which an exported file carries its facts


@dataclass(frozen=True)
class ModelFacts:
    """Name, origin, sizes and thresholds of a model.

    Attributes:
        name: of the run or model folder.
        weights_sha256: of model.safetensors; identifies the training.
        architecture: timm's name of the encoder.
        weights_source: where the initial weights came from.
        weights_licence: of the initial weights.
        sizes_px: test sizes, ascending.
        image_score: the one of ``score_names`` that is compared with the threshold.
        score_names: the image scores of this model, in the order of the graph's output ``scores``.
        precision: of the weights: ``fp32``, ``fp16`` or ``int8``.
        search: how an exported file finds the nearest tokens of its memory, in words; None of a method without a
            memory, of a folder, where the machine decides, and from an earlier flawmap.
        calibration: the thresholds in use, or None.
        flawmap: the version that wrote the model.
        camera: whose thresholds are in use, of a camera or a product, by the names of
            :mod:`flawmap.runs.threshold_names`; None stands for the default ones, as in an exported file.
        cameras: the thresholds of each camera and product that has its own.
        self_test: what the model must give for the self-test image; None from an earlier flawmap.
        files_sha256: of an exported file and of those beside it, by their endings, see
            :mod:`flawmap.deploy.file_digest`; None of a folder, and from an earlier flawmap.
        tiling: how the runtime of an exported file cuts an image into tiles; None of a model without tiles, and of a
            folder, whose detector cuts them.
        threshold_file: that the thresholds in use were read from; None where they are those that the model carries.
        min_area_px: regions with fewer pixels of the image are left out of verdicts; 0 keeps all.
        roi: the regions of interest as :func:`flawmap.data.rois.rois_of_text` reads them; None for whole images.
        proxy: how simulated defects scored in training; None where they were not, and from an earlier flawmap.
        trained: good images of each product and camera that it was trained on, by the names of
            :mod:`flawmap.runs.threshold_names`.
        has_batch_axis: whether the graph of an exported file takes several images of one size at once, and has an axis
            for them in its outputs, too.
        patch_size_px: side of a patch in the squares of an exported file whose graph takes the patches that count,
            because cameras have regions of interest of their own; None of other models, and of a folder.
    """

    name: str
    weights_sha256: str
    architecture: str
    weights_source: str
    weights_licence: str
    sizes_px: tuple[int, ...]
    image_score: str
    score_names: tuple[str, ...]
    precision: str
    calibration: Calibration | None
    flawmap: str
    camera: str | None = None
    cameras: Mapping[str, Calibration] = field(default_factory=dict)
    self_test: SelfTest | None = None
    search: str | None = None
    files_sha256: dict[str, str] | None = None
    tiling: Tiling | None = None
    threshold_file: str | None = None
    min_area_px: float = 0.0
    roi: str | None = None
    proxy: ProxyScores | None = None
    trained: Mapping[str, int] = field(default_factory=dict)
    has_batch_axis: bool = False
    patch_size_px: int | None = None

    @property
    def rois(self) -> RegionsOfInterest | None:
        """The part of each camera's images that counts; None for whole images."""
        return None if self.roi is None else rois_of_text(self.roi)

    @property
    def has_roi_of_cameras(self) -> bool:
        """Whether the graph of an exported file takes the patches that count, because cameras differ in them."""
        return self.rois is not None and bool(self.rois.cameras)

    @property
    def known_cameras(self) -> tuple[str, ...]:
        """Cameras with thresholds or a region of interest of their own, sorted."""
        of_thresholds = {camera for name in self.cameras if (camera := camera_in(name)) is not None}
        return tuple(sorted(of_thresholds | set(() if self.rois is None else self.rois.cameras)))

    @property
    def camera_of_self_test(self) -> str | None:
        """Whose region of interest the self-test image has; None for the default one, or the whole image."""
        return None if self.rois is None else self.rois.camera_of_self_test

    def rois_of(self, cameras: Sequence[str | None] | None, count: int) -> list[RegionOfInterest] | None:
        """The region of interest of each of ``count`` images; None for whole images.

        Args:
            cameras: that took them; None: the camera in use took all.

        Raises:
            UserError: there is none for a camera.
        """
        if self.rois is None:
            return None
        return [self.rois.of(camera) for camera in cameras or [camera_in(self.camera)] * count]

    @property
    def model_id(self) -> str:
        """Scores of models with equal ids are comparable: the same weights in the same precision."""
        return f"{self.weights_sha256[:16]}-{self.precision}"

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of all anomaly maps."""
        return self.calibration.map_scale if self.calibration else UNCALIBRATED_MAP_SCALE

    @property
    def threshold_words(self) -> list[str]:
        """The thresholds in use and what they can promise, and where they are from; one to three lines."""
        if self.calibration is None:
            return ["none, so nothing is called anomalous"]
        first, *second = self.calibration.words
        missed = self.proxy.missed_words(self.calibration.threshold) if self.proxy else None
        return [
            f"{first}, {f'from {self.threshold_file}' if self.threshold_file else 'as the model carries it'}",
            *second,
            *([missed] if missed else []),
        ]

    @property
    def judging(self) -> Judging:
        """How images are judged."""
        return Judging(self.image_score, self.calibration, self.camera, self.cameras, self.min_area_px)

    @property
    def notes(self) -> list[str]:
        """Which products, or which one in use, have too few good images for thresholds of their own."""
        asked = [name for name in self.trained if SIGN in name] if self.camera is None else [self.camera]
        return [
            f"{whose(name)}: {self.trained.get(name, 0)} good images, fewer than {FEWEST_IMAGES}, so "
            + (f"the thresholds of {whose(nearest)} judge" if nearest else "the thresholds of all images judge")
            for name in asked
            if name not in self.cameras
            for nearest in (nearest_name(name, self.cameras),)
        ]

    @property
    def judged_by(self) -> dict[str, Any]:
        """The thresholds in use and where they are from, as JSON-ready values."""
        calibration = self.calibration
        return {
            "threshold": calibration.threshold if calibration else None,
            "map_threshold": calibration.map_threshold if calibration else None,
            "false_alarm_rate": calibration.false_alarm_rate if calibration else None,
            "n_held_out": calibration.n_held_out if calibration else None,
            "threshold_file": self.threshold_file,
            "min_area_px": self.min_area_px,
        }

    def to_text(self) -> str:
        """As JSON, for the metadata of a file."""
        needs = {
            FORMAT: self.has_roi_of_cameras,
            WITHOUT_ROI_OF_CAMERAS: self.has_batch_axis,
            WITHOUT_BATCH_AXIS: products_in(self.trained),
            WITHOUT_PRODUCTS: self.roi,
            WITHOUT_ROI: self.tiling,
        }
        facts = asdict(self)
        if self.patch_size_px is None:
            del facts["patch_size_px"]  # files that do not need it are the same as before there was such a field
        return json.dumps({"format": next((f for f, need in needs.items() if need), WITHOUT_TILES), **facts})


@dataclass(frozen=True)
class _Versioned:
    format: int


def read_facts(text: str | None, place: str) -> ModelFacts:
    """Read what :meth:`ModelFacts.to_text` wrote.

    Args:
        text: the metadata of a file; None or empty where it has none.
        place: the file, for errors.

    Raises:
        UserError: the text is missing or damaged, or of a format that this flawmap cannot open.
    """
    if not text:
        raise UserError("this file was not written by flawmap export", place, EXPORT_AGAIN)
    try:
        version = msgspec.json.decode(text, type=_Versioned).format
        refuse_unreadable_format(version, OLDEST_FORMAT, FORMAT, place, EXPORT_AGAIN)
        facts = msgspec.json.decode(text, type=ModelFacts)
        if facts.image_score not in facts.score_names or not facts.sizes_px:
            raise ValueError(f"image score {facts.image_score!r}, sizes {facts.sizes_px}")
        if (tiling := facts.tiling) and (
            tiling.scale <= 0 or tiling.side <= OVERLAP or facts.sizes_px != (tiling.side_px,)
        ):
            raise ValueError(f"{tiling}, sizes {facts.sizes_px}")
        return facts
    except (ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"the file's description of its model is damaged: {error}", place, EXPORT_AGAIN) from error

"""What the server sends and receives, field by field; the source of its OpenAPI description."""

import base64
import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from flawmap.data.images.files import decode_gray_values, decode_image
from flawmap.deploy.current_model import CurrentModel
from flawmap.deploy.model_health import Readiness
from flawmap.deploy.work_queue import Scored
from flawmap.detect.detection import Region
from flawmap.detect.model_facts import ModelFacts
from flawmap.runs.calibration import MapScale
from flawmap.runs.threshold_names import camera_in, product_in, products_in

THUMBNAIL_PX = 96  # twice what the page shows, for sharp lines on dense screens
ROWS_AT_ONCE = 64  # of a deep image in float64


class PictureAnswer(BaseModel):
    """The upright image, for a browser that cannot show the file or would show only 8 of its bits."""

    png: str = Field(
        description="base64 PNG; of an image with more than 8 bits, red and green are the upper and lower byte of a "
        "level, from 0 = low to 65535 = high"
    )
    low: float | None = Field(description="gray value at level 0; null for 8 bits")
    high: float | None = Field(description="gray value at level 65535")
    window: tuple[float, float] | None = Field(description="gray values that the model sees as black and as white")


class DetectionAnswer(BaseModel):
    """The verdict on one image; pixels are those of the upright image."""

    model_config = ConfigDict(protected_namespaces=())  # pydantic reserves names that begin with model_

    score: float = Field(description="higher = more anomalous")
    is_anomalous: bool = Field(
        description="score above threshold; not where all regions are smaller than the server's minimum area"
    )
    threshold: float | None = Field(description="null before calibration; then nothing is called anomalous")
    regions: tuple[Region, ...] = Field(description="highest peak first")
    n_small_regions: int = Field(
        0, description="regions that were left out because they are smaller than the minimum area"
    )
    false_alarm_rate: float | None = Field(None, description="the rate that the threshold was set for")
    inside_share: float | None = Field(
        None, description="share of the image in the region of interest; null where the whole image counts"
    )
    scores: dict[str, float] = Field(description="all image scores, by name")
    model_id: str = Field(description="scores with equal ids are comparable")
    sha256: str = Field(description="of the file's bytes; a review names it")
    width_px: int
    height_px: int
    map_peak: float = Field(description="highest value of the map")
    camera: str | None = Field(None, description="whose threshold judged; null for the default")
    product: str | None = Field(None, description="whose threshold judged, as named or found by likeness")
    is_unknown_product: bool = Field(
        False, description="it looks like no product of the model; anomalous, and without a threshold"
    )
    drift: list[str] = Field(
        [], description="what has moved away from the good images: scores, appearance; see /v1/drift"
    )
    seconds: float = Field(description="time the model took")
    map_png: str | None = Field(
        description="base64 gray PNG of the image's size: 0 = low end of the scale, 127.5 = map threshold, 255 = high"
    )
    inside_png: str | None = Field(
        default=None,
        description="base64 gray PNG of the image's size: 255 in the region of interest, 0 where nothing is scored; "
        "null where all counts or no map was asked for",
    )
    attention_png: str | None = Field(
        description="base64 gray PNG on the patch grid; null where not asked for or not available"
    )
    picture: PictureAnswer | None = Field(description="the image itself; null where not asked for")
    thumbnail: str | None = Field(description="base64 JPEG of at most 96 px; null where the image is not kept")


class ModelAnswer(BaseModel):
    """The model that this server uses, and its limits."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    model_id: str
    architecture: str
    weights_source: str
    weights_licence: str
    sizes_px: list[int]
    image_score: str
    precision: str
    flawmap: str
    camera: str | None = Field(description="whose threshold is used; null for the default one")
    product: str | None = Field(None, description="of all images; null: found by likeness, where there are several")
    products: list[str] = Field([], description="that the model was trained on, where it knows their names")
    cameras: list[str] = Field([], description="with a threshold or region of interest of their own")
    version: int | None = Field(description="of the change that set the threshold; null for that of the training")
    behind: str = Field(description="why this is not what lies on disk now; empty where it is")
    threshold: float | None
    false_alarm_rate: float | None = Field(description="the rate that the threshold was chosen for")
    n_held_out: int | None = Field(description="number of good images that the threshold rests on")
    threshold_file: str | None = Field(description="name of the file the threshold is from; null: the model carries it")
    min_area_px: float = Field(description="regions with fewer pixels are left out; 0: none")
    map_threshold: float | None
    map_scale: list[float] = Field(min_length=2, max_length=2, description="map values at the ends of the colour scale")
    max_bytes: int = Field(description="of an upload")
    max_pixels: int = Field(description="of an image")


class ReviewOrder(BaseModel):
    """One person's review of one verdict. The score is the one that this server gave the image."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    image: str = Field(max_length=255, description="the file's name")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file's bytes")
    model_id: str = Field(max_length=100)
    threshold: float = Field(allow_inf_nan=False, description="the threshold that was shown")
    review: str = Field(pattern="^(agree|disagree)$")
    note: str = Field(default="", max_length=500)


class ReviewAnswer(BaseModel):
    """What was written to reviews.csv."""

    shown: str
    truth: str


class SessionImage(BaseModel):
    """An image of the page."""

    name: str = Field(description="of the file")
    answer: DetectionAnswer = Field(description="without map, attention and picture")
    has_file: bool = Field(description="whether the file is still kept")
    review: str = Field(description="agree, disagree, or empty")
    note: str


class SessionAnswer(BaseModel):
    """What the page shows."""

    images: list[SessionImage]


class SelfTestAnswer(BaseModel):
    """What the model must give for the self-test image, and what it gave here."""

    expected: float = Field(description="the image score mean_logit that the model carries")
    got: float | None = Field(description="null before the test, or where the image got no finite score")
    tolerance: float = Field(description="by how much the two may differ")
    expected_map_peak: float = Field(description="the highest value of the map")
    got_map_peak: float | None
    map_tolerance: float


class JudgedByAnswer(BaseModel):
    """The thresholds that verdicts are given by, and where they are from."""

    threshold: float | None = Field(description="of the image score; null before calibration")
    map_threshold: float | None = Field(description="of map values; regions lie above it")
    false_alarm_rate: float | None
    n_held_out: int | None = Field(description="number of good images that the thresholds rest on")
    threshold_file: str | None = Field(description="name of the file they are from; null: the model carries them")
    min_area_px: float = Field(description="regions with fewer pixels are left out; 0: none")


class ReadinessAnswer(BaseModel):
    """Whether the server's verdicts can be trusted."""

    status: Literal["ready", "not ready"]
    reason: str = Field(description="why not; or that the model carries no self-test")
    self_test: SelfTestAnswer | None = Field(description="null for a model of an earlier flawmap")
    judged_by: JudgedByAnswer


class Problem(BaseModel):
    """Why a request was refused or failed."""

    error: str


def detection_answer(
    scored: Scored,
    sha256: str,
    facts: ModelFacts,
    with_map: bool = False,
    picture: PictureAnswer | None = None,
    thumbnail: str | None = None,
) -> DetectionAnswer:
    """The answer to an upload."""
    detection = scored.detection
    inside = detection.inside if with_map else None
    return DetectionAnswer(
        **detection.to_json(),
        false_alarm_rate=facts.calibration.false_alarm_rate if facts.calibration else None,
        model_id=facts.model_id,
        sha256=sha256,
        width_px=scored.pixels.shape[1],
        height_px=scored.pixels.shape[0],
        map_peak=float(detection.anomaly_map.max()),
        camera=camera_in(facts.camera),
        seconds=scored.seconds,
        map_png=map_png(detection.anomaly_map, facts.map_scale) if with_map else None,
        inside_png=None if inside is None else png_text(inside.astype(np.uint8) * 255),
        attention_png=None if scored.attention is None else attention_png(scored.attention),
        picture=picture,
        thumbnail=thumbnail,
    )


def thumbnail_of(pixels: NDArray[np.uint8]) -> str:
    """A small picture for the page's table: JPEG in base64."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_answer(data: bytes, max_pixels: int) -> PictureAnswer:
    """The image of an upload that was scored."""
    deep = decode_gray_values(data, max_pixels)
    if deep is None:
        return PictureAnswer(png=png_text(decode_image(data, max_pixels)), low=None, high=None, window=None)
    low, high = (float(end(deep.values, initial=end(deep.window))) for end in (np.min, np.max))
    return PictureAnswer(png=deep_png(deep.values, low, high), low=low, high=high, window=deep.window)


def model_answer(model: CurrentModel, max_bytes: int, max_pixels: int) -> ModelAnswer:
    """The model's facts and the server's limits."""
    facts = model.facts
    scale, judged_by = facts.map_scale, judged_by_answer(facts)
    same = ("name", "architecture", "weights_source", "weights_licence", "image_score", "precision", "flawmap")
    return ModelAnswer(
        **{name: getattr(facts, name) for name in same},
        model_id=facts.model_id,
        camera=camera_in(facts.camera),
        product=product_in(facts.camera),
        products=list(products_in(facts.trained)),
        cameras=list(facts.known_cameras),
        version=model.version,
        behind=model.behind,
        sizes_px=list(facts.sizes_px),
        **judged_by.model_dump(),
        map_scale=[scale.low, scale.high],
        max_bytes=max_bytes,
        max_pixels=max_pixels,
    )


def judged_by_answer(facts: ModelFacts) -> JudgedByAnswer:
    """The thresholds in use, without the folder of their file, which is the machine's own affair."""
    name = None if facts.threshold_file is None else Path(facts.threshold_file).name
    judged_by = facts.judged_by
    judged_by["threshold_file"] = name
    return JudgedByAnswer(**judged_by)


def readiness_answer(readiness: Readiness, facts: ModelFacts) -> ReadinessAnswer:
    """The state of the model, and its thresholds."""
    expected, self_test = readiness.expected, None
    if expected is not None:
        self_test = SelfTestAnswer(
            expected=expected.score,
            got=readiness.score,
            tolerance=expected.tolerance,
            expected_map_peak=expected.map_peak,
            got_map_peak=readiness.map_peak,
            map_tolerance=expected.map_tolerance,
        )
    status = "ready" if readiness.is_ready else "not ready"
    return ReadinessAnswer(
        status=status, reason=readiness.reason, self_test=self_test, judged_by=judged_by_answer(facts)
    )


def map_png(anomaly_map: NDArray[np.float32], scale: MapScale) -> str:
    """An anomaly map on the model's colour scale, 0 = ``low``, 255 = ``high``, the threshold half-way: base64 PNG.

    Args:
        anomaly_map: (h, w).
        scale: ends of the scale; values outside are clipped.
    """
    levels = anomaly_map - np.float32(scale.low)  # then in place: a map may have fifty million pixels
    levels *= np.float32(255 / (scale.high - scale.low))
    np.clip(levels, 0, 255, out=levels)
    return png_text(np.rint(levels, out=levels).astype(np.uint8))


def attention_png(attention: NDArray[np.float32]) -> str:
    """Attention (r, c) from 0 to its own highest value: base64 PNG. It does not measure how anomalous a patch is."""
    highest = max(float(attention.max()), 1e-12)
    return png_text(np.rint(np.clip(attention / highest, 0, 1) * 255).astype(np.uint8))


def deep_png(values: NDArray[np.float32], low: float, high: float) -> str:
    """An image with more than 8 bits: red and green are the two bytes of the level between the ends. Base64 PNG.

    Args:
        values: (h, w), between ``low`` and ``high``.
        low, high: values at level 0 and at level 65535; ``high`` is above ``low``.
    """
    pixels = np.zeros((*values.shape, 3), np.uint8)
    for start in range(0, len(values), ROWS_AT_ONCE):
        rows = values[start : start + ROWS_AT_ONCE].astype(np.float64)
        levels = np.rint((rows - low) / (high - low) * 65535).astype(np.uint16)
        part = pixels[start : start + ROWS_AT_ONCE]
        part[..., 0], part[..., 1] = levels >> 8, levels & 255
    return png_text(pixels)


def png_text(pixels: NDArray[np.uint8]) -> str:
    """PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

"""What the server says and is told, field by field; the source of its OpenAPI description."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flawmap.data.images.files import decode_gray_values, decode_image
from flawmap.deploy.map_pictures import attention_picture, deep_picture, png_text, scale_picture
from flawmap.deploy.work_queue import Scored
from flawmap.detect.model_facts import ModelFacts


class RegionAnswer(BaseModel):
    """A connected part of the image above the map's threshold."""

    box_xyxy_px: tuple[int, int, int, int] = Field(description="left, top, right, bottom; the last two exclusive")
    area_px: int
    peak_score: float


class PictureAnswer(BaseModel):
    """The upright image for a browser that cannot show the file, or shows 8 bits of more."""

    png: str = Field(
        description="base64 PNG; of more than 8 bits, red and green are the upper and lower byte of a place, "
        "from 0 = low to 65535 = high"
    )
    low: float | None = Field(description="value at place 0; null for 8 bits")
    high: float | None = Field(description="value at place 65535")
    window: tuple[float, float] | None = Field(description="values that the model sees as black and as white")


class DetectionAnswer(BaseModel):
    """The verdict on one image; pixels are those of the upright image."""

    model_config = ConfigDict(protected_namespaces=())  # pydantic would keep names that begin with model_ for itself

    score: float = Field(description="higher = more anomalous")
    is_anomalous: bool = Field(description="score above threshold")
    threshold: float | None = Field(description="null before calibration; then nothing is called anomalous")
    regions: list[RegionAnswer] = Field(description="highest peak first")
    scores: dict[str, float] = Field(description="every image score, by name")
    model_id: str = Field(description="scores of equal identity are comparable")
    sha256: str = Field(description="of the file's bytes; a review names it")
    width_px: int
    height_px: int
    map_peak: float = Field(description="highest value of the map")
    seconds: float = Field(description="that the model took")
    map_png: str | None = Field(
        description="base64 gray PNG of the image's size: 0 = low end of the scale, 127.5 = map threshold, 255 = high"
    )
    attention_png: str | None = Field(
        description="base64 gray PNG on the patch grid; null where not asked or not known"
    )
    picture: PictureAnswer | None = Field(description="the image itself; null where not asked for")


class ModelAnswer(BaseModel):
    """Which model answers."""

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
    threshold: float | None
    false_alarm_rate: float | None = Field(description="that the threshold was chosen for")
    n_held_out: int | None = Field(description="normal images that the threshold rests on")
    map_threshold: float | None
    map_scale: tuple[float, float] = Field(description="map values of the coldest and the hottest colour")
    max_bytes: int = Field(description="of an upload")
    max_pixels: int = Field(description="of an image")


class ReviewOrder(BaseModel):
    """One person's word on one verdict."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    image: str = Field(max_length=255, description="the file's name")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file's bytes")
    model_id: str = Field(max_length=100)
    score: float = Field(allow_inf_nan=False)
    map_peak: float = Field(allow_inf_nan=False)
    threshold: float = Field(allow_inf_nan=False, description="that was shown")
    review: str = Field(pattern="^(agree|disagree)$")
    note: str = Field(default="", max_length=500)


class ReviewAnswer(BaseModel):
    """What was written to reviews.csv."""

    shown: str
    truth: str


class Problem(BaseModel):
    """Why there is no other answer."""

    error: str


def detection_answer(
    scored: Scored, sha256: str, facts: ModelFacts, with_map: bool, picture: PictureAnswer | None
) -> DetectionAnswer:
    """The answer to an upload."""
    detection = scored.detection
    return DetectionAnswer(
        **detection.to_json(),
        model_id=facts.model_id,
        sha256=sha256,
        width_px=scored.width,
        height_px=scored.height,
        map_peak=float(detection.anomaly_map.max()),
        seconds=scored.seconds,
        map_png=scale_picture(detection.anomaly_map, facts.map_scale) if with_map else None,
        attention_png=None if scored.attention is None else attention_picture(scored.attention),
        picture=picture,
    )


def picture_answer(data: bytes, max_pixels: int) -> PictureAnswer:
    """The image of an upload that was scored."""
    deep = decode_gray_values(data, max_pixels)
    if deep is None:
        return PictureAnswer(png=png_text(decode_image(data, max_pixels)), low=None, high=None, window=None)
    low, high = (float(end(deep.values, initial=end(deep.window))) for end in (np.min, np.max))
    return PictureAnswer(png=deep_picture(deep.values, low, high), low=low, high=high, window=deep.window)


def model_answer(facts: ModelFacts, max_bytes: int, max_pixels: int) -> ModelAnswer:
    """What the model and its server say of themselves."""
    calibration, scale = facts.calibration, facts.map_scale
    return ModelAnswer(
        name=facts.name,
        model_id=facts.model_id,
        architecture=facts.architecture,
        weights_source=facts.weights_source,
        weights_licence=facts.weights_licence,
        sizes_px=list(facts.sizes_px),
        image_score=facts.image_score,
        precision=facts.precision,
        flawmap=facts.flawmap,
        threshold=calibration.threshold if calibration else None,
        false_alarm_rate=calibration.false_alarm_rate if calibration else None,
        n_held_out=calibration.n_held_out if calibration else None,
        map_threshold=calibration.map_threshold if calibration else None,
        map_scale=(scale.low, scale.high),
        max_bytes=max_bytes,
        max_pixels=max_pixels,
    )

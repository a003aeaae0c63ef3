"""The message about one image, as a webhook and an MQTT broker get it. Needs no torch."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from flawmap.deploy.drift_watch import Measure
from flawmap.detect.detection import Detection, Region
from flawmap.detect.model_facts import ModelFacts
from flawmap.errors import UserError
from flawmap.runs.threshold_names import camera_in

FORMAT = 1
Kind = Literal["file", "frame"]
Status = Literal["judged", "unreadable", "not_scored"]


@dataclass(frozen=True)
class Image:
    """What was to be judged.

    Attributes:
        kind: a file, or a frame of a camera.
        name: the absolute path of the file, or the camera.
        size_bytes: of the file, or of the frame's pixels.
        time_ns: when the file was changed, or the frame was read; nanoseconds since 1970.
        sha256: of the file's bytes, or of the frame's pixels; empty where the file could not be read.
        trigger: the line that asked for the frame; None without one.
    """

    kind: Kind
    name: str
    size_bytes: int
    time_ns: int
    sha256: str
    trigger: str | None = None


@dataclass(frozen=True)
class Message:
    """What is told about one image.

    Attributes:
        format: of this message; another number means that a field changed its meaning.
        id: of the verdict. A message that comes twice has the same id both times.
        kind: a file, or a frame of a camera.
        status: ``judged``, ``unreadable`` (not an image, or damaged), or ``not_scored`` (the model gave no score).
        image: the absolute path of the file when it was judged, or the camera.
        sha256: of the file's bytes, or of the frame's pixels; empty where the file could not be read.
        taken_utc: when the file was last changed, or the frame was read; ISO 8601.
        judged_utc: when the verdict was written; ISO 8601.
        trigger: the line that asked for the frame; null without one.
        model_id: scores of equal ids are comparable.
        camera: whose thresholds judged; null stands for the common ones.
        is_anomalous: null where there is no verdict: not judged, or a model without a threshold.
        score: higher = more anomalous; null where there is none.
        threshold: of the score; null where there is none.
        regions: where the image is unusual, strongest first; boxes are left, top, right, bottom in pixels.
        n_small_regions: regions that were left out because of the minimum area.
        problem: why there is no verdict; null for a judged image.
        drift: what has moved away from the good images of the calibration, up to this image: ``scores``,
            ``appearance``.
    """

    format: int
    id: str
    kind: Kind
    status: Status
    image: str
    sha256: str
    taken_utc: str
    judged_utc: str
    trigger: str | None
    model_id: str
    camera: str | None
    is_anomalous: bool | None
    score: float | None
    threshold: float | None
    regions: tuple[Region, ...]
    n_small_regions: int
    problem: str | None
    drift: tuple[Measure, ...]

    def to_text(self) -> str:
        """As JSON in one line."""
        return msgspec.json.encode(self).decode()


def message_about(
    image: Image,
    outcome: Detection | UserError,
    status: Status,
    facts: ModelFacts,
    drift: tuple[Measure, ...] = (),
) -> Message:
    """The message with a new id, judged now.

    Args:
        image: that was looked at.
        outcome: the verdict, or why there is none.
        status: ``judged`` with a verdict, else which kind of failure.
        facts: of the model.
        drift: what warns after this image.
    """
    found = outcome if isinstance(outcome, Detection) else None
    has_verdict = found is not None and (found.threshold is not None or found.is_unknown_product)
    return Message(
        format=FORMAT,
        id=str(uuid.uuid4()),
        kind=image.kind,
        status=status,
        image=image.name,
        sha256=image.sha256,
        taken_utc=utc(image.time_ns),
        judged_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
        trigger=image.trigger,
        model_id=facts.model_id,
        camera=camera_in(facts.camera),
        is_anomalous=found.is_anomalous if found and has_verdict else None,
        score=found.score if found else None,
        threshold=found.threshold if found else None,
        regions=found.regions if found else (),
        n_small_regions=found.n_small_regions if found else 0,
        problem=outcome.problem if isinstance(outcome, UserError) else None,
        drift=drift,
    )


def utc(time_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""

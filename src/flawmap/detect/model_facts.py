"""What a model says of itself, wherever it runs; written into every exported file. Needs numpy alone."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from flawmap.errors import UserError
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale

FORMAT = 2  # 1 had all image scores of every model
METADATA_KEY = "flawmap"  # under which an exported file carries these facts
SCORE_NAMES = ("vote_mean", "vote", "mean_logit", "map_max")  # all there are


@dataclass(frozen=True)
class ModelFacts:
    """Name, origin, sizes and thresholds of a model.

    Attributes:
        name: of the run or model folder.
        weights_sha256: of model.safetensors; says which training a score is from.
        architecture: timm's name of the encoder.
        weights_source: where the initial weights came from.
        weights_licence: of the initial weights.
        sizes_px: test sizes, ascending.
        image_score: which of ``score_names`` decides.
        score_names: the image scores that it gives, in order of the graph's output ``scores``.
        precision: ``fp32``, ``fp16`` (weights) or ``int8``.
        calibration: thresholds, or None.
        flawmap: version that wrote it.
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

    @property
    def model_id(self) -> str:
        """Scores of equal identity are comparable: the same weights, in the same precision."""
        return f"{self.weights_sha256[:16]}-{self.precision}"

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of all maps."""
        return self.calibration.map_scale if self.calibration else UNCALIBRATED_MAP_SCALE

    def to_text(self) -> str:
        """As JSON, for a file's metadata."""
        return json.dumps({"format": FORMAT, **asdict(self)})


def facts_of(text: str | None, place: str) -> ModelFacts:
    """Read what :meth:`ModelFacts.to_text` wrote.

    Raises:
        UserError: the text is missing or damaged, or was written by a newer flawmap.
    """
    remedy = "export it again: flawmap export RUN --to onnx"
    if not text:
        raise UserError("this file was not written by flawmap export", place, remedy)
    try:
        values: dict[str, Any] = json.loads(text)
        version = int(values.pop("format"))
        if version <= FORMAT:
            values["sizes_px"] = tuple(int(size) for size in values["sizes_px"])
            values["calibration"] = _calibration_of(values["calibration"])
            values["score_names"] = tuple(values.get("score_names", SCORE_NAMES))
            facts = ModelFacts(**values)
            if facts.image_score not in facts.score_names or not facts.sizes_px:
                raise ValueError(f"image score {facts.image_score!r}, sizes {facts.sizes_px}")
            return facts
    except Exception as error:  # whatever a damaged text makes of the values
        raise UserError(f"what the file says of itself is damaged: {error}", place, remedy) from error
    raise UserError(
        f"the file has format {version}, this flawmap reads up to {FORMAT}", place, "pip install -U flawmap"
    )


def _calibration_of(values: dict[str, Any] | None) -> Calibration | None:
    if values is None:
        return None
    scale, scores = MapScale(**values["map_scale"]), tuple(values["held_out_scores"])
    return Calibration(**(values | {"map_scale": scale, "held_out_scores": scores}))

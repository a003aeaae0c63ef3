"""What identifies a model and how to use it, wherever it runs; every exported file carries this. Needs numpy alone."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from flawmap.errors import UserError
from flawmap.runs.calibration import UNCALIBRATED_MAP_SCALE, Calibration, MapScale

FORMAT = 1  # version of the facts in an exported file
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
        calibration: thresholds, or None.
        flawmap: the version that wrote the model.
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
        """Scores of models with equal ids are comparable: the same weights in the same precision."""
        return f"{self.weights_sha256[:16]}-{self.precision}"

    @property
    def map_scale(self) -> MapScale:
        """Ends of the colour scale of all anomaly maps."""
        return self.calibration.map_scale if self.calibration else UNCALIBRATED_MAP_SCALE

    def to_text(self) -> str:
        """As JSON, for the metadata of a file."""
        return json.dumps({"format": FORMAT, **asdict(self)})


def read_facts(text: str | None, place: str) -> ModelFacts:
    """Read what :meth:`ModelFacts.to_text` wrote.

    Raises:
        UserError: the text is missing or damaged, or was written by a newer flawmap.
    """
    remedy = "export it again: flawmap export RUN"
    if not text:
        raise UserError("this file was not written by flawmap export", place, remedy)
    try:
        values: dict[str, Any] = json.loads(text)
        version = int(values.pop("format"))
        facts = _facts(values) if version <= FORMAT else None
    except Exception as error:  # whatever a damaged text turns the values into
        raise UserError(f"the file's description of its model is damaged: {error}", place, remedy) from error
    if facts is None:
        problem = f"the file has format {version}; this flawmap reads up to {FORMAT}"
        raise UserError(problem, place, "pip install -U flawmap")
    return facts


def _facts(values: dict[str, Any]) -> ModelFacts:
    calibration = values["calibration"]
    if calibration is not None:
        scale, scores = MapScale(**calibration["map_scale"]), tuple(calibration["held_out_scores"])
        calibration = Calibration(**(calibration | {"map_scale": scale, "held_out_scores": scores}))
    sizes_px, score_names = tuple(int(size) for size in values["sizes_px"]), tuple(values["score_names"])
    changes = {"calibration": calibration, "sizes_px": sizes_px, "score_names": score_names}
    facts = ModelFacts(**(values | changes))
    if facts.image_score not in facts.score_names or not facts.sizes_px:
        raise ValueError(f"image score {facts.image_score!r}, sizes {facts.sizes_px}")
    return facts

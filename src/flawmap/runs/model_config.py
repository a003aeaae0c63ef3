"""config.json of a model folder: what must be known to build the model, and where it comes from."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from flawmap.runs.evaluation import Measures, read_evaluation
from flawmap.runs.json_files import read_json, refuse_unreadable_format
from flawmap.runs.known_defects import MissedDefects, read_known_defects
from flawmap.runs.manifest import KNOWN_DEFECT, ONLY_PRETRAINED, REVIEWED, read_used_images
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.self_test import SelfTest

FORMAT = 1
OLDEST_FORMAT = 1  # that is still opened
COPY_AGAIN = "copy the whole folder again, or train again"
KNOWN_LICENCES = {"elpv": "CC BY-NC-SA 4.0 (elpv-dataset)"}


@dataclass(frozen=True)
class ProxyScores:
    """How well simulated defects on n unseen good images are detected; this is not a test result.

    Each image enters with and without a defect. An AUROC is None where it is undefined.

    Attributes:
        image_auroc, pixel_auroc: of images and of their pixels.
        n: simulated defects.
        defect_scores: image scores of the images with defects, ascending; empty from an earlier flawmap.
    """

    image_auroc: float | None
    pixel_auroc: float | None
    n: int
    defect_scores: tuple[float, ...] = ()

    def missed_words(self, threshold: float) -> str | None:
        """How many simulated defects a threshold of image scores misses; None where their scores are not known."""
        if not self.defect_scores:
            return None
        missed, count = sum(score <= threshold for score in self.defect_scores), len(self.defect_scores)
        return f"it misses {missed} of {count} simulated defects ({missed / count:.0%}; real ones differ)"


@dataclass(frozen=True)
class DataRecord:
    """The data that a model learned from.

    Attributes:
        sha256: of the sorted SHA-256 of all images, so it does not depend on their names or order.
        train: images that were trained on.
        held_out: images that were kept out of training for the threshold.
        pretrain_only: further images of stage 1.
        licence: of the images.
        known_defects: images of defects that the head has learned from.
    """

    sha256: str
    train: int
    held_out: int
    pretrain_only: int
    licence: str
    known_defects: int = 0


@dataclass(frozen=True)
class TestRecord:
    """How a model did on labelled images; the names are those of :class:`flawmap.runs.evaluation.Evaluation`."""

    data: str
    n_good: int
    n_anomalous: int
    image: Measures
    pixel: Measures | None
    threshold: float | None
    realised_false_alarm_rate: float | None
    missed_rate: float | None
    n_groups: int | None = None


@dataclass(frozen=True)
class ModelRecord:
    """What a run knows of its model beyond the weights: its data, its evaluation, and what known defects score."""

    data: DataRecord | None = None
    evaluation: TestRecord | None = None
    known_defects: MissedDefects | None = None


@dataclass(frozen=True)
class ModelConfig:
    """config.json.

    Attributes:
        format: version of the folder's format.
        flawmap: version that wrote it.
        architecture: timm's name of the encoder.
        weights_source: where the initial weights came from.
        weights_licence: of the initial weights.
        stage_keys: hashes of what determined each stage's result.
        memory_tokens: that the memory holds per block; None for the paper's method.
        reference_images: that a new image is compared with; None for the paper's method.
        held_out_simulated_defects: None where no good image was scored unseen.
        calibrated: whether the folder holds thresholds.
        weights_sha256: of model.safetensors, which opening compares; None in a folder of an earlier flawmap.
        self_test: what the model must give for the self-test image; None in a folder of an earlier flawmap.
        encoder_backend: what computed the frozen encoder, ``torch`` or ``onnxruntime``; None for the paper's method and
            in a folder of an earlier flawmap.
        record: of the model's run.
        trained: good images of each product and camera that it was trained on, by the names of
            :mod:`flawmap.runs.threshold_names`.
        reference_products: the product that each of the reference images shows; empty where products have no names.
    """

    format: int
    flawmap: str
    architecture: str
    weights_source: str
    weights_licence: str
    stage_keys: dict[str, str]
    memory_tokens: int | None
    reference_images: int | None
    held_out_simulated_defects: ProxyScores | None
    calibrated: bool
    weights_sha256: str | None = None
    self_test: SelfTest | None = None
    encoder_backend: str | None = None
    record: ModelRecord = field(default_factory=ModelRecord)
    trained: Mapping[str, int] = field(default_factory=dict)
    reference_products: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Versioned:
    format: int


def read_config(path: Path) -> ModelConfig:
    """Read config.json.

    Raises:
        UserError: it is damaged, or of a format that this flawmap cannot open.
    """
    version = read_json(path, _Versioned, COPY_AGAIN).format
    refuse_unreadable_format(version, OLDEST_FORMAT, FORMAT, str(path), "flawmap train DATA")
    return read_json(path, ModelConfig, COPY_AGAIN)


def record_of_run(run: RunFolder) -> ModelRecord:
    """What a run folder knows of its model by now.

    Raises:
        UserError: a file that it is read from is damaged.
    """
    scored = read_known_defects(run.known_defects)
    return ModelRecord(_data_record(run), _test_record(run), None if scored is None else scored.counts)


def _data_record(run: RunFolder) -> DataRecord | None:
    rows = read_used_images(run.manifest)
    if not rows:
        return None
    digest = hashlib.sha256("\n".join(sorted(row.sha256 for row in rows)).encode("ascii")).hexdigest()
    counts = Counter(row.split for row in rows)
    location = str(run.read_environment().get("data"))
    licence = KNOWN_LICENCES.get(location, "not stated: that of whoever took the images")
    counted = counts["train"] + counts[REVIEWED], counts["held_out"], counts[ONLY_PRETRAINED]
    return DataRecord(digest, *counted, licence, counts[KNOWN_DEFECT])


def _test_record(run: RunFolder) -> TestRecord | None:
    evaluation = read_evaluation(run.evaluation)
    if evaluation is None:
        return None
    return TestRecord(**{field.name: getattr(evaluation, field.name) for field in fields(TestRecord)})

"""NAME.threshold.json beside NAME.onnx: a threshold that comes before the one in the exported file.

The threshold of a camera is in NAME.threshold.CAMERA.json. Files of the same stem in other formats share it: the scores
of a model do not depend on the format, only on the weights and their precision, which the file names.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flawmap.advice import command
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration
from flawmap.runs.json_files import read_json, refuse_unreadable_format

ENDING = ".threshold.json"
FORMAT = OLDEST_FORMAT = 1


@dataclass(frozen=True)
class Sidecar:
    """The content of the file.

    Attributes:
        format: of this file.
        weights_sha256: of the model's weights, as the exported file names them.
        precision: of the weights in the exported file; scores of ``fp16`` differ from those of ``fp32``.
        camera: whose threshold this is; None stands for the default.
        calibration: the thresholds of scores and of maps.
        flawmap: the version that wrote the file.
    """

    format: int
    weights_sha256: str
    precision: str
    camera: str | None
    calibration: Calibration
    flawmap: str


@dataclass(frozen=True)
class _Versioned:
    format: int


def sidecar_path(model: Path, camera: str | None = None) -> Path:
    """Where the threshold of an exported file is; None stands for the default camera."""
    return model.with_name(f"{model.stem}{ENDING}" if camera is None else f"{model.stem}.threshold.{camera}.json")


def sidecar_bytes(sidecar: Sidecar) -> bytes:
    """What :func:`read_sidecar` reads."""
    return json.dumps(asdict(sidecar), indent=2).encode("utf-8")


def read_sidecar(path: Path, weights_sha256: str, precision: str, camera: str | None, model: Path) -> Calibration:
    """The thresholds in a file, which must be those of this model and camera.

    Args:
        path: of the file.
        weights_sha256: of the model.
        precision: of the model.
        camera: whose thresholds are asked for; None stands for the default.
        model: the exported file or the run, for remedies.

    Raises:
        UserError: there is no such file, it is damaged or of another format, or it belongs to another model, precision
            or camera.
    """
    remedy = f"move the file away, then: {_calibrate(model, camera)}"
    sidecar = decoded_sidecar(path, remedy)
    refuse_other_model(sidecar, path, weights_sha256, precision, remedy)
    if sidecar.camera != camera:
        theirs, ours = (f"camera {name!r}" if name else "no camera" for name in (sidecar.camera, camera))
        which = f"--camera {sidecar.camera}" if sidecar.camera else "leave --camera out"
        raise UserError(f"this threshold is for {theirs}, and {ours} was asked for", str(path), which)
    return sidecar.calibration


def decoded_sidecar(path: Path, remedy: str) -> Sidecar:
    """The content of the file, of whatever model.

    Raises:
        UserError: there is no such file, or it is damaged or of another format.
    """
    if not path.is_file():
        problem = f"{path} is a folder, not a threshold" if path.is_dir() else f"no such file: {path}"
        raise UserError(f"{problem}  (you are in {Path.cwd()})", "", "give a file of flawmap calibrate FILE")
    found = read_json(path, _Versioned, remedy).format
    refuse_unreadable_format(found, OLDEST_FORMAT, FORMAT, str(path), remedy)
    return read_json(path, Sidecar, remedy)


def refuse_other_model(sidecar: Sidecar, path: Path, weights_sha256: str, precision: str, remedy: str) -> None:
    """Raises: UserError: the thresholds in ``path`` do not belong to scores of these weights in this precision."""
    if sidecar.weights_sha256 != weights_sha256:
        hashes = f"SHA-256 {sidecar.weights_sha256[:16]}... instead of {weights_sha256[:16]}..."
        raise UserError(f"this threshold belongs to a model with other weights: {hashes}", str(path), remedy)
    if sidecar.precision != precision:
        problem = f"this threshold is for a model in {sidecar.precision}, and this one is in {precision}"
        raise UserError(f"{problem}: their scores differ", str(path), remedy)


def _calibrate(model: Path, camera: str | None) -> str:
    whose = ("--camera", camera) if camera else ()
    return command("flawmap", "calibrate", model, "GOOD_IMAGES", *whose)

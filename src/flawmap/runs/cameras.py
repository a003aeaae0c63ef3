"""The thresholds of a model: calibration.json is the default one, and cameras/NAME.json that of one camera."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flawmap.advice import command
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration, read_calibration

CALIBRATION, CAMERAS = "calibration.json", "cameras"  # a file, and a folder
DEFAULT = "default"  # how the threshold without a camera is called
MAX_NAME_LENGTH = 64
_NAME = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 2}}}[A-Za-z0-9_-])?")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # no file of Windows can be named so


@dataclass(frozen=True)
class Calibrations:
    """All thresholds of a model.

    Attributes:
        default: where no camera is named; None before calibration.
        cameras: by the camera's name.
    """

    default: Calibration | None = None
    cameras: Mapping[str, Calibration] = field(default_factory=dict)

    def of(self, camera: str | None) -> Calibration | None:
        """The thresholds of a camera; None where it has none. ``None`` stands for the default."""
        return self.default if camera is None else self.cameras.get(camera)

    def replaced(self, camera: str | None, calibration: Calibration | None) -> "Calibrations":
        """The same with other thresholds for one camera, or with none for it."""
        if camera is None:
            return Calibrations(calibration, self.cameras)
        others = {name: known for name, known in self.cameras.items() if name != camera}
        changed = others if calibration is None else others | {camera: calibration}
        return Calibrations(self.default, dict(sorted(changed.items())))


def refuse_unknown_camera(
    camera: str | None, known: Mapping[str, Calibration], place: str | Path, remedy: str = ""
) -> None:
    """A camera without a threshold is never judged by another one's.

    Args:
        camera: that was asked for; None stands for the default.
        known: the cameras that have a threshold.
        place: of the model.
        remedy: what gives the camera a threshold; empty for the command that does so in a folder.

    Raises:
        UserError: the camera has no threshold.
    """
    if camera is None or camera in known:
        return
    names = ", ".join(known) if known else "none but the default, which needs no --camera"
    problem = f"there is no threshold for camera {camera!r}; known cameras: {names}"
    raise UserError(problem, str(place), remedy or command_for_camera(place, camera))


def command_for_camera(path: str | Path, camera: str) -> str:
    """The command that gives a camera of this model its threshold, under a name that it can have."""
    name = camera if is_camera_name(camera) else _usable(camera)
    return command("flawmap", "calibrate", Path(path), "GOOD_IMAGES", "--camera", name)


def refuse_bad_name(camera: str, known: Mapping[str, Calibration]) -> None:
    """A camera's name becomes that of a file, on any system.

    Raises:
        UserError: no system, or not every one, can have a file of that name; or it differs from the name of a known
            camera in case alone.
    """
    if same := [name for name in known if name != camera and name.lower() == camera.lower()]:
        problem = f"there is a camera {same[0]!r}, and names that differ in case only are one file on some systems"
        raise UserError(problem, f"--camera {camera}", f"--camera {same[0]}, or another name")
    if is_camera_name(camera):
        return
    problem = f"a camera cannot be named {camera!r}"
    if camera.lower() == DEFAULT:
        problem += ", which is the threshold without --camera"
    elif _DEVICES.fullmatch(camera):
        problem += ", which Windows keeps for a device"
    else:
        problem += f": names have 1 to {MAX_NAME_LENGTH} letters A to Z, digits and - _ . between them"
    raise UserError(problem, "--camera", f"--camera {_usable(camera)}")


def is_camera_name(camera: str) -> bool:
    """Whether a file on any system can be named after the camera."""
    return bool(_NAME.fullmatch(camera)) and not _DEVICES.fullmatch(camera) and camera.lower() != DEFAULT


def _usable(camera: str) -> str:
    """A similar name that a file can have."""
    plain = unicodedata.normalize("NFKD", camera).encode("ascii", "ignore").decode("ascii")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[: MAX_NAME_LENGTH - 8].strip("-._")
    if not plain or _DEVICES.fullmatch(plain) or plain.lower() == DEFAULT:
        plain = f"camera-{plain.partition('.')[0] or 1}"
    return plain


def calibration_file(camera: str | None) -> str:
    """The file of a camera's thresholds in a model folder, with a forward slash; None stands for the default."""
    return CALIBRATION if camera is None else f"{CAMERAS}/{camera}.json"


def read_calibrations(folder: Path, skip_damaged: bool = False) -> Calibrations:
    """All thresholds of a model folder. A file that no camera could be named after is not ours.

    Args:
        folder: of the model.
        skip_damaged: leave out files that are damaged: while another one is replaced, they stay as they are.

    Raises:
        UserError: one of the files is damaged.
    """
    names = [file.stem for file in sorted((folder / CAMERAS).glob("*.json")) if _NAME.fullmatch(file.stem)]
    found = Calibrations()
    for camera in (None, *names):
        remedy = f"flawmap calibrate RUN GOOD_IMAGES{'' if camera is None else f' --camera {camera}'}"
        try:
            found = found.replaced(camera, read_calibration(folder / calibration_file(camera), remedy))
        except UserError:
            if not skip_damaged:
                raise
    return found

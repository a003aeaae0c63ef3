"""The thresholds of a model: calibration.json is the default one, and cameras/NAME.json that of a camera or product.

How products and cameras share names: :mod:`flawmap.runs.threshold_names`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from flawmap.advice import command
from flawmap.data.part_names import is_part_name, usable_name, wrong_with
from flawmap.errors import UserError
from flawmap.runs.calibration import Calibration, read_calibration
from flawmap.runs.threshold_names import (
    camera_in,
    is_threshold_name,
    is_trained,
    options_of,
    product_in,
    products_in,
    threshold_name,
)

CALIBRATION, CAMERAS = "calibration.json", "cameras"  # a file, and a folder


@dataclass(frozen=True)
class Calibrations:
    """All thresholds of a model.

    Attributes:
        default: where no camera is named; None before calibration.
        cameras: by the name of a camera or product.
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
    camera: str | None,
    known: Mapping[str, Calibration],
    place: str | Path,
    remedy: str = "",
    trained: Mapping[str, int] = {},
) -> None:
    """A camera or product without a threshold is never judged by another one's.

    Those that training has seen in too few images are judged by the thresholds of all its images, which they are among.

    Args:
        camera: that was asked for, or another name of :mod:`flawmap.runs.threshold_names`; None stands for the default.
        known: those that have a threshold.
        place: of the model.
        remedy: what gives it a threshold; empty for the command that does so in a folder.
        trained: what training has seen.

    Raises:
        UserError: it has no threshold.
    """
    if camera is None or camera in known or is_trained(camera, (*known, *trained)):
        return
    product, names = product_in(camera), (*known, *trained)
    if product is not None and product not in products_in(names):
        products = ", ".join(products_in(names)) or "none: it was trained on images without a product"
        problem = f"the model does not know the product {product!r}; it knows {products}"
        near = _meant("product", product, products_in(names))
        raise UserError(problem, str(place), near or remedy or command_for_camera(place, camera))
    at = camera_in(camera)
    cameras = tuple(dict.fromkeys(name for name in map(camera_in, names) if name))
    listed = ", ".join(cameras) or "none but the default, which needs no --camera"
    problem = f"there is no threshold for camera {at!r}; known cameras: {listed}"
    near = _meant("camera", at, cameras) if at else ""
    raise UserError(problem, str(place), near or remedy or command_for_camera(place, camera))


def _meant(what: str, given: str, known: Iterable[str]) -> str:
    """A question after a mistyped product or camera; empty where none is similar. Another number is no mistake."""
    near = [name for name in get_close_matches(given, [*known], cutoff=0.75) if _letters(name) != _letters(given)]
    return f"did you mean {what} {near[0]}?" if near else ""


def _letters(name: str) -> str:
    return "".join(character for character in name if not character.isdigit())


def command_for_camera(path: str | Path, camera: str) -> str:
    """The command that gives a camera or product of this model its threshold, under a name that it can have."""
    product, at = product_in(camera), camera_in(camera)
    name = threshold_name(product and _as_name(product, "product"), at and _as_name(at, "camera"))
    return command("flawmap", "calibrate", Path(path), "GOOD_IMAGES", *options_of(name))


def refuse_bad_name(camera: str, known: Mapping[str, Calibration]) -> None:
    """The names of camera and product become that of a file, on any system.

    Raises:
        UserError: no system, or not every one, can have a file of that name; or it differs from a known name in case
            alone.
    """
    for kind, part in (("camera", camera_in), ("product", product_in)):
        if (name := part(camera)) is None:
            continue
        others = [other for one in known if (other := part(one)) is not None and other != name]
        if same := [other for other in others if other.lower() == name.lower()]:
            problem = f"there is a {kind} {same[0]!r}, and names that differ in case only are one file on some systems"
            raise UserError(problem, f"--{kind} {name}", f"--{kind} {same[0]}, or another name")
        if not is_part_name(name):
            problem = f"a {kind} cannot be named {name!r}{wrong_with(name)}"
            raise UserError(problem, f"--{kind}", f"--{kind} {usable_name(name, kind)}")


def is_camera_name(camera: str) -> bool:
    """Whether a file on any system can be named after the camera, the product, or both."""
    parts = [part for part in (product_in(camera), camera_in(camera)) if part is not None]
    return bool(parts) and all(map(is_part_name, parts))


def _as_name(text: str, kind: str) -> str:
    return text if is_part_name(text) else usable_name(text, kind)


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
    names = [file.stem for file in sorted((folder / CAMERAS).glob("*.json")) if is_threshold_name(file.stem)]
    found = Calibrations()
    for camera in (None, *names):
        remedy = command("flawmap", "calibrate", "RUN", "GOOD_IMAGES", *options_of(camera))
        try:
            found = found.replaced(camera, read_calibration(folder / calibration_file(camera), remedy))
        except UserError:
            if not skip_damaged:
                raise
    return found

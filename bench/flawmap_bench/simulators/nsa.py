"""Natural synthetic anomalies (Schlueter, Tan, Hou and Kainz 2022): patches of another image are cloned in.

Sizes follow a gamma distribution, patches lie on the object where there is one, and Poisson cloning hides the seam.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.errors import UserError
from flawmap.simulators.blending import FRAME_PX, on_canvas, seamless_clone
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside
from flawmap_bench.simulators.cutpaste import uniform_box

MAX_TRIES = 200  # to find a place on the object
SCALE_MEAN, SCALE_DEVIATION = 1.0, 0.5
MIN_SIDE_PX = 12  # within 3 px of a mask's edge, OpenCV uses only the border's colours
DISK_PX = 5  # radius of the median that smooths the labels


@dataclass(frozen=True)
class NsaParameters:
    """How NSA's patches are drawn and labelled. The defaults are those for textures.

    Attributes:
        gamma: shape, scale and lower bound: half a side is lower bound + Gamma(shape, scale), as a share of the image
            side.
        half_height, half_width: bounds of half a side.
        scale: bounds of the factor by which a patch is resized, which is N(1, 0.5).
        max_patches: the first is always pasted, each other one with probability one half.
        clone: ``normal`` takes the patch's gradients, ``mixed`` the stronger of patch and image.
        background: gray level and tolerance; what lies farther from it is object. None: objects are not looked for.
        min_object: share of the patch that must be object.
        min_overlap: share of the patch's object that must come to lie on the object of the image.
        steepness, midpoint: of the logistic label, per gray level and in gray levels.
    """

    gamma: tuple[float, float, float] = (2.0, 0.05, 0.03)
    half_height: tuple[float, float] = (0.03, 0.4)
    half_width: tuple[float, float] = (0.03, 0.4)
    scale: tuple[float, float] = (0.5, 2.0)
    max_patches: int = 4
    clone: Literal["normal", "mixed"] = "mixed"
    background: tuple[int, int] | None = None
    min_object: float = 0.7
    min_overlap: float = 0.25
    steepness: float = 1 / 3
    midpoint: float = 7.0


_TEXTURE = NsaParameters()
_OBJECT = NsaParameters(scale=(0.7, 1.3), max_patches=3, clone="normal", steepness=1 / 12, midpoint=24.0)
_SMALL = replace(_OBJECT, steepness=1 / 6, midpoint=15.0)

NSA_PARAMETERS: dict[str, NsaParameters] = {
    "bottle": replace(_OBJECT, background=(200, 60)),
    "cable": replace(_OBJECT, half_height=(0.05, 0.4), half_width=(0.05, 0.4)),
    "capsule": replace(_OBJECT, background=(200, 60), half_height=(0.03, 0.15), steepness=1 / 2, midpoint=4.0),
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "hazelnut": replace(_OBJECT, background=(20, 20), half_height=(0.03, 0.35), half_width=(0.03, 0.35)),
    "leather": _TEXTURE,
    "metal_nut": replace(_OBJECT, background=(20, 20), min_object=0.5, steepness=1 / 3, midpoint=7.0),
    "pill": replace(_OBJECT, background=(20, 20), half_height=(0.03, 0.2), steepness=1 / 3, midpoint=7.0),
    "screw": replace(
        _OBJECT,
        background=(200, 60),
        min_object=0.5,
        half_height=(0.03, 0.12),
        half_width=(0.03, 0.12),
        max_patches=4,
        steepness=1.0,
        midpoint=3.0,
    ),
    "tile": _TEXTURE,
    "toothbrush": replace(_SMALL, background=(20, 20), min_object=0.25, half_width=(0.03, 0.2)),
    "transistor": _SMALL,
    "wood": replace(_TEXTURE, steepness=1 / 6, midpoint=15.0),
    "zipper": replace(_SMALL, background=(200, 60), half_width=(0.03, 0.2), max_patches=4),
    "chest_xray": replace(
        _OBJECT,
        gamma=(2.0, 0.03, 0.05),
        clone="mixed",
        background=(0, 20),
        min_overlap=0.7,
        steepness=1 / 2,
        midpoint=4.0,
    ),
}


def nsa_parameters(name: str | None) -> NsaParameters:
    """The parameters of a class (a key of :data:`NSA_PARAMETERS`), or for None those of textures.

    Raises:
        UserError: NSA has no parameters for that class.
    """
    if name is None:
        return _TEXTURE
    if name not in NSA_PARAMETERS:
        known = ", ".join(NSA_PARAMETERS)
        raise UserError(f"NSA has no parameters for {name!r}", "simulation.nsa_class", f"one of {known}, or null")
    return NSA_PARAMETERS[name]


@dataclass(frozen=True)
class NaturalSyntheticAnomalies(Simulator):
    """NSA with one of its parameter sets (:data:`NSA_PARAMETERS`) and logistic labels.

    The soft target is a logistic function of the smoothed change where that is visible. The image stays as it is where
    no place on the object is found or no change is visible.
    """

    parameters: NsaParameters = field(default_factory=NsaParameters)
    needs: ClassVar = ("second",)

    def simulate(
        self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator, second: UInt8[np.ndarray, "h w 3"]
    ) -> SimulatedAnomaly:
        """Simulate one defect."""
        parameters = self.parameters
        on_second, on_image = object_mask(second, parameters.background), object_mask(image, parameters.background)
        result, footprint = image, np.zeros(image.shape[:2], bool)
        for number in range(parameters.max_patches):
            if number > 0 and generator.random() < 0.5:
                continue
            patch = _shifted_patch(second, on_second, on_image, generator, parameters)
            if patch is not None:
                result, cloned = clone_patch(result, *patch, parameters.clone)
                footprint |= cloned
        soft_target = self._label(image, result, footprint)
        return anomaly_inside(image, result, footprint & soft_target.any(), soft_target)

    def _label(
        self, image: UInt8[np.ndarray, "h w 3"], result: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
    ) -> Float[np.ndarray, "h w"]:
        """The soft target: zero except where the image changed by more than one gray level."""
        change_of_three = np.abs(result.astype(np.int16) - image).sum(axis=2).astype(np.uint16)  # channels: (h, w)
        visible = cv2.medianBlur((change_of_three > 3).astype(np.uint8), 5).astype(bool) & footprint
        label = visible.astype(np.float32)
        if visible.any():
            change = disk_median(change_of_three, visible, DISK_PX) / 3  # (visible pixels,)
            label[visible] = 1 / (1 + np.exp(-self.parameters.steepness * (change - self.parameters.midpoint)))
        return label


def object_mask(
    image: UInt8[np.ndarray, "h w 3"], background: tuple[int, int] | None
) -> Bool[np.ndarray, "h w"] | None:
    """True where the mean of the channels is farther from the background than its tolerance; smoothed by a median."""
    if background is None:
        return None
    gray_level, tolerance = background
    far = np.abs(image.mean(axis=2) - gray_level) > tolerance
    return cv2.medianBlur(far.astype(np.uint8), 7).astype(bool)


def draw_sides(
    height: int, width: int, generator: np.random.Generator, parameters: NsaParameters
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width in px of a patch, first as it is cut and then as it is pasted.

    The second pair is the first times a factor, within the same bounds and of the same aspect ratio.
    """
    shape, scale, least = parameters.gamma
    bounds = np.array([parameters.half_height, parameters.half_width])
    half = (least + generator.gamma(shape, scale, size=2)).clip(bounds[:, 0], bounds[:, 1])
    factor = float(np.clip(generator.normal(SCALE_MEAN, SCALE_DEVIATION), *parameters.scale))
    factor = float(np.clip(factor, (bounds[:, 0] / half).max(), (bounds[:, 1] / half).min()))
    return _in_pixels(half, height, width), _in_pixels(half * factor, height, width)


def disk_median(values: np.ndarray, wanted: Bool[np.ndarray, "h w"], radius: int) -> Float[np.ndarray, "n"]:
    """Median of ``values`` (h, w) over a disk around each wanted pixel; the border's values continue beyond it."""
    offsets = np.arange(-radius, radius + 1)
    disk = offsets[:, None] ** 2 + offsets**2 <= radius**2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, radius, mode="edge"), disk.shape)  # (h, w, d, d)
    return np.median(windows[wanted][:, disk], axis=1).astype(np.float64)


def _in_pixels(half_sides: Float[np.ndarray, "2"], height: int, width: int) -> tuple[int, int]:
    """Sides in whole pixels, large enough to be blended and small enough to fit into the image."""
    rows, columns = (
        min(max(MIN_SIDE_PX, round(2 * half * extent)), extent)
        for half, extent in zip(half_sides.tolist(), (height, width), strict=True)
    )
    return rows, columns


def _shifted_patch(
    second: UInt8[np.ndarray, "h w 3"],
    on_second: Bool[np.ndarray, "h w"] | None,
    on_image: Bool[np.ndarray, "h w"] | None,
    generator: np.random.Generator,
    parameters: NsaParameters,
) -> tuple[UInt8[np.ndarray, "a b 3"], Bool[np.ndarray, "a b"], tuple[slice, slice]] | None:
    """A patch, which of its pixels to paste, and where; None where no place on the object was found."""
    if on_second is not None and on_image is not None and not (on_second.any() and on_image.any()):
        return None
    cut, pasted = draw_sides(second.shape[0], second.shape[1], generator, parameters)
    for _ in range(MAX_TRIES):
        source = uniform_box(second.shape[:2], cut, generator)
        if on_second is None or on_second[source].mean() > parameters.min_object:
            break
    else:
        return None
    patch = cv2.resize(second[source], pasted[::-1], interpolation=cv2.INTER_LINEAR)
    if on_second is None or on_image is None:
        return patch, np.ones(pasted, bool), uniform_box(second.shape[:2], pasted, generator)
    on_patch = cv2.resize(on_second[source].astype(np.uint8), pasted[::-1], interpolation=cv2.INTER_NEAREST) > 0
    for _ in range(MAX_TRIES):
        place = uniform_box(second.shape[:2], pasted, generator)
        if (on_patch & on_image[place]).sum() > parameters.min_overlap * on_patch.sum():
            return patch, on_patch | on_image[place], place
    return None


def clone_patch(
    image: UInt8[np.ndarray, "h w 3"],
    patch: UInt8[np.ndarray, "a b 3"],
    alpha: Bool[np.ndarray, "a b"],
    place: tuple[slice, slice],
    kind: Literal["normal", "mixed"],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """The image with the patch cloned in, and its footprint; the image as it was where the footprint is too small."""
    canvas, mask = on_canvas(image, patch, alpha, place)
    flag = cv2.NORMAL_CLONE if kind == "normal" else cv2.MIXED_CLONE
    cloned = seamless_clone(image, canvas, mask, flag, MIN_SIDE_PX - 2 * FRAME_PX - 2, min_area_px=0)
    return (image, np.zeros(image.shape[:2], bool)) if cloned is None else cloned

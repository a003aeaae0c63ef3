"""The paper's simulator: cut a patch where the attention is high and paste it where the attention is high.

The steps are those of the paper's section "Fine-Tuning Using Synthetic Anomalies", in its order:

1. The [CLS] attention of the good image, resized to the image and renormalised, is the distribution of locations.
2. Source and destination of a patch are drawn from it; its width r_w and height r_h are each U(0.1 W, 0.4 W).
3. The patch is jittered, rotated and resized.
4. It is pasted; on chest X-rays it is blended in.

The paper leaves open what becomes of a defect that cannot be seen. Here a patch is drawn again where it overlaps its
own source too much or changes the image too little.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.blending import on_canvas, paste, poisson_blend, soft_paste
from flawmap.simulators.color_jitter import color_jitter
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator

MAX_TRIES = 20
MAX_OVERLAP = 0.5  # intersection over union of source and destination
MIN_CHANGE = 3.0  # mean absolute difference inside the footprint, in gray levels


@dataclass(frozen=True)
class AttentionCutPaste(Simulator):
    """Attention-conditioned cut and paste.

    Attributes:
        settings: sizes, rotation, blending and number of patches. With ``max_patches`` of more than one, each further
            patch is added with probability one half.
    """

    settings: SimulationSettings = field(default_factory=SimulationSettings)
    needs: ClassVar = ("attention",)

    def simulate(
        self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator, attention: Float[np.ndarray, "r c"]
    ) -> SimulatedAnomaly:
        """Simulate one defect of one or more patches; the sum of the attention does not matter."""
        locations = LocationDistribution(attention, image.shape[0], image.shape[1])
        result, footprint = image, np.zeros(image.shape[:2], bool)
        for number in range(self.settings.max_patches):
            if number > 0 and generator.random() < 0.5:
                continue
            result, pasted = _add_patch(result, locations, generator, self.settings)
            footprint |= pasted
        return SimulatedAnomaly(result, footprint, footprint.astype(np.float32), int(footprint.any()))


class LocationDistribution:
    """P(u, v): the attention resized to the image, clamped and renormalised; uniform where it is all zero."""

    def __init__(self, attention: Float[np.ndarray, "r c"], height: int, width: int) -> None:
        resized = cv2.resize(attention.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)  # (h, w)
        weights = resized.clip(min=0).astype(np.float64).ravel()  # (h w,)
        if not weights.sum() > 0:
            weights = np.ones_like(weights)
        self._cumulative = np.cumsum(weights)
        self._width = width

    def sample(self, generator: np.random.Generator) -> tuple[int, int]:
        """A pixel (row, column)."""
        drawn = generator.random() * self._cumulative[-1]
        index = min(int(np.searchsorted(self._cumulative, drawn, side="right")), len(self._cumulative) - 1)
        return divmod(index, self._width)


def start_inside(center: int, extent: int, limit: int) -> int:
    """First pixel of ``extent`` pixels around ``center``, shifted to lie within [0, ``limit``)."""
    return min(max(center - extent // 2, 0), limit - extent)


def _add_patch(
    image: UInt8[np.ndarray, "h w 3"],
    locations: LocationDistribution,
    generator: np.random.Generator,
    settings: SimulationSettings,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Cut, transform and paste one patch; the image as it was and no footprint where no try can be seen."""
    for _ in range(MAX_TRIES):
        pasted = _cut_and_paste(image, locations, generator, settings)
        if pasted is None:
            continue
        patched, footprint = pasted
        if settings.blend == "mixed" and generator.random() < 0.5:
            patched = soft_paste(image, patched, footprint)
        elif settings.blend == "poisson":
            blended = poisson_blend(image, patched, footprint)
            if blended is None:
                continue
            patched, footprint = blended
        change = np.abs(patched[footprint].astype(np.int16) - image[footprint])  # (pixels of the footprint, 3)
        if change.size and change.mean() >= MIN_CHANGE:
            return patched, footprint
    return image, np.zeros(image.shape[:2], bool)


def _cut_and_paste(
    image: UInt8[np.ndarray, "h w 3"],
    locations: LocationDistribution,
    generator: np.random.Generator,
    settings: SimulationSettings,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """One draw of size, source, destination and transform, pasted; None where the two places overlap too much."""
    height, width = image.shape[:2]
    # 2. sizes and locations, each drawn independently
    r_w, r_h = (
        max(2, round(side)) for side in generator.uniform(settings.min_size * width, settings.max_size * width, size=2)
    )
    r_h = min(r_h, height)
    source, destination = locations.sample(generator), locations.sample(generator)
    top, left = start_inside(source[0], r_h, height), start_inside(source[1], r_w, width)
    moved = start_inside(destination[0], r_h, height) - top, start_inside(destination[1], r_w, width) - left
    if _overlap(moved, r_h, r_w) > MAX_OVERLAP:
        return None
    # 3. jitter, rotation and resizing
    jitter = settings.jitter
    patch = color_jitter(image[top : top + r_h, left : left + r_w], generator, jitter, jitter, jitter, jitter)
    angle_deg = generator.uniform(-settings.max_rotation_deg, settings.max_rotation_deg)
    patch, alpha = _rotate_and_resize(patch, angle_deg, generator.uniform(settings.min_scale, settings.max_scale))
    # 4. pasting; the caller blends
    place, kept = _fit_into(destination, alpha.shape, (height, width))
    canvas, footprint = on_canvas(image, patch[kept], alpha[kept], place)
    return paste(image, canvas, footprint), footprint


def _overlap(moved: tuple[int, int], height: int, width: int) -> float:
    """Intersection over union of a box and the same box moved by some rows and columns."""
    intersection = max(0, height - abs(moved[0])) * max(0, width - abs(moved[1]))
    return intersection / (2 * height * width - intersection)


def _rotate_and_resize(
    patch: UInt8[np.ndarray, "h w 3"], angle_deg: float, scale: float
) -> tuple[UInt8[np.ndarray, "a b 3"], Bool[np.ndarray, "a b"]]:
    """Rotate and resize a patch on a canvas that holds all of it; alpha is True where more than half is patch."""
    height, width = patch.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, scale)  # (2, 3)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_width, new_height = max(1, round(width * cos + height * sin)), max(1, round(width * sin + height * cos))
    matrix[:, 2] += (new_width - width) / 2, (new_height - height) / 2
    size = (new_width, new_height)
    # the border is repeated so that no black mixes into the patch's edge; alpha alone says where the patch ends
    rotated = cv2.warpAffine(patch, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ones((height, width), np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    return rotated, alpha > 0.5


def _fit_into(
    center: tuple[int, int], patch_shape: tuple[int, int], image_shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where in the image a patch goes and which part of it: shifted inside, and cropped only if it is larger."""
    place, kept = [], []
    for middle, extent, limit in zip(center, patch_shape, image_shape, strict=True):
        used = min(extent, limit)
        start, offset = start_inside(middle, used, limit), (extent - used) // 2
        place.append(slice(start, start + used))
        kept.append(slice(offset, offset + used))
    return (place[0], place[1]), (kept[0], kept[1])

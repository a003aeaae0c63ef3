"""Attention-conditioned anomaly simulation: cut a patch where attention is, paste it where attention is.

The paper, "Fine-Tuning Using Synthetic Anomalies". Locations follow the [CLS] attention, resized to the image
and renormalised; sizes are U(0.1 W, 0.4 W) for each side on its own; patches are rotated, resized and jittered.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.blending import paste, poisson_blend, soft_paste
from flawmap.simulators.color_jitter import color_jitter
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly

MAX_TRIES = 20
MAX_OVERLAP = 0.5  # intersection over union of source and destination: a patch pasted onto itself is no anomaly
MIN_CHANGE = 3.0  # mean absolute difference in gray levels inside the footprint: below, nobody could see it


@dataclass(frozen=True)
class AttentionCutPaste:
    """Ours: source and destination follow the attention."""

    settings: SimulationSettings = field(default_factory=SimulationSettings)
    needs_attention: ClassVar[bool] = True
    needs_second: ClassVar[bool] = False

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: Float[np.ndarray, "r c"] | None = None,
        second: object = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly; see :class:`flawmap.simulators.by_name.Simulator`."""
        if attention is None:
            raise ValueError("attention-conditioned cut and paste needs the attention of the image")
        return simulate_anomaly(image, attention, generator, self.settings)


def simulate_anomaly(
    image: UInt8[np.ndarray, "h w 3"],
    attention: Float[np.ndarray, "r c"],
    generator: np.random.Generator,
    settings: SimulationSettings,
) -> SimulatedAnomaly:
    """Simulate an anomaly on a normal image.

    Args:
        image: the augmented normal image.
        attention: A^[CLS] >= 0 of that image, on the patch grid or at any finer resolution; its sum does not matter.
        generator: the only source of randomness.
        settings: sizes, rotation, blending and number of patches. With ``max_patches`` of more than one, each
            further patch is added with probability one half.
    """
    distribution = LocationDistribution(attention, image.shape[0], image.shape[1])
    result, footprint = image, np.zeros(image.shape[:2], bool)
    for number in range(settings.max_patches):
        if number > 0 and generator.random() < 0.5:
            continue
        result, pasted = _add_patch(result, distribution, generator, settings)
        footprint |= pasted
    return SimulatedAnomaly(result, footprint, footprint.astype(np.float32), int(footprint.any()))


class LocationDistribution:
    """P(u, v): the attention resized to the image, clamped and renormalised; uniform where it is all zero."""

    def __init__(self, attention: Float[np.ndarray, "r c"], height: int, width: int) -> None:
        resized = cv2.resize(attention.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        weights = resized.clip(min=0).astype(np.float64).ravel()
        if not weights.sum() > 0:
            weights = np.ones_like(weights)
        self._cumulative = np.cumsum(weights)
        self._width = width

    def sample(self, generator: np.random.Generator) -> tuple[int, int]:
        """A pixel (row, column)."""
        drawn = generator.random() * self._cumulative[-1]
        index = min(int(np.searchsorted(self._cumulative, drawn, side="right")), len(self._cumulative) - 1)
        return divmod(index, self._width)


def _add_patch(
    image: UInt8[np.ndarray, "h w 3"],
    distribution: LocationDistribution,
    generator: np.random.Generator,
    settings: SimulationSettings,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Cut, transform and paste one patch; redrawn until it overlaps its source little and changes the image."""
    for _ in range(MAX_TRIES):
        drawn = _draw_patch(image, distribution, generator, settings)
        if drawn is None:
            continue
        patched, footprint = drawn
        if settings.blend == "mixed" and generator.random() < 0.5:
            patched = soft_paste(image, patched, footprint)
        elif settings.blend == "poisson":
            blended = poisson_blend(image, patched, footprint)
            if blended is None:
                continue
            patched, footprint = blended
        changed = np.abs(patched[footprint].astype(np.int16) - image[footprint])
        if changed.size and changed.mean() >= MIN_CHANGE:
            return patched, footprint
    return image, np.zeros(image.shape[:2], bool)


def _draw_patch(
    image: UInt8[np.ndarray, "h w 3"],
    distribution: LocationDistribution,
    generator: np.random.Generator,
    settings: SimulationSettings,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """One draw of source, destination, size and transform, pasted; None where the two places overlap too much."""
    height, width = image.shape[:2]
    patch_width, patch_height = (
        max(2, round(side)) for side in generator.uniform(settings.min_size * width, settings.max_size * width, size=2)
    )
    patch_height = min(patch_height, height)
    source = _box_around(distribution.sample(generator), patch_height, patch_width, height, width)
    destination = distribution.sample(generator)
    top, left = source
    if (
        _overlap(source, _box_around(destination, patch_height, patch_width, height, width), patch_height, patch_width)
        > MAX_OVERLAP
    ):
        return None
    patch = color_jitter(image[top : top + patch_height, left : left + patch_width], generator, *(settings.jitter,) * 4)
    patch, alpha = _rotate_and_resize(
        patch,
        generator.uniform(-settings.max_rotation_deg, settings.max_rotation_deg),
        generator.uniform(settings.min_scale, settings.max_scale),
    )
    footprint = np.zeros((height, width), bool)
    canvas = np.zeros_like(image)
    (target, cut) = _placement(destination, alpha.shape, (height, width))
    footprint[target] = alpha[cut]
    canvas[target] = patch[cut]
    return paste(image, canvas, footprint), footprint


def _box_around(center: tuple[int, int], box_height: int, box_width: int, height: int, width: int) -> tuple[int, int]:
    """Top-left corner of a box around ``center``, shifted to lie inside the image."""
    top = min(max(center[0] - box_height // 2, 0), height - box_height)
    left = min(max(center[1] - box_width // 2, 0), width - box_width)
    return top, left


def _overlap(a: tuple[int, int], b: tuple[int, int], box_height: int, box_width: int) -> float:
    """Intersection over union of two boxes of one size."""
    rows = max(0, box_height - abs(a[0] - b[0]))
    columns = max(0, box_width - abs(a[1] - b[1]))
    intersection = rows * columns
    return intersection / (2 * box_height * box_width - intersection)


def _rotate_and_resize(
    patch: UInt8[np.ndarray, "h w 3"], angle_deg: float, scale: float
) -> tuple[UInt8[np.ndarray, "a b 3"], Bool[np.ndarray, "a b"]]:
    """Rotate and resize a patch on a canvas that holds all of it; alpha is True where more than half is patch."""
    height, width = patch.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, scale)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_width, new_height = max(1, round(width * cos + height * sin)), max(1, round(width * sin + height * cos))
    matrix[:, 2] += (new_width - width) / 2, (new_height - height) / 2
    size = (new_width, new_height)
    # the border is repeated so that no black mixes into the patch's edge; alpha alone says where it ends
    turned = cv2.warpAffine(patch, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ones((height, width), np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    return turned, alpha > 0.5


def _placement(
    center: tuple[int, int], patch_shape: tuple[int, int], image_shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where in the image a patch goes and which part of it: shifted inside, cropped only if it is larger."""
    target, cut = [], []
    for middle, extent, limit in zip(center, patch_shape, image_shape, strict=True):
        used = min(extent, limit)
        start = min(max(middle - used // 2, 0), limit - used)
        offset = (extent - used) // 2
        target.append(slice(start, start + used))
        cut.append(slice(offset, offset + used))
    return (target[0], target[1]), (cut[0], cut[1])

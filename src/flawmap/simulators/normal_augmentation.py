"""Augmentation of a good image, and of its attention, before a defect is simulated on it."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.recipe.settings import NormalAugmentation
from flawmap.simulators.color_jitter import color_jitter

LEAST_ATTENTION = 1e-12  # inside a region of interest


def augment_normal(
    image: UInt8[np.ndarray, "h w 3"],
    attention: Float[np.ndarray, "r c"],
    size_px: int,
    settings: NormalAugmentation,
    generator: np.random.Generator,
    inside: Bool[np.ndarray, "h w"] | None = None,
) -> tuple[UInt8[np.ndarray, "s s 3"], Float[np.ndarray, "s s"]]:
    """Crop, flip, rotate and jitter ``image``, and warp ``attention`` in the same way.

    Args:
        image: the whole good image, a little larger than ``size_px``.
        attention: A^[CLS] of the whole image on its patch grid.
        size_px: side W of the result.
        inside: the region of interest.

    Returns:
        the augmented image and the attention at its resolution, >= 0, not normalised. With a region of interest, it is
        above 0 inside and 0 outside.
    """
    height, width = image.shape[:2]
    matrix = _random_geometry(height, width, size_px, settings, generator)  # output pixel -> image pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (size_px, size_px)
    warped = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    jitter = settings.jitter
    warped = color_jitter(warped, generator, jitter, jitter, jitter, jitter)
    rows, columns = attention.shape
    to_grid = _scaling(columns / width, rows / height) @ np.vstack([matrix, [0, 0, 1]])
    # BORDER_REFLECT mirrors half a cell beyond the last centre: at the edge of the image, where the image is mirrored
    attention = cv2.warpAffine(
        attention.astype(np.float32), to_grid[:2], size, flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    if inside is not None:
        mirrored = cv2.BORDER_REFLECT_101
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        is_inside = cv2.warpAffine(inside.astype(np.uint8), matrix, size, flags=flags, borderMode=mirrored) > 0
        return warped, np.where(is_inside, attention.clip(min=LEAST_ATTENTION), 0).astype(np.float32)
    return warped, attention.clip(min=0)


def _random_geometry(
    height: int, width: int, size_px: int, settings: NormalAugmentation, generator: np.random.Generator
) -> Float[np.ndarray, "2 3"]:
    """Affine map from pixel centres of the output to pixel centres of the image."""
    side = np.sqrt(generator.uniform(settings.min_crop, 1.0))  # of a square crop, as a share of each image side
    left, top = generator.uniform(0, 1 - side, size=2)
    flip_x = -1.0 if settings.horizontal_flip and generator.random() < 0.5 else 1.0
    flip_y = -1.0 if settings.vertical_flip and generator.random() < 0.5 else 1.0
    angle = np.deg2rad(generator.uniform(-settings.max_rotation_deg, settings.max_rotation_deg))
    cos, sin = np.cos(angle), np.sin(angle)
    to_center = np.array([[1, 0, 0.5 - size_px / 2], [0, 1, 0.5 - size_px / 2], [0, 0, 1]])
    rotate = np.array([[cos * flip_x, -sin * flip_y, 0], [sin * flip_x, cos * flip_y, 0], [0, 0, 1]])
    scale = np.diag([side * width / size_px, side * height / size_px, 1])
    to_image = np.array([[1, 0, (left + side / 2) * width - 0.5], [0, 1, (top + side / 2) * height - 0.5], [0, 0, 1]])
    return (to_image @ scale @ rotate @ to_center)[:2]


def _scaling(x: float, y: float) -> Float[np.ndarray, "3 3"]:
    """Map pixel centres of one resolution to those of another."""
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])

"""Ways to put a patch into an image: hard, with soft edges, or by Poisson blending (Perez et al. 2003).

A patch is first put on a canvas of the image's size, so that each way reads image, canvas and footprint.
"""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

MIN_POISSON_AREA_PX = 50
MIN_POISSON_SIDE_PX = 5
FRAME_PX = 2  # seamlessClone needs the mask to stay off the image frame
SOFT_CORE = 0.7


def on_canvas(
    image: UInt8[np.ndarray, "h w 3"],
    patch: UInt8[np.ndarray, "a b 3"],
    alpha: Bool[np.ndarray, "a b"],
    place: tuple[slice, slice],
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """A copy of ``image`` that holds all of ``patch`` at ``place``, and the footprint: where ``alpha`` is True."""
    canvas, footprint = image.copy(), np.zeros(image.shape[:2], bool)
    canvas[place], footprint[place] = patch, alpha
    return canvas, footprint


def paste(
    image: UInt8[np.ndarray, "h w 3"], patched: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """``patched`` inside the footprint, ``image`` outside."""
    return np.where(footprint[..., None], patched, image)


def poisson_blend(
    image: UInt8[np.ndarray, "h w 3"], patched: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """Blend ``patched`` into ``image`` with mixed gradients.

    OpenCV mixes by |gx - gy|, so that edges from lower left to upper right can be lost, and within four pixels of the
    border the image's gradient stays (both measured).

    Returns:
        the blended image and its footprint, or None where the footprint is too small to blend.
    """
    return seamless_clone(image, paste(image, patched, footprint), footprint)


def seamless_clone(
    image: UInt8[np.ndarray, "h w 3"],
    canvas: UInt8[np.ndarray, "h w 3"],
    footprint: Bool[np.ndarray, "h w"],
    flag: int = cv2.MIXED_CLONE,
    min_side_px: int = MIN_POISSON_SIDE_PX,
    min_area_px: int = MIN_POISSON_AREA_PX,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """Clone the footprint of ``canvas`` into ``image`` at the same place, by OpenCV's seamlessClone.

    OpenCV centres the bounding box of the mask on the point that it is given. The point is therefore the middle of
    that box. The solver may also change pixels of the box outside the mask; those are restored.

    Args:
        image: what is cloned into.
        canvas: of the same size.
        footprint: is eroded by one pixel and kept off the frame of the image first.
        flag: cv2.NORMAL_CLONE or cv2.MIXED_CLONE.
        min_side_px: smallest side of the eroded footprint's bounding box.
        min_area_px: smallest area of the eroded footprint.

    Returns:
        the blended image, equal to ``image`` outside the eroded footprint, and that footprint; None where it is too
        small or OpenCV refuses it.
    """
    mask = cv2.erode(
        footprint.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    mask[:FRAME_PX] = mask[-FRAME_PX:] = 0
    mask[:, :FRAME_PX] = mask[:, -FRAME_PX:] = 0
    x, y, width, height = cv2.boundingRect(mask)
    if int(mask.sum()) < min_area_px or min(width, height) < min_side_px:
        return None
    try:
        blended = cv2.seamlessClone(canvas, image, mask * 255, (x + width // 2, y + height // 2), flag)
    except cv2.error:  # some OpenCV versions refuse a rectangle that touches the frame
        return None
    blended_footprint = mask.astype(bool)
    return paste(image, blended, blended_footprint), blended_footprint


def soft_paste(
    image: UInt8[np.ndarray, "h w 3"], patched: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """As :func:`paste`, but ``patched`` fades in with the distance from the footprint's edge.

    It reaches its full share at ``SOFT_CORE`` of the largest distance. Stains and uneven surfaces have no sharp edge
    that a head could learn to look for.
    """
    framed = cv2.copyMakeBorder(footprint.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = (distance / max(1.0, SOFT_CORE * float(distance.max()))).clip(0, 1)[..., None]
    mixed = np.rint(image + share * (patched.astype(np.float32) - image)).astype(np.uint8)
    return paste(image, mixed, footprint)

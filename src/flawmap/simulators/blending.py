"""Ways to put a patch into an image: over it, over it with soft edges, or by Poisson blending (Perez et al. 2003)."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

MIN_POISSON_AREA_PX = 50
MIN_POISSON_SIDE_PX = 5
FRAME_PX = 2  # seamlessClone needs the mask to stay off the image frame
SOFT_CORE = 0.7


def paste(
    image: UInt8[np.ndarray, "h w 3"], patched: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """``patched`` inside the footprint, ``image`` outside."""
    return np.where(footprint[..., None], patched, image)


def poisson_blend(
    image: UInt8[np.ndarray, "h w 3"], patched: UInt8[np.ndarray, "h w 3"], footprint: Bool[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """Blend ``patched`` into ``image`` with mixed gradients, and the footprint that was really blended.

    OpenCV centres the *bounding box of the mask* on the point it is given and solves on that rectangle. Cloning a
    whole canvas onto the whole image with the point at the middle of that box therefore aligns exactly. The
    solver may also touch pixels of the rectangle outside the mask: those are put back, and the footprint is
    eroded by one pixel and kept off the frame. Two more of OpenCV's ways (measured): it mixes by |gx - gy|, so that
    edges from lower left to upper right can be lost, and within four pixels of the border the image's gradient stays.

    Returns:
        the blended image and its footprint, or None where the footprint is too small to blend.
    """
    canvas = paste(image, patched, footprint)
    return seamless_clone(image, canvas, footprint, cv2.MIXED_CLONE, MIN_POISSON_SIDE_PX, MIN_POISSON_AREA_PX)


def seamless_clone(
    image: UInt8[np.ndarray, "h w 3"],
    canvas: UInt8[np.ndarray, "h w 3"],
    footprint: Bool[np.ndarray, "h w"],
    flag: int,
    min_side_px: int,
    min_area_px: int = 0,
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]] | None:
    """The safe way to call OpenCV's seamlessClone, see :func:`poisson_blend`.

    Args:
        image: what is cloned into.
        canvas: of the same size; its pixels in the footprint are cloned to where they are.
        footprint: wanted; it is eroded by one pixel and kept off the frame.
        flag: cv2.NORMAL_CLONE or cv2.MIXED_CLONE.
        min_side_px: of the bounding box of what is left of the footprint.
        min_area_px: of what is left of it.

    Returns:
        the blended image, equal to ``image`` outside the footprint, and that footprint; None where too little of it
        is left or OpenCV refuses.
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
    """As :func:`paste`, but ``patched`` comes in gradually: its share grows with the distance from the edge.

    It is whole at ``SOFT_CORE`` of the largest distance in the footprint. Stains and uneven surfaces have no edge
    that would give them away.
    """
    framed = cv2.copyMakeBorder(footprint.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = (distance / max(1.0, SOFT_CORE * float(distance.max()))).clip(0, 1)[..., None]
    mixed = np.rint(image + share * (patched.astype(np.float32) - image)).astype(np.uint8)
    return paste(image, mixed, footprint)

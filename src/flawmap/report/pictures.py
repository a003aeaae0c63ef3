"""Small pictures for the report: read, shrunk, coloured and packed into data URIs."""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.errors import UserError
from flawmap.report.colour import ColourScale
from flawmap.report.overlay import draw_contour, overlay
from flawmap.report.run_files import SAMPLES, SampleRow, ScoredImage

TILE_PX = 300  # the longer side of a test picture
SAMPLE_PX = 192


@dataclass(frozen=True)
class Tiles:
    """The pictures of one test image, all uint8 (h, w, 3) of one size, or None where there is none.

    ``image`` and what is drawn on it are None when the original picture is gone.
    """

    image: NDArray[np.uint8] | None
    truth: NDArray[np.uint8] | None
    map: NDArray[np.uint8] | None
    overlay: NDArray[np.uint8] | None
    attention: NDArray[np.uint8] | None = None


def tiles_of(scored: ScoredImage, map_ends: tuple[float, float], scale: ColourScale | None) -> Tiles:
    """Draws one test image.

    Args:
        scored: the image and its files.
        map_ends: the map values that 0 and 65535 stand for in its file.
        scale: the colour scale; None draws no map.
    """
    try:
        image = shrink(read_image(scored.path), TILE_PX)
    except (UserError, OSError):  # moved or deleted since: the map alone is shown
        image = None
    anomaly_map = None
    if scored.map_file is not None and scale is not None:
        size = None if image is None else (image.shape[0], image.shape[1])
        anomaly_map = read_map(scored.map_file, *map_ends, size)
    drawn = image if image is not None else anomaly_map
    truth = None
    if image is not None and scored.truth_file is not None:
        truth = draw_contour(image, read_truth(scored.truth_file, image.shape[0], image.shape[1]))
    return Tiles(
        image=image,
        truth=truth,
        map=None if anomaly_map is None or scale is None else scale.colours(anomaly_map),
        overlay=None if anomaly_map is None or scale is None or image is None else overlay(image, anomaly_map, scale),
        attention=None
        if scored.attention_file is None or drawn is None
        else _patches(scored.attention_file, drawn.shape[0], drawn.shape[1]),
    )


def sample_pictures(row: SampleRow, scale: ColourScale | None, longest_px: int) -> Mapping[str, NDArray[np.uint8]]:
    """The columns of one row of what training saw, ready to show: name to uint8 (h, w, 3).

    The simulated defect is outlined with its footprint, and the map has the model's colours (gray without a
    scale). Where the run says which values the stored map's grays stand for, a scale that has been calibrated since
    shows these values in its own colours.
    """
    pictures = {
        name: shrink(_read_rgb(file), longest_px)
        for name, file in row.files.items()
        if name not in ("footprint", "map")
    }
    if "simulated" in pictures and "footprint" in row.files:
        height, width = pictures["simulated"].shape[:2]
        footprint = read_truth(row.files["footprint"], height, width)
        pictures["simulated"] = draw_contour(pictures["simulated"], footprint)
    if "map" in row.files:
        gray = shrink(_read_rgb(row.files["map"]), longest_px)
        if scale is None:
            pictures["map"] = gray
        else:
            low, high = row.map_ends or (scale.low, scale.high)
            pictures["map"] = scale.colours(low + gray[..., 0] / 255 * (high - low))
    return pictures


def read_map(path: Path, low: float, high: float, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Reads a 16-bit map, float32 (h, w).

    Args:
        path: a 16-bit gray PNG; 0 stands for ``low`` and 65535 for ``high``.
        low, high: in the map's unit.
        size: (h, w) to resize to; None shrinks to at most :data:`TILE_PX`.
    """
    with opened_picture(path) as file:
        stored = np.asarray(file).astype(np.float32)
    height, width = size or _fitting(stored.shape[0], stored.shape[1], TILE_PX)
    resized = Image.fromarray(stored).resize((width, height), Image.Resampling.BILINEAR)
    return np.float32(low) + np.asarray(resized) * np.float32((high - low) / 65535)


def shrink(image: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Makes a uint8 (H, W, 3) picture smaller until its longer side fits; a small one stays as it is."""
    height, width = _fitting(image.shape[0], image.shape[1], longest_px)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def data_uri(image: NDArray[np.uint8], quality: int = 85) -> str:
    """A uint8 (H, W, 3) picture as a ``data:`` address: JPEG whose colours are not halved, for thin lines."""
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _fitting(height: int, width: int, longest_px: int) -> tuple[int, int]:
    factor = min(1.0, longest_px / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """A picture of the run.

    Raises:
        UserError: it is damaged.
    """
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for files that are no pictures
        problem = f"a picture of the run cannot be read: {path.name}"
        is_of_training = path.parent.name == SAMPLES
        remedy = "remove it: the report is complete without it" if is_of_training else "run `flawmap evaluate` again"
        raise UserError(problem, str(path), remedy) from error


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    with opened_picture(path) as file:
        return np.asarray(file.convert("RGB"))


def _patches(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """A gray picture of one pixel per patch, uint8 (height, width, 3), with the patches' edges."""
    with opened_picture(path) as file:
        return np.asarray(file.convert("RGB").resize((width, height), Image.Resampling.NEAREST))


def read_truth(path: Path, height: int, width: int) -> NDArray[np.bool_]:
    """A mask at another size, True where any part of a pixel was: so no small defect vanishes."""
    with opened_picture(path) as file:
        mask = (np.asarray(file.convert("L")) > 0).astype(np.float32)  # float: a small share must not round to 0
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized) > 0

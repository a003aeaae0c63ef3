"""Small images for the report: read, shrunk, coloured and packed into data URIs."""

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
from flawmap.data.images.mask import read_mask
from flawmap.data.roi import RegionOfInterest
from flawmap.drawing.colour import ColourScale
from flawmap.drawing.overlay import dim_outside, draw_contour, overlay
from flawmap.errors import UserError
from flawmap.runs.calibration import MapScale
from flawmap.runs.evaluation import ScoredImage
from flawmap.runs.run_folder import SAMPLES, UNUSUAL
from flawmap.runs.samples import SampleRow
from flawmap.runs.unusual import PICTURES as UNUSUAL_PICTURES
from flawmap.runs.unusual import picture_file

TILE_PX = 300  # the longer side of a test image
SAMPLE_PX = 192


@dataclass(frozen=True)
class Thumbnail:
    """An image of a page.

    Attributes:
        caption: its name.
        alt: its description for readers who cannot see it.
        image: uint8 (h, w, 3); None where there is none.
        remark: a number about it, or why there is none.
    """

    caption: str
    alt: str
    image: NDArray[np.uint8] | None
    remark: str


def tiles_of(
    scored: ScoredImage,
    map_ends: MapScale,
    scale: ColourScale | None,
    longest_px: int = TILE_PX,
    roi: RegionOfInterest | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """What is shown of a test image: uint8 (h, w, 3) of one size by name, without what cannot be shown.

    Args:
        scored: the image and its files.
        map_ends: the map values that 0 and 65535 stand for in its file.
        scale: the colour scale; None draws no map.
        longest_px: the longer side of what is drawn.
        roi: outside of it, image, overlay and map are dark; None: all counts.

    Returns:
        ``image``, ``truth`` (the outline of the defect on the image), ``map``, ``overlay`` (the map on the image) and
        ``attention``.
    """
    tiles = {}
    size = None
    try:
        tiles["image"] = shrink(read_image(scored.path), longest_px)
        size = tiles["image"].shape[:2]
    except (UserError, OSError):  # moved or deleted since: the map alone is shown
        pass
    if size and scored.truth_file is not None:
        tiles["truth"] = draw_contour(tiles["image"], read_truth(scored.truth_file, *size))
    if scored.map_file is not None and scale is not None:
        values = read_map(scored.map_file, map_ends, longest_px, size)
        tiles["map"] = scale.colours(values)
        if size:
            tiles["overlay"] = overlay(tiles["image"], values, scale)
        size = values.shape
    if roi is not None and size:
        inside = roi.at(*size)
        tiles = {name: dim_outside(tile, inside) for name, tile in tiles.items()}
    if size and scored.attention_file is not None:
        with open_run_image(scored.attention_file) as file:  # one pixel per patch
            enlarged = file.convert("RGB").resize((size[1], size[0]), Image.Resampling.NEAREST)
        tiles["attention"] = np.asarray(enlarged)
    return tiles


def sample_images(
    row: SampleRow, scale: ColourScale | None, longest_px: int, outline: bool = True
) -> Mapping[str, NDArray[np.uint8]]:
    """The images of one row of what training saw, ready to show: column name to uint8 (h, w, 3).

    Args:
        row: the files.
        scale: the colours of the map; None leaves it gray.
        longest_px: the longer side of an image.
        outline: whether to outline the simulated defect with its footprint.
    """
    images = {}
    for name, path in row.files.items():
        if name != "footprint":
            with open_run_image(path) as file:
                images[name] = shrink(np.asarray(file.convert("RGB")), longest_px)
    if outline and "simulated" in images and "footprint" in row.files:
        footprint = read_truth(row.files["footprint"], *images["simulated"].shape[:2])
        images["simulated"] = draw_contour(images["simulated"], footprint)
    if "map" in images and scale is not None:
        images["map"] = _coloured(images["map"], row.map_ends, scale)
    return images


def unusual_images(
    folder: Path, number: int, map_ends: MapScale, scale: ColourScale | None, longest_px: int
) -> Mapping[str, NDArray[np.uint8]]:
    """The pictures of a good image that looks unusual: ``image`` and ``map`` as uint8 (h, w, 3), without missing ones.

    Args:
        folder: of the pictures.
        number: of the image in the list.
        map_ends: the map values that 0 and 255 stand for.
        scale: the colours of the map; None leaves it gray.
        longest_px: the longer side of an image.
    """
    images = {}
    for name in UNUSUAL_PICTURES:
        if (path := picture_file(folder, number, name)).is_file():
            with open_run_image(path) as file:
                images[name] = shrink(np.asarray(file.convert("RGB")), longest_px)
    if "map" in images and scale is not None:
        images["map"] = _coloured(images["map"], map_ends, scale)
    return images


def _coloured(shades: NDArray[np.uint8], ends: MapScale, scale: ColourScale) -> NDArray[np.uint8]:
    """The colours of a gray map (h, w, 3)."""
    return scale.colours(ends.low + shades[..., 0] / 255 * (ends.high - ends.low))


def read_map(
    path: Path, ends: MapScale, longest_px: int = TILE_PX, size: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Read a 16-bit map, float32 (h, w).

    Args:
        path: a 16-bit gray PNG.
        ends: the map values that 0 and 65535 stand for.
        longest_px: the longer side to shrink to.
        size: (h, w) to resize to instead.
    """
    with open_run_image(path) as file:
        stored = np.asarray(file).astype(np.float32)
    height, width = size or _fitting(stored.shape[0], stored.shape[1], longest_px)
    resized = Image.fromarray(stored).resize((width, height), Image.Resampling.BILINEAR)
    return np.float32(ends.low) + np.asarray(resized) * np.float32((ends.high - ends.low) / 65535)


def read_truth(path: Path, height: int, width: int) -> NDArray[np.bool_]:
    """Read a mask at another size, True where any part of a pixel was, so that no small defect vanishes.

    Raises:
        UserError: it is damaged.
    """
    try:
        mask = read_mask(path).astype(np.float32)  # float: a small share must not round to 0
    except UserError as error:
        raise _damaged(path) from error
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized) > 0


def shrink(image: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Make a uint8 (H, W, 3) image smaller until its longer side fits; a small one stays as it is."""
    height, width = _fitting(image.shape[0], image.shape[1], longest_px)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _fitting(height: int, width: int, longest_px: int) -> tuple[int, int]:
    factor = min(1.0, longest_px / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def data_uri(image: NDArray[np.uint8], quality: int = 85) -> str:
    """A uint8 (H, W, 3) image as a ``data:`` address: JPEG with colour at full resolution, for thin lines."""
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


@contextmanager
def open_run_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file of the run.

    Raises:
        UserError: it is damaged.
    """
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for files that are not images
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    is_of_training = path.parent.name in (SAMPLES, UNUSUAL)
    remedy = "remove it; the report works without it" if is_of_training else "run `flawmap evaluate` again"
    return UserError(f"an image of the run cannot be read: {path.name}", str(path), remedy)

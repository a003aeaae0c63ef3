"""What training saw as one image: input, attention, masked view, simulated defect and anomaly map."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flawmap.report.colour import colour_bar
from flawmap.report.run_files import read_run
from flawmap.report.thumbnails import sample_images

COLUMN_TITLES = {
    "input": "image",
    "attention": "attention",
    "masked": "masked view",
    "simulated": "simulated defect",
    "map": "anomaly map",
}
_TILE_PX = 224
_GAP_PX = 12
_MARGIN_PX = 24
_HEADER_PX = 40
_FOOTER_PX = 64
_PAPER, _INK, _FAINT = (255, 255, 255), (17, 24, 39), (107, 114, 128)


def write_sheet(run: Path, max_rows: int = 6) -> Path | None:
    """Write ``RUN/samples/sheet.png``: one row for each of the first held-out good images.

    Args:
        run: a run folder.
        max_rows: how many samples to show.

    Returns:
        its path, or None where the run has no samples.

    Raises:
        UserError: the folder is not a run folder.
    """
    files = read_run(run)
    rows = files.samples[:max_rows]
    if not rows:
        return None
    scale = files.sample_scale
    images = [{name: _enlarged(image) for name, image in sample_images(row, scale, _TILE_PX).items()} for row in rows]
    columns = [name for name in COLUMN_TITLES if any(name in row for row in images)]
    row_heights = [max(tile.height for tile in row.values()) for row in images]
    width = 2 * _MARGIN_PX + len(columns) * (_TILE_PX + _GAP_PX) - _GAP_PX
    footer = _FOOTER_PX if scale is not None and "map" in columns else _MARGIN_PX - _GAP_PX
    sheet = Image.new("RGB", (width, _HEADER_PX + sum(row_heights) + len(rows) * _GAP_PX + footer), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(columns):
        centre = _MARGIN_PX + i * (_TILE_PX + _GAP_PX) + _TILE_PX // 2
        draw.text((centre, _HEADER_PX // 2 + 2), COLUMN_TITLES[name], _INK, ImageFont.load_default(17), anchor="mm")
    top = _HEADER_PX
    for row, height in zip(images, row_heights, strict=True):
        for i, name in enumerate(columns):
            if name in row:
                tile = row[name]
                left = _MARGIN_PX + i * (_TILE_PX + _GAP_PX) + (_TILE_PX - tile.width) // 2
                sheet.paste(tile, (left, top + (height - tile.height) // 2))
        top += height + _GAP_PX
    if footer == _FOOTER_PX:
        _draw_legend(sheet, top, columns.index("map"))
    path = files.run / "samples" / "sheet.png"
    sheet.save(path)
    return path


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    """Enlarge an image until its longer side fills the column."""
    height, width = image.shape[:2]
    factor = _TILE_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def _draw_legend(sheet: Image.Image, top: int, column: int) -> None:
    """The colour bar below the column of the map, with its three fixed points."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    left = _MARGIN_PX + column * (_TILE_PX + _GAP_PX)
    sheet.paste(Image.fromarray(colour_bar(_TILE_PX, 12)), (left, top + 4))
    middle = left + _TILE_PX // 2
    draw.line([(middle, top + 1), (middle, top + 18)], _INK, 1)
    marks = ((left, "normal", "lt"), (middle, "threshold", "mt"), (left + _TILE_PX, "anomalous", "rt"))
    for x, text, anchor in marks:
        draw.text((x, top + 22), text, _FAINT, font, anchor=anchor)

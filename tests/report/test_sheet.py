"""The sheet of what training saw."""

from pathlib import Path

import numpy as np
from PIL import Image

from flawmap.report.sheet import write_sheet


def tile_at(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """The sheet's layout, written down a second time: margin 24, header 40, tiles of 224 px, gaps of 12."""
    top, left = 40 + row * 236, 24 + column * 236
    return sheet[top : top + 224, left : left + 224]


def test_sheet_holds_the_pictures_in_labelled_columns(trained_run: Path) -> None:
    path = write_sheet(trained_run)
    assert path == trained_run / "samples" / "sheet.png"
    assert path is not None
    with Image.open(path) as file:
        sheet = np.asarray(file)
    assert sheet.shape == (40 + 4 * 236 + 64, 48 + 5 * 236 - 12, 3)
    for row in range(4):
        for column, name in ((0, "input"), (1, "attention"), (2, "masked")):
            with Image.open(trained_run / "samples" / f"{row:02d}_{name}.png") as file:
                expected = np.asarray(file.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
            assert np.array_equal(tile_at(sheet, row, column), expected)
    assert (sheet[:40] < 128).any(axis=(0, 2)).reshape(-1).sum() > 100  # titles above the columns
    legend = sheet[40 + 4 * 236 + 10, 24 + 4 * 236 :][:224].astype(int)
    assert legend[30, 2] > legend[30, 0]  # blue at the low end, red above blue at the high end
    assert legend[200, 0] > legend[200, 2] + 50


def test_sheet_stops_at_its_number_of_rows(trained_run: Path) -> None:
    path = write_sheet(trained_run, max_rows=2)
    assert path is not None
    with Image.open(path) as file:
        assert file.height == 40 + 2 * 236 + 64


def test_a_missing_column_is_left_out(trained_run: Path) -> None:
    for file in (trained_run / "samples").glob("*_map.png"):
        file.unlink()
    path = write_sheet(trained_run)
    assert path is not None
    with Image.open(path) as file:
        assert file.width == 48 + 4 * 236 - 12


def test_no_samples_no_sheet(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    assert write_sheet(tmp_path) is None

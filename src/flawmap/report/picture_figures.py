"""The figures made of pictures: what training sees, simulated defects, and maps with the ground truth (Figs. 1 and 4).

Pictures are pixels; titles and the outlines of defects are vectors over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flawmap.report.colour import ColourScale, colour_bar
from flawmap.report.figure import Figure, Label, Panel, Part, Place, panel_of
from flawmap.report.pictures import TILE_PX, data_uri, opened_picture, read_truth, sample_pictures, tiles_of
from flawmap.report.run_files import RunFiles, SampleRow, ScoredImage, map_scale_of

_TILE, _GAP, _TOP = 130.0, 10.0, 30.0
_BAR_HEIGHT = 46.0
_MAX_COLUMNS = 6
_MAX_LOCALIZED = 10
_MAX_ROWS = 4

Row = tuple[str, Sequence[Panel | None]]


def training_figure(files: RunFiles) -> Figure | None:
    """Fig. 1: image, attention, masked view and simulated defect of held-out good pictures; None without samples."""
    titles = {"input": "image", "attention": "attention", "masked": "masked view", "simulated": "simulated defect"}
    rows: list[Row] = []
    for sample in files.samples[:_MAX_ROWS]:
        pictures, footprint = _sample(sample)
        rows.append(
            (
                "",
                [
                    panel_of(pictures[name], footprint if name == "simulated" else None) if name in pictures else None
                    for name in titles
                ],
            )
        )
    return _grid("training", "What training sees", list(titles.values()), rows) if rows else None


def simulation_figure(files: RunFiles) -> Figure | None:
    """Fig. 4b: simulated defects above the masks of where pixels changed; None without samples."""
    simulated: list[Panel | None] = []
    masks: list[Panel | None] = []
    for sample in files.samples[:_MAX_COLUMNS]:
        pictures, footprint = _sample(sample)
        if footprint is None or "simulated" not in pictures:
            continue
        simulated.append(panel_of(pictures["simulated"]))
        masks.append(panel_of(np.repeat(footprint[..., None], 3, axis=2).astype(np.uint8) * np.uint8(255)))
    rows: list[Row] = [("simulated", simulated), ("mask", masks)]
    return _grid("simulated_defects", "Simulated defects and their masks", [""] * len(masks), rows) if masks else None


def localization_figure(files: RunFiles) -> Figure | None:
    """Fig. 4a: pictures, maps and overlays with the outline of the ground truth; None without ground truth or maps.

    The pictures are not chosen by how well they turned out: see :func:`spread_over_kinds`.
    """
    scale = map_scale_of(files.metrics) or map_scale_of(files.calibration)
    chosen = spread_over_kinds(files.images, _MAX_LOCALIZED)
    ends = files.metrics.get("map_scale") or {"low": 0.0, "high": 1.0}
    columns: list[dict[str, Panel]] = []
    titles: list[str] = []
    for image in chosen:
        tiles = tiles_of(image, (float(ends["low"]), float(ends["high"])), scale)
        if tiles.image is None or tiles.map is None or tiles.overlay is None or image.truth_file is None:
            continue
        truth = read_truth(image.truth_file, tiles.image.shape[0], tiles.image.shape[1])
        shown = {"image": tiles.image, "map": tiles.map, "overlay": tiles.overlay}
        columns.append({name: panel_of(picture, truth) for name, picture in shown.items()})
        titles.append(image.kind)
    if not columns:
        return None
    rows: list[Row] = [(name, [column[name] for column in columns]) for name in ("image", "map", "overlay")]
    return _grid("localization", "Anomaly maps and the true defects (green)", titles, rows, scale)


def spread_over_kinds(images: Sequence[ScoredImage], count: int) -> list[ScoredImage]:
    """Images with ground truth, the same number of each kind, from low to high scores within the kind.

    One image of a kind is the one in the middle of its scores; two are at a quarter and at three quarters; and so on.

    Args:
        images: all test images.
        count: how many to choose at most; kinds beyond it in alphabetical order are left out.
    """
    by_kind: dict[str, list[ScoredImage]] = {}
    for image in sorted(images, key=lambda one: (one.kind, one.score, one.key)):
        if image.truth_file is not None and image.map_file is not None:
            by_kind.setdefault(image.kind, []).append(image)
    each = max(1, count // max(1, len(by_kind)))
    chosen = []
    for of_kind in list(by_kind.values())[:count]:
        n = min(each, len(of_kind))
        chosen += [of_kind[int((i + 0.5) / n * len(of_kind))] for i in range(n)]
    return chosen


def _sample(sample: SampleRow) -> tuple[Mapping[str, NDArray[np.uint8]], NDArray[np.bool_] | None]:
    """The pictures of a sample, without anything drawn on them, and the footprint of its simulated defect."""
    bare = replace(sample, files={name: file for name, file in sample.files.items() if name != "footprint"})
    pictures = sample_pictures(bare, None, TILE_PX)
    if "footprint" not in sample.files:
        return pictures, None
    with opened_picture(sample.files["footprint"]) as file:
        width, height = file.size
    return pictures, read_truth(sample.files["footprint"], height, width)


def _grid(
    name: str, title: str, titles: Sequence[str], rows: Sequence[Row], scale: ColourScale | None = None
) -> Figure:
    """Pictures in rows and columns; a row is as high as its highest picture, and below it all the colour bar."""
    left = 92.0 if any(row_title for row_title, _ in rows) else _GAP
    top = _TOP if any(titles) else _GAP
    parts: list[Part] = []
    labels = [Label(text, left + i * (_TILE + _GAP) + _TILE / 2, 19.0, "mid heading") for i, text in enumerate(titles)]
    for row_title, panels in rows:
        height = max((_TILE * min(1.0, panel.height / panel.width) for panel in panels if panel), default=_TILE)
        labels.append(Label(row_title, left - 12, top + height / 2 + 4, "end heading"))
        for i, panel in enumerate(panels):
            if panel is not None:
                parts.append(Part("picture", panel, Place(left + i * (_TILE + _GAP), top, _TILE, height)))
        top += height + _GAP
    if scale is not None:
        bar = Place(left, top + 4, 2 * _TILE, 12.0)
        parts.append(Part("bar", data_uri(colour_bar(256, 8), quality=95), bar))
        marks = (
            ("low", scale.low, 0.0, ""),
            ("threshold", scale.threshold, 0.5, "mid"),
            ("high", scale.high, 1.0, "end"),
        )
        labels += [
            Label(f"{word} {value:.4g}", bar.x + share * bar.width, bar.y + 27, kind)
            for word, value, share, kind in marks
        ]
        top += _BAR_HEIGHT
    width = left + len(titles) * (_TILE + _GAP)
    return Figure(name, title, round(width, 1), round(top, 1), tuple(parts), tuple(labels))

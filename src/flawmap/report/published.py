"""Numbers that others published on the same data, to stand beside what was measured here.

A published number is never mixed with a measured one: it is marked, and says what differs. Percent were divided by
100.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flawmap.report.tables import Table, number


@dataclass(frozen=True)
class Published:
    """One number of a publication.

    Attributes:
        measure: ``image_auroc`` or ``pixel_auroc``, the name in metrics.json.
        value: as printed there, in [0, 1].
        source: method and publication.
        differs: what keeps it from being the same experiment.
        group: the group of pictures that it is of (``sex=M``); "" for all.
        layout: how the layout of such data begins; a folder that is only named like it has no such number.
    """

    measure: str
    value: float
    source: str
    differs: str
    group: str = ""
    layout: str = ""


_PAPER = "the paper (AAAI 2023)"
_OTHER_LISTS = "other lists of pictures"
_ALL_TILES = "all 952 good and 392 defective tiles"
_MEAN = "mean of the 15 classes of MVTec AD, of which this has the name of one"
_MVTEC_MEAN = (
    Published("image_auroc", 0.983, _PAPER, _MEAN, layout="MVTec AD"),
    Published("pixel_auroc", 0.982, _PAPER, _MEAN, layout="MVTec AD"),
)
_MVTEC_CLASSES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
    *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
)

# by the name of the data, which is the folder's
PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "mtd": (
        Published("image_auroc", 0.979, "PatchCore-10 % (CVPR 2022)", _ALL_TILES),
        Published("image_auroc", 0.977, "DifferNet (WACV 2021)", _ALL_TILES),
    ),
    "nih": (
        Published("image_auroc", 0.940, "NSA (ECCV 2022)", _OTHER_LISTS, "sex=M"),
        Published("image_auroc", 0.943, "NSA (ECCV 2022)", _OTHER_LISTS, "sex=F"),
        Published("pixel_auroc", 0.709, _PAPER, _OTHER_LISTS, "sex=M"),
        Published("pixel_auroc", 0.705, _PAPER, _OTHER_LISTS, "sex=F"),
    ),
    "elpv": (
        Published("image_auroc", 0.845, "DRA (CVPR 2022)", "trained with ten defective cells; certain labels only"),
    ),
    **dict.fromkeys(_MVTEC_CLASSES, _MVTEC_MEAN),
}

_TITLES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def beside_published(metrics: Mapping[str, Any]) -> Table:
    """What was measured here beside what was published on data of this name; empty where nothing is known."""
    rows = []
    for one in PUBLISHED.get(str(metrics.get("data", "")).lower(), ()):
        if not str(metrics.get("layout", "")).startswith(one.layout):
            continue
        source = (metrics.get("groups") or {}).get(one.group, {}) if one.group else metrics
        if source.get(one.measure) is not None:
            title = f"{_TITLES[one.measure]}, {one.group}" if one.group else _TITLES[one.measure]
            rows.append((title, number(source[one.measure]), number(one.value), one.source, one.differs))
    return Table(("measure", "measured here", "published", "by", "what differs there"), tuple(rows))

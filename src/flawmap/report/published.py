"""Published results on the same data, for comparison with what was measured.

Each published number says what differs from the experiment here. Percentages were divided by 100.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flawmap.report.tables import Table, number
from flawmap.runs.evaluation import Evaluation


@dataclass(frozen=True)
class Published:
    """One number of a publication.

    Attributes:
        measure: ``image_auroc`` or ``pixel_auroc``, as :class:`flawmap.runs.evaluation.Block` has it.
        value: as printed there, in [0, 1].
        source: method and publication.
        differs: what makes it another experiment.
        stratum: the stratum of images that it is for (``sex=M``); "" for all.
        layout: how the layout of such data begins, so that a folder with the same name is not taken for it.
    """

    measure: str
    value: float
    source: str
    differs: str
    stratum: str = ""
    layout: str = ""


_PAPER = "the paper (AAAI 2023)"
_OTHER_LISTS = "other lists of images"
_ALL_TILES = "all 952 good and 392 defective tiles"
_MEAN = "mean over the 15 classes of MVTec AD"
_MVTEC_MEAN = (
    Published("image_auroc", 0.983, _PAPER, _MEAN, layout="MVTec AD"),
    Published("pixel_auroc", 0.982, _PAPER, _MEAN, layout="MVTec AD"),
)
_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
_OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor")
_MVTEC_CLASSES = (*_TEXTURES, *_OBJECTS, "zipper")

# by the name of the data, which is that of its folder
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
        Published("image_auroc", 0.845, "DRA (CVPR 2022)", "trained with ten defective cells, certain labels only"),
    ),
    **dict.fromkeys(_MVTEC_CLASSES, _MVTEC_MEAN),
}

_TITLES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def compared_with_published(evaluation: Evaluation) -> Table:
    """Measured next to published numbers on data of this name; empty where there are none."""
    rows = []
    for published in PUBLISHED.get(evaluation.data.lower(), ()):
        if not evaluation.layout.startswith(published.layout):
            continue
        block = evaluation.by_stratum.get(published.stratum) if published.stratum else evaluation
        value = getattr(block, published.measure, None)
        if value is not None:
            title = ", ".join(filter(None, (_TITLES[published.measure], published.stratum)))
            rows.append((title, number(value), number(published.value), published.source, published.differs))
    return Table(("measure", "measured here", "published", "source", "what differs"), tuple(rows))

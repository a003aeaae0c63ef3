"""Published AUROC in % with its source; never measured here, and kept in columns of its own.

Only numbers that were read in a publication or its authors' repository, or in another publication's table that names
its source; none from memory. They come from the whole official test sets, mostly from other image sizes and trainings.
What the paper's tables 3 and 4 publish is in ``tables/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap_bench.protocols import MVTEC_AD, VISA

OURS = "Ours"  # how the paper's tables name its method
MEAN = "mean"


@dataclass(frozen=True)
class Published:
    """AUROC in %; None where there is none.

    Attributes:
        image: of images.
        pixel: of pixels.
        source: where it was read.
        pixel_standard_error: over five seeds, in %.
    """

    image: float | None = None
    pixel: float | None = None
    source: str = ""
    pixel_standard_error: float | None = None

    def numbers(self) -> dict[str, float]:
        """By ``image`` and ``pixel``, those that there are."""
        values = {"image": self.image, "pixel": self.pixel}
        return {kind: value for kind, value in values.items() if value is not None}


# AUROC of each class in the order of MVTEC_AD, then the mean; PaDiM's paper gives only the mean of images. The means
# are those that are printed, which are not always the means of the printed classes: DifferNet's is 0.2 and SPADE's 0.5
# higher. Our copy of the text has 88.8 for RIAD's wood, with which the printed mean would be 94.4.
_TABLE_1 = """
CutPaste (3-way) | image | 93.1 99.9 100 93.4 98.6 98.3 80.6 96.2 97.3 99.3 92.4 86.3 98.3 95.5 99.4 95.2
CutPaste (3-way) | pixel | 98.3 97.5 99.5 90.5 95.5 97.6 90 97.4 97.3 93.1 95.7 96.7 98.1 93 99.3 96.0
NSA | image | 95.6 99.9 99.9 100 97.5 97.7 94.5 95.2 94.7 98.7 99.2 90.2 100 95.1 99.8 97.2
NSA | pixel | 95.5 99.2 99.5 99.3 90.7 98.3 96 97.6 97.6 98.4 98.5 96.5 94.9 88 94.2 96.3
DRAEM | image | 97 99.9 100 99.6 99.1 99.2 91.8 98.5 100 98.7 98.9 93.9 100 93.1 100 98.0
DRAEM | pixel | 95.5 99.7 98.6 99.2 96.4 99.1 94.7 94.3 99.7 99.5 97.6 97.6 98.1 90.9 98.8 97.3
PaDiM | image | 97.9
PaDiM | pixel | 99.1 97.3 99.2 94.1 94.9 98.3 96.7 98.5 98.2 97.2 95.7 98.5 98.8 97.5 98.5 97.5
DifferNet | image | 92.9 84 97.1 99.4 99.8 99 95.9 86.9 99.3 96.1 88.8 96.3 98.6 91.1 95.1 94.9
InTra | image | 98.8 100 100 98.2 97.5 100 70.3 86.5 95.7 96.9 90.2 95.7 100 95.8 99.4 95.0
SPADE | pixel | 97.5 93.7 97.6 87.4 88.5 98.4 97.2 99 99.1 98.1 96.5 98.9 97.9 94.1 96.5 96.5
RIAD | pixel | 96.3 98.8 99.4 89.1 85.8 98.4 84.2 92.8 96.1 92.5 95.7 98.8 98.9 87.7 97.8 94.2
Ours | image | 100 99.9 99.8 99.8 96.2 99.1 95.8 97.2 99.6 99.9 98.1 96.4 98.4 95.5 99.7 98.3
Ours | pixel | 99 98.6 99.3 97.3 96.9 97.8 98.2 98.8 99.1 98.6 99 99.4 98 94.3 98.9 98.2
"""


# The same, as anomalib's READMEs print it: seed 42 (PatchCore, WideResNet-50), 5,000 steps (Dinomaly)
_ANOMALIB = """
PatchCore | image | 98.4 95.9 100 100 98.9 100 99.0 98.2 100 99.4 92.4 96.0 93.3 100 98.2 98.0
PatchCore | pixel | 98.8 96.8 99.1 96.1 93.4 98.4 98.8 98.8 98.7 98.4 98.0 98.9 98.8 98.1 98.3 98.0
Dinomaly | image | 99.9 99.9 100 100 99.6 100 100 98.6 100 100 99.5 98.6 100 99.7 100 99.7
Dinomaly | pixel | 99.3 99.4 99.2 97.6 97.7 99.0 98.5 98.6 99.4 96.6 98.0 99.7 98.9 95.1 99.1 98.4
"""


def _by_class(lines: str, source: str) -> dict[str, dict[str, Published]]:
    """By method as printed, then by class or ``mean``."""
    columns = (*MVTEC_AD.classes, MEAN)
    table: dict[str, dict[str, Published]] = {}
    for line in lines.strip().splitlines():
        method, level, values = (part.strip() for part in line.split("|"))
        by_class = table.setdefault(method, dict.fromkeys(columns, Published(source=source)))
        numbers = [float(number) for number in values.split()]
        for name, number in zip(columns[-len(numbers) :], numbers, strict=True):
            changes = {"image": number} if level == "image" else {"pixel": number}
            by_class[name] = replace(by_class[name], **changes)
    return table


TABLE_1: Mapping[str, Mapping[str, Published]] = _by_class(_TABLE_1, "the paper, Table 1")
# beside a benchmark's categories: by the benchmark's name, the method, and the category or ``mean``
BY_CATEGORY: Mapping[str, Mapping[str, Mapping[str, Published]]] = {
    MVTEC_AD.name: {
        "the paper": TABLE_1[OURS],
        **_by_class(_ANOMALIB, "README of the method in anomalib (its own run, not the publication's)"),
    },
    VISA.name: {
        "INP-Former": {MEAN: Published(98.9, 98.9, "README of luow23/INP-Former, one model for all categories")},
    },
}


def _sexes(male: tuple[float, float], female: tuple[float, float]) -> dict[str, Published]:
    """By sex: AUROC and its standard error over five seeds."""
    source = "Bozorgtabar and Mahapatra, AAAI 2023, Table 2 (pixels of boxed images)"
    return {
        sex: Published(pixel=value, source=source, pixel_standard_error=error)
        for sex, (value, error) in {"M": male, "F": female}.items()
    }


TABLE_2: Mapping[str, Mapping[str, Published]] = {
    "CutPaste": _sexes((52.6, 1.3), (51.8, 1.2)),
    "PaDiM": _sexes((54.2, 0.8), (53.8, 0.9)),
    "FPI": _sexes((63.4, 0.9), (62.9, 1.1)),
    "PII": _sexes((65.2, 0.9), (65.1, 0.9)),
    OURS: _sexes((70.9, 0.5), (70.5, 0.8)),
}


def method_name(printed: str) -> str:
    """The name by which ``flawmap benchmark peers`` knows a method of the paper's tables."""
    return {"CutPaste (3-way)": "cutpaste", OURS: "flawmap"}.get(printed, printed.lower())


PUBLISHED: Mapping[str, Mapping[str, Published]] = {
    "mtd": {
        "differnet": Published(97.7, None, "as cited by PatchCore's publication; 191 good, 392 defective images"),
        "patchcore": Published(97.9, None, "PatchCore-10 of its publication; 191 good, 392 defective images"),
    },
    **{
        f"nih sex={sex}": {method_name(printed): by_sex[sex] for printed, by_sex in TABLE_2.items()}
        for sex in ("M", "F")
    },
}


def published_for(data_name: str, method: str, is_ours: bool, stratum: str = "") -> Published | None:
    """What is published for a method on a data set or one of its strata; None where nothing is.

    The numbers of the paper's own method stand beside recipes whose name begins with ``paper``.
    """
    by_method = PUBLISHED.get(f"{data_name.lower()} {stratum}".strip(), {})
    is_the_papers = is_ours and Path(method).stem.startswith("paper")
    return by_method.get("flawmap" if is_the_papers else method)

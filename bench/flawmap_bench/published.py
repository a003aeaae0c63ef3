"""Published AUROC in % by data set and method, with the source; never measured here, and kept in columns apart.

Only numbers that were read in a publication or its authors' repository, or in another publication's table that names
its source; none from memory. They come from the whole official test sets, mostly from other image sizes and trainings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """AUROC in %; None where there is none."""

    image: float | None
    pixel: float | None
    source: str


_PAPER = "Bozorgtabar and Mahapatra, AAAI 2023, Table 2 (pixels of boxed images)"

PUBLISHED: Mapping[str, Mapping[str, Published]] = {
    "mtd": {
        "differnet": Published(97.7, None, "as cited by PatchCore's publication; 191 good, 392 defective images"),
        "patchcore": Published(97.9, None, "PatchCore-10 of its publication; 191 good, 392 defective images"),
    },
    "nih sex=M": {
        "cutpaste": Published(None, 52.6, _PAPER),
        "padim": Published(None, 54.2, _PAPER),
        "fpi": Published(None, 63.4, _PAPER),
        "pii": Published(None, 65.2, _PAPER),
        "flawmap": Published(None, 70.9, _PAPER),
    },
    "nih sex=F": {
        "cutpaste": Published(None, 51.8, _PAPER),
        "padim": Published(None, 53.8, _PAPER),
        "fpi": Published(None, 62.9, _PAPER),
        "pii": Published(None, 65.1, _PAPER),
        "flawmap": Published(None, 70.5, _PAPER),
    },
}


def published_for(data_name: str, method: str, is_ours: bool, group: str = "") -> Published | None:
    """What is published of a method on a data set or a group of it; of the paper's for recipes that are the paper's."""
    of_data = PUBLISHED.get(f"{data_name.lower()} {group}".strip(), {})
    is_the_papers = is_ours and Path(method).stem.startswith("paper")  # not what goes beyond it
    return of_data.get("flawmap" if is_the_papers else method)

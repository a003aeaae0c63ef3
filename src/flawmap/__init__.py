"""flawmap learns from pictures of good parts only, then says whether a new picture is flawed, and where.

Five names live here, and load when they are first used, so that ``import flawmap`` costs nothing; everything else
is imported from its stage's package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flawmap.data.open_data import load_images
    from flawmap.detect.detection import Detection
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.errors import UserError
    from flawmap.recipe import Recipe

__version__ = "0.1.0"

__all__ = ["AnomalyDetector", "Detection", "Recipe", "UserError", "load_images"]

_HOME = {
    "AnomalyDetector": "flawmap.detect.detector",
    "Detection": "flawmap.detect.detection",
    "Recipe": "flawmap.recipe",
    "UserError": "flawmap.errors",
    "load_images": "flawmap.data.open_data",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'flawmap' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

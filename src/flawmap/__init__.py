"""flawmap learns from images of good parts only; it then tells whether a new image shows a defect, and where.

The names below load when they are first used, so that ``import flawmap`` costs nothing. Everything else is imported
from its own package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flawmap.data.open_data import load_images
    from flawmap.detect.detection import Detection
    from flawmap.detect.detections import Detections
    from flawmap.detect.detector import AnomalyDetector
    from flawmap.errors import UserError
    from flawmap.recipe import Recipe, load_recipe

__version__ = "0.1.0"

__all__ = ["AnomalyDetector", "Detection", "Detections", "Recipe", "UserError", "load_images", "load_recipe"]

_HOME = {
    "AnomalyDetector": "flawmap.detect.detector",
    "Detection": "flawmap.detect.detection",
    "Detections": "flawmap.detect.detections",
    "Recipe": "flawmap.recipe",
    "UserError": "flawmap.errors",
    "load_images": "flawmap.data.open_data",
    "load_recipe": "flawmap.recipe",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'flawmap' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) in ("", "flawmap"):
            raise
        from flawmap.extras import missing

        raise missing(package, f"flawmap.{name}") from error
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

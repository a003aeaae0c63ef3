"""From a run to the production line: export, a runtime without torch, batches, the inspection server and its page.

``load`` needs numpy, Pillow and onnxruntime; the names that write files load torch when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flawmap.deploy.export import export_model, export_onnx
    from flawmap.deploy.runtime import ExportedModel, load

__all__ = ["ExportedModel", "export_model", "export_onnx", "load"]

_HOME = {
    "ExportedModel": "flawmap.deploy.runtime",
    "export_model": "flawmap.deploy.export",
    "export_onnx": "flawmap.deploy.export",
    "load": "flawmap.deploy.runtime",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'flawmap.deploy' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

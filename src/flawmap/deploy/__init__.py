"""From a run to the production line: export, a runtime without torch, batches, the inspection server and its page."""

from flawmap.deploy.runtime import ExportedModel, load

__all__ = ["ExportedModel", "load"]

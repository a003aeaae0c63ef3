"""Layouts that other packages register, for data that no built-in layout knows."""

from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.plugins import broken_plugin, load_plugin, plugin_names

ENTRY_POINTS = "flawmap.layouts"  # of classes that derive from Layout and take no arguments


def registered_layout_at(path: Path) -> Layout | None:
    """The first of them, by name, in which data lies at a path.

    Raises:
        UserError: a package that registers one is broken.
    """
    for name in plugin_names(ENTRY_POINTS):
        kind = load_plugin(ENTRY_POINTS, name)
        if not (isinstance(kind, type) and issubclass(kind, Layout)):
            raise broken_plugin(ENTRY_POINTS, name, "is no subclass of Layout")
        try:
            layout = kind()
            if layout.is_at(path):
                return layout
        except Exception as error:  # the package's own code, which must not look like a bug of ours
            reason = f"cannot tell whether data lies at {path}: {type(error).__name__}: {error}"
            raise broken_plugin(ENTRY_POINTS, name, reason) from error
    return None

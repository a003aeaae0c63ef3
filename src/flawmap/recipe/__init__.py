"""Every setting of a run: what it is, what it may be, and how recipe files are read."""

from flawmap.recipe.settings import Recipe

__all__ = ["Recipe"]

"""Every setting of a run: what it means, which values it may have, and how recipe files are read and written."""

from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe

__all__ = ["Recipe", "load_recipe"]

"""The two methods by which scikit-learn copies a detector, as in ``sklearn.base.clone``; they need no scikit-learn."""

from typing import Any, TypeVar

from flawmap.errors import UserError
from flawmap.recipe.settings import Recipe

ParametersT = TypeVar("ParametersT", bound="Parameters")


class Parameters:
    """Of an estimator whose only parameter is its recipe."""

    recipe: Recipe

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, by name; ``deep`` changes nothing."""
        return {"recipe": self.recipe}

    def set_params(self: ParametersT, **params: Any) -> ParametersT:
        """Replace the recipe, for the next ``fit``; returns self.

        Raises:
            UserError: a parameter of another name.
        """
        if other := sorted(params.keys() - {"recipe"}):
            remedy = 'set_params(recipe=...); load_recipe("standard", ["memory.tokens=5000"]) changes settings'
            raise UserError(f"a detector has no parameter {other[0]!r}, only recipe", "set_params", remedy)
        self.recipe = params.get("recipe", self.recipe)
        return self

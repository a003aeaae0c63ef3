"""README.md of a model folder: what the model is for, what it rests on, and under which licences."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from flawmap.recipe.settings import Recipe
from flawmap.runs.cameras import Calibrations
from flawmap.runs.evaluation import IMAGE_TITLES, PIXEL_TITLES
from flawmap.runs.model_config import ModelConfig
from flawmap.runs.threshold_names import whose

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(config: ModelConfig, recipe: Recipe, calibrations: Calibrations) -> str:
    """The card, with the front matter that the Hugging Face hub reads."""
    test = config.record.evaluation
    measures = [(IMAGE_TITLES[name], measure) for name, measure in test.image.items()] if test else []
    measures += [(PIXEL_TITLES[name], measure) for name, measure in (test.pixel or {}).items()] if test else []
    return _template().render(
        config=config,
        recipe=recipe,
        calibration=calibrations.default,
        cameras=calibrations.cameras,
        whose=whose,
        data=config.record.data,
        test=test,
        known_defects=config.record.known_defects,
        measures=measures,
        simulated=config.held_out_simulated_defects,
        number=lambda value: "none" if value is None else f"{value:.3f}",
    )


@cache
def _template() -> Template:
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # not escaped: the card is Markdown
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))

"""README.md of a model folder: what the model is for, what it rests on, and under which licences."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from flawmap.recipe.settings import Recipe
from flawmap.runs.calibration import Calibration
from flawmap.runs.evaluation import IMAGE_TITLES, PIXEL_TITLES
from flawmap.runs.model_config import ModelConfig

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(config: ModelConfig, recipe: Recipe, calibration: Calibration | None) -> str:
    """The card, with the front matter that the Hugging Face hub reads."""
    test = config.record.evaluation
    measures = [(IMAGE_TITLES[name], measure) for name, measure in test.image.items()] if test else []
    measures += [(PIXEL_TITLES[name], measure) for name, measure in (test.pixel or {}).items()] if test else []
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # not escaped: the card is Markdown
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        config=config,
        recipe=recipe,
        calibration=calibration,
        data=config.record.data,
        test=test,
        measures=measures,
        simulated=config.held_out_simulated_defects,
        number=lambda value: "none" if value is None else f"{value:.3f}",
    )

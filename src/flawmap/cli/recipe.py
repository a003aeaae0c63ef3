"""flawmap recipe: list the presets, or print the settings of one as YAML, to be saved and changed."""

import json
from argparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_json_argument, add_set_argument, recipe_of
from flawmap.recipe.fields import used_values
from flawmap.recipe.files import PRESETS, preset_summary, to_yaml


def add_arguments(parser: ArgumentParser) -> None:
    """Which recipe."""
    parser.add_argument("recipe", nargs="?", help="a preset or a YAML file (default: list the presets)")
    add_set_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """List the presets; or print the settings that one uses, with their meanings."""
    if arguments.recipe is None and not arguments.set:
        facts = {name: preset_summary(name) for name in PRESETS}
        width = max(map(len, facts))
        text = "\n".join(f"{name:<{width}}  {summary}" for name, summary in facts.items())
    else:
        recipe = recipe_of(arguments)
        facts, text = used_values(recipe), to_yaml(recipe).rstrip("\n")
    print(json.dumps(facts) if arguments.json else text)
    return 0

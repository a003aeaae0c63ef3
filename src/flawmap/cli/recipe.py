"""flawmap recipe: print settings as YAML, to be saved and changed."""

from argparse import ArgumentParser, Namespace

from flawmap.cli.arguments import add_json_argument


def add_arguments(parser: ArgumentParser) -> None:
    """Which recipe."""
    parser.add_argument("--preset", type=str, default="standard", help="quick, standard, paper, ... or a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting")
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Print the resolved recipe."""
    import json
    from dataclasses import asdict

    from flawmap.recipe.files import load_recipe, to_yaml

    recipe = load_recipe(arguments.preset, arguments.set)
    print(json.dumps(asdict(recipe)) if arguments.json else to_yaml(recipe).rstrip("\n"))
    return 0

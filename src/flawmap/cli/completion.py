"""flawmap completion SHELL."""

from argparse import SUPPRESS, Action, ArgumentParser, Namespace, _SubParsersAction
from importlib import import_module

SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/flawmap",
    "zsh": "a folder of $fpath, under the name _flawmap",
    "fish": "~/.config/fish/completions/flawmap.fish",
    "powershell": "your $PROFILE, at its end",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Which shell."""
    places = "; ".join(f"{shell}: {place}" for shell, place in SHELLS.items())
    parser.add_argument("shell", choices=tuple(SHELLS), help=f"the script goes to stdout; put it in {places}")


def run(arguments: Namespace) -> int:
    """Print the script that completes verbs, options and paths."""
    import shtab

    parser = all_verbs()
    for action in _actions_of(parser):
        if action.nargs != 0 and action.choices is None and not hasattr(action, "complete"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab reads
    print(shtab.complete(parser, arguments.shell))
    return 0


def all_verbs() -> ArgumentParser:
    """One parser of all verbs of this distribution; each is parsed by its own in fact, which loads less."""
    from flawmap.cli.verbs import SHIPPED, VERBS

    parser = ArgumentParser(prog="flawmap")
    verbs = parser.add_subparsers()
    ours = {verb: (f"flawmap.cli.{verb}", meaning) for verb, meaning in VERBS.items() if verb != "benchmark"}
    for verb, (module, meaning) in (ours | SHIPPED).items():
        import_module(module).add_arguments(verbs.add_parser(verb, help=meaning))
    parser.add_argument("--version", "-V", action="store_true", help="print the version")
    return parser


def _actions_of(parser: ArgumentParser) -> list[Action]:
    """The arguments of all verbs that are not hidden."""
    actions = [action for action in parser._actions if action.help != SUPPRESS]
    for action in list(actions):
        if isinstance(action, _SubParsersAction):
            actions += [one for verb in action.choices.values() for one in _actions_of(verb)]
    return actions

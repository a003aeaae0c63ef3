"""Every command of the bench prints its help, whatever characters the names of methods and boards have."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

import flawmap_bench

ROOT = Path(flawmap_bench.__file__).parent


def commands() -> list[str]:
    """Modules that read a command line by argparse."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if has_main and "ArgumentParser(" in ast.unparse(tree):
            found.append(".".join(("flawmap_bench", *path.relative_to(ROOT).with_suffix("").parts)))
    return found


def test_the_commands_are_found():
    assert {"flawmap_bench.few_images.__main__", "flawmap_bench.trials.updates"} <= set(commands())


@pytest.mark.parametrize("name", commands())
def test_a_command_prints_its_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main()
    assert stopped.value.code == 0 and "--help" in capsys.readouterr().out

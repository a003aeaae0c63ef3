"""Recommended commands survive a shell, and name packages that exist."""

import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawmap.advice import command, install

REPO = Path(__file__).parents[1]
PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1).map(Path)


@given(path=PATHS)
def test_a_path_is_one_word_and_no_option(path: Path):
    *words, last = shlex.split(command("flawmap", "check", path))
    assert words == ["flawmap", "check"] and not last.startswith("-") and Path(last) == path


def test_a_shell_passes_the_words_on_unchanged(tmp_path):
    paths = [Path(name) for name in ("my parts (old) $1", "-x", "a'b", 'a"b', "$(touch hacked)", "*", "ü;&|<>\n", "~")]
    done = subprocess.run(
        ["sh", "-c", command("printf", "%s\\0", *paths)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split("\0")[:-1] == [f"./{path}" if str(path) == "-x" else str(path) for path in paths]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", ["train", "demo", "medical", "figures", "export", "serve"])
def test_the_packages_of_an_extra_are_named(extra):
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {line.partition(">")[0].lower() for line in project["optional-dependencies"][extra]}
    pip, verb, *packages = shlex.split(install(extra))
    assert (pip, verb) == ("pip", "install")
    assert {package.partition(">")[0].lower() for package in packages} <= wanted and packages
    assert not [package for package in packages if package.startswith("flawmap")]  # it is not on PyPI


def test_what_is_not_installed_is_installed_from_its_clone():
    assert install("train", "no-such-package") == "in a clone of no-such-package: pip install -e '.[train]'"

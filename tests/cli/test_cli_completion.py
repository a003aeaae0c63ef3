"""Scripts for shells: each is one that its shell reads, and bash completes with it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flawmap.cli.completion import SHELLS, all_verbs
from flawmap.cli.verbs import SHIPPED, VERBS

CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_that_the_shell_reads(cli, shell: str, tmp_path: Path):
    script = cli("completion", shell).out
    for word in (*(VERBS.keys() - {"benchmark"}), *SHIPPED, "--false-alarm-rate"):
        assert word.removeprefix("--") in script
    command = CHECKS.get(shell)
    if command and shutil.which(command[0]):
        (tmp_path / "script").write_text(script, encoding="utf-8")
        subprocess.run([*command, tmp_path / "script"], check=True)


def test_another_shell_is_refused(cli):
    refused = cli("completion", "csh")
    assert refused.code == 2 and "csh" in refused.err


def completed(script: str, words: str, cwd: Path) -> set[str]:
    """What bash offers at the end of a line."""
    line = (
        f'{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="${{COMP_WORDS[*]}}"\n'
        '_shtab_flawmap; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return set(subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=cwd).stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_verbs_options_and_paths(cli, tmp_path: Path):
    script = cli("completion", "bash").out
    (tmp_path / "parts").mkdir()
    assert completed(script, "flawmap det", tmp_path) == {"detect"}
    assert completed(script, "flawmap train --rec", tmp_path) == {"--recipe"}
    assert "parts" in completed(script, "flawmap train pa", tmp_path)


def test_every_verb_is_there_with_its_meaning():
    help_text = all_verbs().format_help()
    assert all(verb in help_text for verb in VERBS if verb != "benchmark")

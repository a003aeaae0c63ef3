"""``flawmap studio`` on the command line: what it refuses, and how it starts and ends."""

import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.cli.verbs import added_verb, overview
from flawmap_studio.serve import show
from flawmap_studio.state import State


def test_the_command_line_finds_the_studio_and_lists_it():
    module = added_verb("studio")
    assert module is not None and module.__name__ == "flawmap_studio.verb"
    assert module.MEANING in overview()
    assert added_verb("studoi") is None


@pytest.mark.parametrize("words", [["nowhere"], ["file"], [".", "--port", "0"], [".", "--prot", "1"]])
def test_what_cannot_be_served_is_refused_with_a_remedy(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["studio", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "remedy: " in said and "Traceback" not in said
    assert not (tmp_path / ".flawmap-studio").exists()


def test_a_port_that_is_taken_is_refused(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["studio", str(tmp_path), "--port", str(port), "--no-browser"]) == 2
    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err


def test_the_state_of_another_program_is_left_alone(tmp_path, capsys):
    own = tmp_path / ".flawmap-studio"
    own.mkdir()
    (own / "state.sqlite").write_bytes(b"not ours")
    assert main(["studio", str(tmp_path), "--port", "8377", "--no-browser"]) == 2
    assert "file is not a database" in capsys.readouterr().err
    assert (own / "state.sqlite").read_bytes() == b"not ours"


def test_no_argument_that_others_can_read_holds_the_token(tmp_path, monkeypatch):
    """The browser's command line can be read by all users of a machine; 127.0.0.1 answers all of them."""
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    address = "http://127.0.0.1:8322/#token"
    show(tmp_path, address)
    (file,) = tmp_path.iterdir()
    assert opened == [file.as_uri()]
    assert address in file.read_text(encoding="utf-8")
    assert sys.platform == "win32" or stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_change_of_many_rows_is_made_completely_or_not_at_all(tmp_path):
    state = State(tmp_path / "state.sqlite")
    with pytest.raises(sqlite3.ProgrammingError):
        state.change("INSERT INTO settings VALUES (?, ?)", [("a", "1"), ("b",)])
    assert state.ask("SELECT * FROM settings") == []
    state.set("a", {"b": [1, 2]})
    assert state.setting("a") == {"b": [1, 2]} and state.setting("c", 3) == 3
    state.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_it_serves_its_page_until_it_is_interrupted(tmp_path):
    words = [sys.executable, "-m", "flawmap", "studio", str(tmp_path), "--port", "8378", "--no-browser"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline(), process.stderr.readline()]
        assert lines[0].split() == ["studio", str(tmp_path)]
        (address,) = re.findall(r"http://127\.0\.0\.1:8378/#[\w-]{20,}", lines[1])
        with urllib.request.urlopen(address) as page:
            assert page.status == 200 and b"flawmap studio" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""

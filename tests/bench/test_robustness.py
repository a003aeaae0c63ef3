"""Outcomes of awkward inputs, before and after."""

import json
import sys
from pathlib import Path

from flawmap_bench.robustness import outcomes
from flawmap_bench.robustness.table import table_of

GENERATOR = """
import sys
from pathlib import Path
from PIL import Image
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
Image.new("L", (8, 6), 113).save(folder / "gray.png")
(folder / "notes.png").write_text("<html>")
"""


def test_an_outcome_says_what_was_read_or_why_not(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "A01_made_up").mkdir()
    (tmp_path / "A01_made_up" / "make.py").write_text(GENERATOR)
    monkeypatch.setattr(sys, "argv", ["outcomes", str(tmp_path), "--output", str(tmp_path / "out.json")])
    outcomes.run()
    found = json.loads((tmp_path / "out.json").read_text())["A01_made_up"]
    assert found["gray.png"] == "gray 113.0, 8 x 6 px"
    assert found["notes.png"].startswith("error: not an image")
    assert found["the whole folder, for `check`"].startswith("check exits 2: ")


def test_the_table_shows_what_changed() -> None:
    text = table_of({"A": {"x": "gray 1", "y": "error: a | b"}}, {"A": {"x": "gray 1", "y": "gray 2", "z": "new"}})
    assert "3 inputs, 2 with another outcome." in text
    assert "| x | gray 1 | the same |" in text
    assert "| y | error: a · b | gray 2 |" in text
    assert "| z | not tried | new |" in text

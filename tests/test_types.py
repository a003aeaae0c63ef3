"""How much of what other programs may use has types that a checker knows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import flawmap

COMPLETE = 0.95  # of the exported symbols, as measured by pyright


@pytest.mark.slow
def test_nearly_all_exported_symbols_have_known_types():
    order = ["--verifytypes", "flawmap", "--ignoreexternal", "--outputjson"]
    root = Path(flawmap.__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "pyright", *order], cwd=root, capture_output=True, text=True)
    found = json.loads(done.stdout)["typeCompleteness"]
    assert found["completenessScore"] >= COMPLETE, done.stdout[-2000:]

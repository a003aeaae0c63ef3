"""Readers of outside files read or raise UserError: on files that are nearly right, and in a guided search."""

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fuzz_readers import READERS, mutations

pytest.importorskip("fastapi")
pytest.importorskip("pydicom")

FOUND = Path(__file__).parent / "found"  # one folder for each reader: inputs that once found a fault


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_nearly_right_is_read_or_refused(name: str) -> None:
    reader = READERS[name]
    for data in (*reader.seeds(), *mutations(reader, 150, seed=0)):
        reader.read(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_found_a_fault_finds_none(path: Path) -> None:
    READERS[path.parent.name].read(path.read_bytes())


def test_the_seeds_are_read() -> None:
    """Otherwise the search would begin, and end, at the first check of a header."""
    from flawmap.data.images.files import decode_image
    from flawmap.errors import UserError

    refused = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("image", "tiff", "dicom"):
            for data in READERS[name].seeds():
                try:
                    decode_image(data)
                except UserError:
                    refused.append(name)
    assert refused == ["image"] + ["tiff"] * 6  # GIF, and numbers of which nobody knows which are black and white


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", READERS)
def test_a_guided_search_finds_no_fault(name: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(script), name, "--minutes", "0.5", "--folder", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["inputs"] > 300 and counts["faults"] == {}

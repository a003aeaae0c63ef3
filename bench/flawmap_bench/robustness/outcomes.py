"""The outcome of every input that a folder of generators makes: pixels that were read, or what was said.

Each generator is NAME/make.py; called with a folder, it writes inputs there. An outcome is what a user would get:
the mean gray and the size of an image, the share of a mask, or the exit code and the words of ``flawmap check``.

    python -m flawmap_bench.robustness.outcomes GENERATORS --output after.json
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flawmap.cli import main
from flawmap.data.find_images import find_images
from flawmap.data.images.files import decode_image, read_file
from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import open_test_data
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

MAX_WORDS = 600  # characters of an outcome


def outcomes_of(generator: Path) -> Iterator[tuple[str, str]]:
    """(input, outcome) of everything that one generator makes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        subprocess.run([sys.executable, str(generator), str(folder)], check=True, capture_output=True)
        places = sorted(path for path in folder.iterdir() if path.is_dir())
        files = sorted(path for path in folder.iterdir() if path.is_file())
        manifests = [path for path in files if path.suffix == ".csv"]
        if manifests:
            yield from ((path.name, _check(path, folder)) for path in manifests)
            return
        for path in files:
            yield path.name, _image(path)
        for place in places:
            yield place.name + "/", _place(place, folder)
        if files:
            yield "the whole folder, for `check`", _check(folder, folder)
            yield "the whole folder, for `detect`", _found(folder)


def _place(place: Path, folder: Path) -> str:
    parts = [_check(place, folder)]
    if (place / "test").is_dir():
        parts.append(_truths(place))
    elif not (place / "train").is_dir():
        parts.append(_found(place))
    return "; ".join(parts)


def _image(path: Path) -> str:
    """Mean gray and size of an image, and what was remarked."""
    try:
        data = read_file(path)
        pixels = decode_image(data, place=path.name)
    except UserError as error:
        return f"error: {error.problem} -> {error.remedy}"
    except Exception as error:
        return f"BUG {type(error).__name__}: {error}"
    return f"gray {pixels.mean():.1f}, {pixels.shape[1]} x {pixels.shape[0]} px{_remarks(data)}"


def _remarks(data: bytes) -> str:
    try:
        from flawmap.data.images.files import decode_with_remarks
    except ImportError:  # an older version
        return ""
    return "".join(f"; remark: {remark}" for remark in decode_with_remarks(data).remarks)


def _check(location: Path, folder: Path) -> str:
    """Exit code and words of ``flawmap check``, without the folder's own name."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["check", str(location)])
    lines = [line for line in (out.getvalue() + err.getvalue()).splitlines() if not line.startswith("sizes")]
    words = " | ".join(" ".join(line.split()) for line in lines).replace(str(folder), "IN")
    return f"check exits {code}: {words[:MAX_WORDS]}"


def _truths(place: Path) -> str:
    """The share of anomalous pixels in each defective test image."""
    shares = []
    try:
        for sample in open_test_data(place, DataSettings()).samples:
            if not sample.is_anomalous:
                continue
            height, width = decode_image(read_file(sample.path)).shape[:2]
            mask = read_truth(sample, height, width)
            shares.append("none" if mask is None else f"{float(np.mean(mask)):.1%}")
    except UserError as error:
        return f"masks: error: {error.problem} -> {error.remedy}"
    return f"masks cover {', '.join(shares)}"


def _found(place: Path) -> str:
    """How many images ``flawmap detect`` would score, and what it says of the rest."""
    try:
        found: Any = find_images([str(place)])
    except UserError as error:
        return f"detect: error: {error.problem}"
    except RecursionError:
        return "detect: BUG RecursionError"
    images, rest = (found.images, found.left_out) if hasattr(found, "images") else found
    return f"detect finds {len(images)} images, names {len(rest)} others"


def run() -> None:
    """Write all outcomes as JSON: {generator: {input: outcome}}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", type=Path, help="a folder with NAME/make.py")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    generators = sorted(arguments.generators.glob("*/make.py"))
    outcomes = {path.parent.name: dict(outcomes_of(path)) for path in generators}
    arguments.output.write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    print(f"{sum(map(len, outcomes.values()))} outcomes of {len(generators)} generators -> {arguments.output}")


if __name__ == "__main__":
    run()

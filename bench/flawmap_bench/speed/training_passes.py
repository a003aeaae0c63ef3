"""What a training with ``standard`` costs: in passes of torch's bare encoder over its images, in memory, part by part.

The training runs in a process of its own, ``python -m flawmap_bench.speed.training_passes FILE train ...``. It writes
to FILE how much processor time it had taken, and how much memory at most, at each line of its progress.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawmap.runs.manifest import read_manifest
from flawmap.runs.run_folder import RunFolder
from flawmap_bench.speed.machine import peak_memory_bytes
from flawmap_bench.speed.measured_process import Usage, run_measured
from flawmap_bench.speed.turns import Spread

MEGABYTE = 1e6
FIRST_PART = "start, check, hashes"
PARTS = (  # a line of progress that begins so begins a part
    ("encoder    keeps", "coreset, spacing"),  # after the encoder's tokens have been written
    ("encoder", "encoder over the good images, once"),
    ("memory     compares", "references looked up in the others"),
    ("memory     keeps", "coreset, spacing"),
    ("simulated", "saving, self-test"),
    ("simulate", "simulated defects: made, encoded, looked up"),
    ("residual", "steps of the head"),
    ("expected", "expectation"),
    ("folds", "good images and simulated defects scored by the fits of the folds"),
)


@dataclass(frozen=True)
class Moment:
    """A line of progress, with the processor time and the peak memory up to it."""

    line: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Part:
    """A part of the training: processor time, and the peak memory from the start until its end."""

    name: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Training:
    """A finished training: its run, how many images it learned from, what it took, and its parts."""

    run: Path
    num_images: int
    usage: Usage
    parts: tuple[Part, ...]

    @property
    def peak_bytes(self) -> int:
        """The most memory of all parts."""
        return max(part.peak_bytes for part in self.parts)


def train_measured(data: Path, run: Path, recipe_words: Sequence[str] = ()) -> Training:
    """Train on one thread, in a process of its own.

    Args:
        data: a location of good images.
        run: the folder to be made.
        recipe_words: further words of ``flawmap train``, such as ``--recipe FILE``.

    Raises:
        UserError: the training failed.
    """
    moments = run.with_suffix(".moments.json")
    words = ["train", str(data), "--run", str(run), "--device", "cpu", *recipe_words]
    command = [sys.executable, "-m", "flawmap_bench.speed.training_passes", str(moments), *words]
    usage = run_measured(command, {"OMP_NUM_THREADS": "1"})
    read = [Moment(**moment) for moment in json.loads(moments.read_text(encoding="utf-8"))]
    trained = sum(row.split == "train" for row in read_manifest(RunFolder(run).manifest))
    return Training(run, trained, usage, parts_of(read))


def parts_of(moments: Sequence[Moment]) -> tuple[Part, ...]:
    """The parts between the lines that begin them, in their order; a part that is begun again is continued."""
    names, seconds, peaks = [FIRST_PART], {FIRST_PART: 0.0}, {FIRST_PART: 0}
    before = 0.0
    for moment in moments:
        name = names[-1]
        seconds[name] += moment.seconds - before
        peaks[name], before = moment.peak_bytes, moment.seconds
        begun = next((part for start, part in PARTS if moment.line.startswith(start)), name)
        if begun != name:
            names.append(begun)
            seconds.setdefault(begun, 0.0)
    return tuple(Part(name, seconds[name], peaks.get(name, 0)) for name in seconds)


def table(training: Training, bare_before: Sequence[float], bare_after: Sequence[float]) -> str:
    """Markdown: the parts, and the whole in passes of the bare encoder over the images it learned from.

    Args:
        training: what was measured.
        bare_before, bare_after: seconds of processor time of torch's bare encoder for single images, just before and
            just after the training.
    """
    bare = Spread.of([*bare_before, *bare_after])
    whole, images = training.usage.processor_seconds, training.num_images
    passes = Spread.of([whole / (images * Spread.of(times).median) for times in (bare_before, bare_after)])
    return "\n".join(
        [
            f"**{whole / (images * bare.median):.2f} passes** of torch's bare encoder over the {images} images that it "
            f"learned from ({passes.lowest:.2f}–{passes.highest:.2f} by the encoder before and after); the encoder "
            f"took {1000 * bare.median:.0f} ms per image ({1000 * bare.lowest:.0f}–{1000 * bare.highest:.0f}).",
            "",
            parts_table(training, images * bare.median),
        ]
    )


def parts_table(training: Training, one_pass: float | None = None) -> str:
    """Markdown: processor time and memory of each part.

    Args:
        training: what was measured.
        one_pass: seconds of torch's bare encoder over its images; None leaves the ratios out.
    """

    def row(name: str, seconds: float, peak_bytes: int) -> str:
        ratio = f"{seconds / one_pass:.2f}" if one_pass else "–"
        return f"| {name} | {seconds:.1f} | {ratio} | {peak_bytes / MEGABYTE:,.0f} |"

    rows = [row(part.name, part.seconds, part.peak_bytes) for part in training.parts]
    rows.append(row("whole", training.usage.processor_seconds, training.peak_bytes))
    return "\n".join(["| part | s | passes | peak memory until its end, MB |", "|---|---|---|---|", *rows])


class _Timeline(io.TextIOBase):
    """A stream that passes on what is written, and notes when each line was begun."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._is_new_line = True
        self.moments: list[Moment] = []

    def write(self, text: str) -> int:
        if self._is_new_line and text:
            self.note(text)
        self._is_new_line = text.endswith("\n")
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def note(self, line: str) -> None:
        self.moments.append(Moment(line.strip(), time.process_time(), peak_memory_bytes()))


def main() -> int:
    """``FILE train ...``: the command line of flawmap, with its progress timed."""
    from flawmap.cli import main as flawmap

    timeline = _Timeline(sys.stderr)  # pyright: ignore[reportArgumentType]
    with contextlib.redirect_stderr(timeline):
        code = flawmap(sys.argv[2:])
    timeline.note("end")
    moments = [vars(moment) for moment in timeline.moments]
    Path(sys.argv[1]).write_text(json.dumps(moments), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())

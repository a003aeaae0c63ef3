"""Coverage-guided fuzzing of one reader with atheris; it can be interrupted and continued.

    OMP_NUM_THREADS=1 python tests/machines/fuzz.py tiff --minutes 20

The folder keeps the corpus, the counts so far, and one input for each fault that was found: the shortest one.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import TracebackType

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "machines"), str(TESTS)]
COUNTS = "counts.json"
SAVE_EVERY_S = 5.0
MAX_INPUT_BYTES = 20_000
SLOW_S = 5.0  # a reader that takes longer for so few bytes could be used to stop a server


class Campaign:
    """Counts of one reader's campaign, kept in its folder.

    Args:
        name: of the reader.
        folder: of the campaign; an earlier one is continued.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from fuzz_readers import READERS

        self.reader, self.folder = READERS[name], folder
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        (folder / "faults").mkdir(exist_ok=True)
        for seed in self.reader.seeds():
            (folder / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        before = json.loads((folder / COUNTS).read_text()) if (folder / COUNTS).is_file() else {}
        self.inputs, self.cpu_s = before.get("inputs", 0), before.get("cpu_s", 0.0)
        self.faults: dict[str, int] = before.get("faults", {})
        self._counted_s, self._saved = time.process_time(), time.monotonic()

    def one_input(self, data: bytes) -> None:
        """Read one input; a fault is kept, and the campaign goes on."""
        self.inputs += 1
        started = time.process_time()
        try:
            self.reader.read(data)
        except Exception as error:
            self._keep(data, error)
        if time.process_time() - started > SLOW_S:
            self._keep(data, TimeoutError(f"took more than {SLOW_S:g} s"))
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save()

    def _keep(self, data: bytes, error: Exception) -> None:
        place = _place_of(error.__traceback__)
        signature = f"{type(error).__name__} at {place}"
        path = self.folder / "faults" / hashlib.sha1(signature.encode()).hexdigest()[:12]
        if signature not in self.faults or len(data) < path.stat().st_size:
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(signature + "\n" + "".join(traceback.format_exception(error)))
        self.faults[signature] = self.faults.get(signature, 0) + 1

    def save(self) -> None:
        """Write the counts."""
        now = time.process_time()
        self.cpu_s, self._counted_s, self._saved = self.cpu_s + now - self._counted_s, now, time.monotonic()
        counts = {"inputs": self.inputs, "cpu_s": round(self.cpu_s, 1), "faults": self.faults}
        (self.folder / COUNTS).write_text(json.dumps(counts, indent=1))


def _place_of(trace: TracebackType | None) -> str:
    """The innermost line of ours, and the innermost of all."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "flawmap" in frame.filename] or frames
    if not frames:
        return "-"
    return " / ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours[-1], frames[-1]))


def main() -> None:
    """Fuzz one reader for a while."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("--minutes", type=float, default=20.0, help="of this call, by the clock")
    parser.add_argument("--folder", type=Path, help="default: .fuzz/READER")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(".fuzz") / arguments.reader
    import atheris
    from fuzz_readers import READERS  # a first import, without branches being watched: names the packages to watch

    watched = READERS[arguments.reader].instrumented
    for name in [name for name in sys.modules if name == "fuzz_readers" or name.startswith(watched)]:
        del sys.modules[name]
    with atheris.instrument_imports(include=[*watched]):
        campaign = Campaign(arguments.reader, folder)
    warnings.simplefilter("ignore")
    options = [f"-max_total_time={int(arguments.minutes * 60)}", f"-max_len={MAX_INPUT_BYTES}", "-rss_limit_mb=4096"]
    options += ["-timeout=60", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], campaign.one_input)
    with contextlib.suppress(SystemExit), open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
        import atexit

        atexit.register(campaign.save)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

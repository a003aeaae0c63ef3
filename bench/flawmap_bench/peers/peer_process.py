"""A method of anomalib in a process of its own, which scores an image whenever it is told to.

anomalib changes timm for the whole process that it is in.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from flawmap.errors import UserError

REMEDY = 'pip install "flawmap[peers]", or leave --peers out'
READY, SCORED = "flawmap:ready ", "flawmap:scored"  # what else is on stdout is anomalib's


class PeerProcess:
    """Starts the process and waits until the method has learned; a context manager that ends it.

    Args:
        method: a name of ``flawmap benchmark peers``.
        data: whose good images it learns from.
        image_size_px: side of the square that images are resized to.
        image: what :meth:`score` scores.
        budget_seconds: for learning.

    Raises:
        UserError: the process ended before it was ready, for example because anomalib is not installed.
    """

    def __init__(self, method: str, data: str, image_size_px: int, image: Path, budget_seconds: float) -> None:
        words = [method, data, str(image_size_px), str(image), str(budget_seconds)]
        command = [sys.executable, "-m", "flawmap_bench.peers.peer_process", *words]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody empties would stop the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        self.note = json.loads(self._wait_for(READY))

    def score(self) -> None:
        """Score the image once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._wait_for(SCORED)

    def _wait_for(self, beginning: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line.removeprefix(beginning)
        self._process.wait()
        self._said.seek(0)
        last = (self._said.read().strip().splitlines() or ["it said nothing"])[-1]
        self._end()
        raise UserError(f"the peer's process has ended: {last}", "--peers", REMEDY)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def serve(method: Any, pixels: Any) -> None:
    """Score ``pixels`` for each line that comes in, and say so."""
    print(f"{READY}{json.dumps(method.note)}", flush=True)
    for _ in sys.stdin:
        method.score(pixels)
        print(SCORED, flush=True)


def main() -> None:
    """``METHOD DATA IMAGE_SIZE_PX IMAGE BUDGET_SECONDS``, from :class:`PeerProcess`."""
    from flawmap.data.images.files import read_image
    from flawmap.data.open_data import load_images
    from flawmap_bench.method import MethodSettings
    from flawmap_bench.methods import build_method

    name, data, size, image, budget = sys.argv[1:]
    method = build_method(name, MethodSettings(0, int(size), float(budget), "cpu"))
    method.fit(load_images(data).images)
    serve(method, read_image(image))


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        sys.exit(f"{problem.problem}; {problem.remedy}")

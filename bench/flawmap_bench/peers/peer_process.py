"""A method of anomalib in its own process, which scores an image on request.

anomalib changes timm for the whole process that it is in.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from flawmap.advice import install
from flawmap.errors import UserError

REMEDY = "leave --peers out, or: " + install("peers", "flawmap-bench")
UNTRAINED_EFFICIENT_AD = "efficient_ad_s"  # for what it takes; its own training needs a download
READY, SCORED = "flawmap:ready ", "flawmap:scored "  # anything else on stdout is anomalib's


class PeerProcess:
    """Starts the process and waits until the method is trained; a context manager that ends it.

    Args:
        method: a name that ``flawmap benchmark peers`` knows.
        data: the location whose good images it learns from.
        image_size_px: side of the square that images are resized to.
        image: what :meth:`score` scores.
        budget_seconds: for learning.

    Raises:
        UserError: the process ended before it was ready, for example because anomalib is not installed.
    """

    def __init__(self, method: str, data: str, image_size_px: int, image: Path, budget_seconds: float) -> None:
        words = [method, data, str(image_size_px), str(image), str(budget_seconds)]
        command = [sys.executable, "-m", "flawmap_bench.peers.peer_process", *words]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a full pipe would block the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.note = json.loads(self._wait_for(READY))

    def score(self) -> float:
        """Score the image once; returns the seconds of processor time that it took."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._wait_for(SCORED))

    def _wait_for(self, prefix: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(prefix):
                return line.removeprefix(prefix)
        self.process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["it printed nothing"])[-1]
        self._end()
        raise UserError(f"the peer's process has ended: {last}", "--peers", REMEDY)

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def serve(method: Any, pixels: Any) -> None:
    """Score ``pixels`` for each line on standard input, and report the processor time that it took each time."""
    print(f"{READY}{json.dumps(method.note)}", flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        method.score(pixels)
        print(f"{SCORED}{time.process_time() - started}", flush=True)


def main() -> None:
    """``METHOD DATA IMAGE_SIZE_PX IMAGE BUDGET_SECONDS``, from :class:`PeerProcess`."""
    from flawmap.data.images.files import read_image
    from flawmap.data.open_data import load_images
    from flawmap_bench.method import MethodSettings
    from flawmap_bench.methods import build_method

    name, data, size, image, budget = sys.argv[1:]
    if name == UNTRAINED_EFFICIENT_AD:
        from flawmap_bench.peers.efficient_ad import UntrainedEfficientAd

        return serve(UntrainedEfficientAd(), read_image(image))
    method = build_method(name, MethodSettings(0, int(size), float(budget), "cpu"))
    method.fit(load_images(data).images)
    serve(method, read_image(image))


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        sys.exit(f"{problem.problem}; {problem.remedy}")

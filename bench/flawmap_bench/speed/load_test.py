"""A bounded load test of ``flawmap serve``: several clients at once, with bad uploads among the good ones.

``python -m flawmap_bench.speed.load_test MODEL [REQUESTS] [CLIENTS]`` starts the server, sends requests and prints a
summary. It fails when an answer is lost or belongs to another image, or when the server's memory grows.
"""

import http.client
import io
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

NUM_IMAGES = 12
BAD_SHARE = 0.1
WARM_UP_SHARE = 0.2  # of the requests; memory is compared after them
ALLOWED_GROWTH_MB = 60.0
SAME_SCORE = 1e-6


@dataclass
class Tally:
    """What all clients together have seen."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    n_unavailable: int = 0
    megabytes: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def good_images() -> list[bytes]:
    """PNG files of different sizes and content, so that mixed-up answers are noticed."""
    generator = np.random.default_rng(0)
    images = []
    for number in range(NUM_IMAGES):
        side = 120 + 20 * number
        pixels = generator.integers(0, 256, (side, side + 30, 3), dtype=np.uint8) // (1 + number % 4)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        images.append(buffer.getvalue())
    return images


@cache
def bad_uploads(good: bytes) -> dict[str, tuple[bytes, str, tuple[int, ...]]]:
    """Name -> body, content type, expected statuses."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    return {
        "truncated": (good[: len(good) // 2], "image/png", (422,)),
        "wrong type": (good, "text/plain", (415,)),
        "20,000 x 20,000 px": (bomb.getvalue(), "image/png", (422,)),
        "empty": (b"", "image/png", (422,)),
        "not an image": (b"%PDF-1.7 and so on", "image/png", (422,)),
        "100 MB": (bytes(100_000_000), "image/png", (413,)),
    }


def post(port: int, body: bytes, content_type: str) -> tuple[int, dict]:
    """Send one upload; a server that closes the connection during a large one means 413."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        try:
            connection.request("POST", "/v1/detect", body, {"content-type": content_type})
        except (BrokenPipeError, ConnectionResetError):
            if len(body) < 50_000_000:
                raise
            return 413, {}
        try:
            reply = connection.getresponse()
        except ConnectionResetError:
            if len(body) < 50_000_000:
                raise
            return 413, {}
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def client(port: int, requests: list[str | int], images: list[bytes], expected: list[float], tally: Tally) -> None:
    """Send requests one after the other; repeat one that is answered with 503."""
    bad = bad_uploads(images[0])
    for request in requests:
        body, content_type, right = bad[request] if isinstance(request, str) else (images[request], "image/png", (200,))
        started = time.perf_counter()
        try:
            status, answer = post(port, body, content_type)
            while status == 503:
                with tally.lock:
                    tally.n_unavailable += 1
                time.sleep(0.2)
                status, answer = post(port, body, content_type)
        except OSError as error:
            with tally.lock:
                tally.wrong.append(f"{request}: lost, {error!r}")
            continue
        with tally.lock:
            tally.statuses[status] += 1
            if status not in right:
                tally.wrong.append(f"{request}: status {status}, {answer}")
            elif isinstance(request, int):
                tally.seconds.append(time.perf_counter() - started)
                if abs(answer["score"] - expected[request]) > SAME_SCORE:
                    tally.wrong.append(f"{request}: score {answer['score']}, expected {expected[request]}")


def resident_megabytes(process_id: int) -> float:
    """Memory of a process in MB, on Linux."""
    for line in Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def watch_memory(process_id: int, tally: Tally, done: threading.Event) -> None:
    """Sample the server's memory once a second."""
    while not done.wait(1.0):
        tally.megabytes.append(resident_megabytes(process_id))


def plan(requests: int, clients: int) -> list[list[str | int]]:
    """Which uploads each client sends, the same each time; few of 100 MB, because they take long to send."""
    chance = random.Random(0)
    kinds = ["truncated", "wrong type", "20,000 x 20,000 px", "empty", "not an image"]
    orders: list[list[str | int]] = [[] for _ in range(clients)]
    for number in range(requests):
        is_bad = chance.random() < BAD_SHARE
        upload = chance.choice(kinds) if is_bad else chance.randrange(NUM_IMAGES)
        orders[number % clients].append("100 MB" if number % 250 == 125 else upload)
    return orders


def run(model: str, requests: int, clients: int) -> tuple[str, bool]:
    """The whole test: a text for people, and whether it passed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    images, tally, done = good_images(), Tally(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="flawmap-load-") as folder:
        command = [sys.executable, "-m", "flawmap", "serve", model, "--port", str(port), "--device", "cpu"]
        log = Path(folder) / "log.txt"
        with log.open("wb") as file:
            server = subprocess.Popen([*command, "--reviews", f"{folder}/reviews.csv"], stderr=file)
        try:
            wait_until_ready(port, server, log)
            expected = [post(port, image, "image/png")[1]["score"] for image in images]
            bad_uploads(images[0])  # made once, before several clients need them
            threading.Thread(target=watch_memory, args=(server.pid, tally, done), daemon=True).start()
            started = time.perf_counter()
            threads = [
                threading.Thread(target=client, args=(port, orders, images, expected, tally))
                for orders in plan(requests, clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - started
        finally:
            done.set()
            server.terminate()
            server.wait(timeout=60)
    return report(tally, requests, clients, seconds)


def wait_until_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until /readyz answers 200.

    Raises:
        RuntimeError: the server ended or took too long; the message contains its log.
    """
    until = time.monotonic() + 300
    while time.monotonic() < until and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.2)
    raise RuntimeError(f"the server did not become ready\n{log.read_text(encoding='utf-8')}")


def report(tally: Tally, requests: int, clients: int, seconds: float) -> tuple[str, bool]:
    """A text for people, and whether the test passed."""
    settled = tally.megabytes[int(len(tally.megabytes) * WARM_UP_SHARE) :] or [float("nan")]
    growth = settled[-1] - settled[0]
    answered = sum(tally.statuses.values())
    ordered = sorted(tally.seconds) or [float("nan")]  # where no image was answered
    p50, p99 = statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]
    lines = [
        f"requests   {requests} of {clients} clients, {answered} answered in {seconds:.0f} s",
        f"answers    {', '.join(f'{count} x {status}' for status, count in sorted(tally.statuses.items()))}; "
        f"{tally.n_unavailable} times 503",
        f"images     {len(tally.seconds) / seconds:.1f} per second; p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms",
        f"memory     {settled[0]:.0f} MB after warm-up, {max(settled):.0f} MB at most, {settled[-1]:.0f} MB at the end",
        f"wrong      {len(tally.wrong)}{'; first: ' + tally.wrong[0] if tally.wrong else ''}",
    ]
    return "\n".join(lines), not tally.wrong and answered == requests and not growth > ALLOWED_GROWTH_MB


def main() -> int:
    """``MODEL [REQUESTS] [CLIENTS]``."""
    if len(sys.argv) < 2:
        print("usage: python -m flawmap_bench.speed.load_test MODEL [REQUESTS] [CLIENTS]", file=sys.stderr)
        return 2
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    clients = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    try:
        text, passed = run(sys.argv[1], requests, clients)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

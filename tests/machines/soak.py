"""Many requests to a real server, one in twenty malformed, beside slow clients.

No answer may be lost or wrong, and memory must stay flat.

    OMP_NUM_THREADS=1 python tests/machines/soak.py --requests 20000

The model answers with the brightness of an image, so that the server is what is tested. With --folder, each call adds
a line with its counts to soak.jsonl there.
"""

import argparse
import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "deploy"), str(TESTS)]

from brightness_model import FACTS, Answer, Client, form, gray_png  # noqa: E402

CLIENTS, SLOW_CLIENTS = 4, 3
MALFORMED_SHARE = 0.05
WARM_UP_SHARE = 0.25  # of the requests; memory is compared with what it was then
ALLOWED_GROWTH = 0.05
MALFORMED: dict[str, tuple[bytes, str, tuple[int, ...]]] = {
    "empty": (b"", "image/png", (422,)),
    "text": (b"not an image", "image/png", (422,)),
    "cut in half": (gray_png(90)[:40], "image/png", (422,)),
    "wrong type": (gray_png(90), "text/plain", (415,)),
    "form without a file": (b"--xx--\r\n", "multipart/form-data; boundary=xx", (400, 422)),
    "form without a boundary": (gray_png(90), "multipart/form-data", (400, 422)),
    "too large": (bytes(400_000), "image/png", (413,)),
    "too many pixels": (gray_png(90, 1500, 1500), "image/png", (422,)),
}


@dataclass
class Tally:
    """What all clients have seen."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slow_clients: int = 0
    warm_mb: float = 0.0
    end_mb: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str, answer: Answer, right: tuple[int, ...], is_right: bool = True) -> None:
        """Count an answer, and keep what is wrong with it."""
        with self.lock:
            self.requests += 1
            self.statuses[answer.status] += 1
            if answer.status not in right or not is_right:
                self.wrong.append(f"{name}: status {answer.status}, {answer.body[:200]!r}")


def answered(client: Client, path: str, body: bytes, content_type: str) -> Answer:
    """The answer, after as many attempts as the server asks for."""
    for _ in range(1000):
        try:
            answer = client.ask("POST", path, body, content_type=content_type)
        except (BrokenPipeError, ConnectionResetError):  # it does not read what is too large
            if len(body) < 300_000:
                raise
            continue
        if answer.status != 503:
            return answer
        time.sleep(0.01)
    raise TimeoutError("the server was busy for ten seconds")


def upload(client: Client, number: int, tally: Tally) -> None:
    """One good image, alone or in a form; some stay in the page's session, and some are reviewed."""
    gray = number % 250
    content = gray_png(gray, 8 + number % 5)
    body, content_type = form(content, f"{number}.png") if number % 2 else (content, "image/png")
    path = "/v1/detect" + ("?in_session=true&with_map=true" if number % 10 == 0 else "")
    answer = answered(client, path, body, content_type)
    is_right = (
        answer.status == 200 and answer.json["score"] == float(gray) and answer.json["is_anomalous"] == (gray > 100)
    )
    tally.count(f"{number}", answer, (200,), is_right)
    if number % 20 == 0:
        sha256 = hashlib.sha256(content).hexdigest()
        order = {"image": f"{number}.png", "sha256": sha256, "model_id": FACTS.model_id, "threshold": 100.0}
        body = json.dumps(order | {"review": "agree"}).encode()
        tally.count("review", answered(client, "/v1/reviews", body, "application/json"), (200,))


def work(port: int, numbers: range, tally: Tally) -> None:
    """What one client sends."""
    client, dice = Client(port), random.Random(numbers.start)
    for number in numbers:
        try:
            if dice.random() < MALFORMED_SHARE:
                name = dice.choice(list(MALFORMED))
                body, content_type, right = MALFORMED[name]
                tally.count(name, answered(client, "/v1/detect", body, content_type), right)
            else:
                upload(client, number, tally)
        except OSError as error:
            with tally.lock:
                tally.wrong.append(f"{number}: lost, {error!r}")


def dawdle(port: int, tally: Tally, is_over: threading.Event) -> None:
    """Clients that begin a request and do not go on, or that go away."""
    head = b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
    while not is_over.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
                slow.sendall(head[: 20 + tally.slow_clients % len(head)])
                is_over.wait(0.5)
                if tally.slow_clients % 2:
                    slow.recv(1000)  # until it is cut off
        except OSError:
            pass
        with tally.lock:
            tally.slow_clients += 1


def memory_mb(process: int) -> float:
    """Memory of a process in use, without what was swapped out."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def soak(requests: int, folder: Path) -> Tally:
    """Start a server, send the requests, and stop it."""
    tally, is_over = Tally(), threading.Event()
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            slow = [threading.Thread(target=dawdle, args=(port, tally, is_over)) for _ in range(SLOW_CLIENTS)]
            for thread in slow:
                thread.start()
            first = int(requests * WARM_UP_SHARE)
            for numbers in (range(first), range(first, requests)):
                shares = [numbers[start::CLIENTS] for start in range(CLIENTS)]
                threads = [threading.Thread(target=work, args=(port, share, tally)) for share in shares]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                tally.warm_mb, tally.end_mb = tally.end_mb, memory_mb(server.pid)
            health = Client(port).get("/healthz")
            tally.count("health", health, (200,))
        finally:
            is_over.set()
            server.terminate()
    for thread in slow:
        thread.join()
    if server.returncode not in (0, -signal.SIGTERM):  # it ends by itself, and then as it was told
        tally.wrong.append(f"the server ended with {server.returncode}")
    return tally


def serve(folder: Path) -> None:
    """Serve until terminated; prints the port."""
    import uvicorn
    from brightness_model import BrightnessModel

    from flawmap.deploy.server import ServerSettings, create_app

    settings = ServerSettings(folder / "reviews.csv", max_bytes=300_000, max_pixels=1_000_000, read_seconds=2.0)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(create_app(BrightnessModel(), settings), log_level="critical")).run([listening])


def main() -> int:
    """Run, print a summary, and say whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return 0
    with tempfile.TemporaryDirectory() as place:
        tally = soak(arguments.requests, Path(place))
    growth = tally.end_mb / tally.warm_mb - 1
    facts = as_json(tally) | {"growth": round(growth, 4)}
    print(json.dumps(facts, indent=1))
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        with (arguments.folder / "soak.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")
    return int(bool(tally.wrong) or growth > ALLOWED_GROWTH)


def as_json(tally: Tally) -> dict:
    """The tally as JSON-ready values."""
    return {name: value for name, value in vars(tally).items() if name != "lock"}


if __name__ == "__main__":
    sys.exit(main())

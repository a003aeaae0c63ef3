"""``python -m flawmap_studio.run_job --detach FOLDER``: run one command of flawmap, apart from the studio.

This starts the process that runs the command, and ends at once. That process belongs to no terminal and no studio, so
the job goes on when these end. Its folder has

    job.json     the command and its working folder, written before
    lock         held while the job runs; the system releases it however the process ends
    log          a line for each line of output: seconds since the start, o or e for its stream, the text
    cancel       written by whoever wants the job to stop
    result.json  the exit code and what it took, written last
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

DETACH = "--detach"
JOB, LOCK, LOG, CANCEL, RESULT = "job.json", "lock", "log", "cancel", "result.json"
NEW_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0  # both: no Ctrl-C of a terminal
NEW_SESSION = sys.platform != "win32"
LOOK_SECONDS = 0.2  # between two looks at the file that cancels
PATIENCE_SECONDS = 20.0  # for a command that was asked to stop, until it is made to


def main(folder: Path) -> int:
    """Run the job in a folder, and write its result."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)  # whoever only looks whether it is held holds it for a moment
    except Timeout:
        return 1  # it runs already
    with lock:
        job = json.loads((folder / JOB).read_bytes())
        started = time.monotonic()
        code = _run(folder, job, started)
        used = os.times()
        result = {
            "exit_code": code,
            "seconds": time.monotonic() - started,
            "processor_seconds": used.children_user + used.children_system,
            "cancelled": (folder / CANCEL).exists(),
        }
        unfinished = folder / f".{RESULT}"
        unfinished.write_text(json.dumps(result), encoding="utf-8")
        os.replace(unfinished, folder / RESULT)
    return 0


def _run(folder: Path, job: dict[str, Any], started: float) -> int:
    with (folder / LOG).open("w", encoding="utf-8", errors="backslashreplace") as log:
        writing = threading.Lock()

        def copy(stream: IO[bytes], mark: str) -> None:
            """A progress line ends with a carriage return, others with a line feed."""
            waiting = b""
            while part := os.read(stream.fileno(), 65536):
                waiting += part.replace(b"\r", b"\n")
                *lines, waiting = waiting.split(b"\n")
                with writing:
                    for line in lines:
                        if text := line.decode("utf-8", "backslashreplace").rstrip():
                            log.write(f"{time.monotonic() - started:.2f}\t{mark}\t{text}\n")
                    log.flush()

        # A studio that a shell started in the background ignores Ctrl-C, and the command would inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            job["process"],
            cwd=job["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            creationflags=NEW_GROUP,
            start_new_session=NEW_SESSION,
        )
        assert process.stdout is not None and process.stderr is not None
        streams = (process.stdout, "o"), (process.stderr, "e")
        threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in streams]
        for thread in threads:
            thread.start()
        _wait(process, folder / CANCEL)
        for thread in threads:
            thread.join(timeout=5.0)
        return process.returncode


def _wait(process: "subprocess.Popen[bytes]", cancel: Path) -> None:
    """Wait for the end; ask the command to stop where the job was cancelled, as Ctrl-C would."""
    deadline = None
    while process.poll() is None:
        if deadline is None and cancel.exists():
            deadline = time.monotonic() + PATIENCE_SECONDS
            if sys.platform == "win32":
                process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                process.send_signal(signal.SIGINT)
        elif deadline is not None and time.monotonic() > deadline:
            process.kill()
        time.sleep(LOOK_SECONDS)


def detach(folder: str) -> None:
    """Start a process that runs the job, and do not wait for it."""
    words = [sys.executable, "-P", "-m", "flawmap_studio.run_job", folder]
    nothing = subprocess.DEVNULL
    subprocess.Popen(
        words,
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        cwd=folder,
        creationflags=NEW_GROUP,
        start_new_session=NEW_SESSION,
    )
    os._exit(0)  # nobody is to wait for it


if __name__ == "__main__":
    if sys.argv[1] == DETACH:
        detach(sys.argv[2])
    sys.exit(main(Path(sys.argv[1])))

"""Headless Chromium, driven through the DevTools protocol over two pipes: no driver, no port, no further package."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# chromium reads from 3 and writes to 4
WITH_PIPES = """
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE_SECONDS = 120.0  # on a busy machine


def chromium() -> str:
    """Its path; the test is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs chromium to drive the page")
    return found


class Page:
    """One tab. Errors of its scripts end the test."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._unread, self._last_id = b"", 0
        self.complaints: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self._send(f"{domain}.enable")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            received = os.read(self._from, 1 << 20)
            assert received, "chromium has ended"
            self._unread += received
        one, self._unread = self._unread.split(b"\0", 1)
        message = json.loads(one)
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"])[:500])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(json.dumps(message["params"]["entry"])[:500])
        return message

    def open(self, address: str) -> None:
        """Go to an address; answers once the page is there."""
        self._send("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON."""
        found = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until an expression is true."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < until, (condition, self.value("document.body.innerText"), self.complaints)
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Text of an element as it is shown."""
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def _box(self, selector: str) -> list[float]:
        """Left, top, width and height on the screen."""
        rectangle = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        return self.value(f"(({{x, y, width, height}}) => [x, y, width, height])({rectangle})")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        self.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})")
        x, y, w, h = self._box(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x + w / 2, y=y + h / 2, button="left", clickCount=1)

    def wheel(self, selector: str, delta: float) -> None:
        """Turn the wheel a quarter from the top left of an element."""
        x, y, w, h = self._box(selector)
        self._send("Input.dispatchMouseEvent", type="mouseWheel", x=x + w / 4, y=y + h / 4, deltaX=0, deltaY=delta)

    def press(self, key: str) -> None:
        """A key of one character, or a named one."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self._send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type_text(self, text: str) -> None:
        """Into what has the focus."""
        self._send("Input.insertText", text=text)

    def drop(self, selector: str, *files: Path) -> None:
        """Drag files from outside onto an element, and let go."""
        x, y, w, h = self._box(selector)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._send("Input.dispatchDragEvent", type=kind, x=x + w / 2, y=y + h / 2, data=data)

    def choose(self, selector: str, *files: Path) -> None:
        """Files in a file input."""
        root = self._send("DOM.getDocument")["root"]["nodeId"]
        node = self._send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, path: Path) -> None:
        """PNG of what is seen."""
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing(width: int = 1280, height: int = 860) -> Iterator[Page]:
    """A browser with one tab, and without any way out of this machine."""
    program = chromium()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    with tempfile.TemporaryDirectory(prefix="flawmap-chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            *(program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}"),
            *(f"--window-size={width},{height}", "about:blank"),
        ]
        moved = [sys.executable, "-I", "-S", "-c", WITH_PIPES, str(to_read), str(from_write), *command]
        process = subprocess.Popen(
            moved, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(from_write)
        try:
            yield Page(to_write, from_read)
        finally:
            os.close(to_write)
            process.terminate()
            process.wait(timeout=60)
            os.close(from_read)

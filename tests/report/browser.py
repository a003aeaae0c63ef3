"""A headless Chromium, driven through its DevTools protocol over two pipes; no package is needed for that."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

_TIMEOUT_S = 120


def chromium() -> str:
    """The browser's path; the test that asks is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("needs chromium to open the page")


class Browser:
    """One page in one browser, to be used in a ``with`` block."""

    def __enter__(self) -> "Browser":
        path, self._profile = chromium(), tempfile.mkdtemp(prefix="flawmap-browser-")
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]  # clear of 3 and 4
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--remote-debugging-pipe", *quiet]
        command = [path, *options, f"--user-data-dir={self._profile}", "about:blank"]
        redirected = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'  # Chromium reads commands from 3 and answers on 4
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", redirected, "bash", *command],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_read, to_write, *ends):
            os.close(end)
        self._number, self._buffer, self._session = 0, b"", None
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        self._process.terminate()
        self._process.wait(_TIMEOUT_S)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        number = self._number
        answer = self._wait(lambda one: one.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        """Load a page and wait until it has loaded."""
        self.call("Page.navigate", url="about:blank")  # else a new fragment of the same page loads nothing
        self.call("Page.navigate", url=address)
        for _ in range(600):
            if self.read("location.href !== 'about:blank' && document.readyState") == "complete":
                return
            self.read("new Promise((done) => setTimeout(done, 100))")
        raise TimeoutError(address)

    def read(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key, as a person presses it."""
        common = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, x: float, y: float) -> None:
        """One click of the left button at a place of the view."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light", whole: bool = True) -> None:
        """A picture of the page, for people."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self._buffer:
                chunk = os.read(self._read, 1 << 20)
                assert chunk, "the browser has ended"
                self._buffer += chunk
            message, _, self._buffer = self._buffer.partition(b"\0")
            if wanted(found := json.loads(message)):
                return found

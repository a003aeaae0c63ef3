"""A studio in a process of its own, and a browser that enters it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)

NO_BROWSER = f"no browser is installed: none of {', '.join(NAMES)} is on the PATH"


def installed_browser() -> str | None:
    """The path of the system's Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def studio(folder: Path, port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running studio: its process, and the address with its token."""
    words = [sys.executable, "-P", "-m", "flawmap", "studio", str(folder), "--port", str(port), "--no-browser"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield process, found[0]
                return
        raise RuntimeError("the studio did not start")
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser.

    Raises:
        RuntimeError: there is none.
    """
    if (executable := installed_browser()) is None:
        raise RuntimeError(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        yield browser
        browser.close()

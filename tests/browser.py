"""The system's Chromium, driven by Playwright without a screen and without a way out of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from flawmap_bench.studio.browser import NO_BROWSER, installed_browser
from flawmap_bench.studio.browser import OPTIONS as OPTIONS_OF_STUDIO

TIMEOUT_MS = 120_000  # for a busy machine
OPTIONS = (*OPTIONS_OF_STUDIO, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; skips the test where none is installed.

    Playwright keeps an event loop running in this thread, so only one such block can be open at a time.
    """
    if (executable := installed_browser()) is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=OPTIONS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, width: int = 1280, height: int = 860, is_mobile: bool = False) -> Iterator[Page]:
    """An empty page in a profile of its own."""
    context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=is_mobile)
    context.set_default_timeout(TIMEOUT_MS)
    yield context.new_page()
    context.close()


def collect_errors(page: Page, errors: list[str]) -> None:
    """Add the page's uncaught exceptions and the errors on its console to a list, from now on."""
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)


def drop_files(page: Page, selector: str, *files: Path) -> None:
    """Drag files from outside onto the middle of an element and release them."""
    box = page.locator(selector).bounding_box()
    assert box is not None, f"{selector} is not visible"
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)  # Playwright itself drops only what a page makes
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

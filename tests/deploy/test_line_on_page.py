"""The page in a real browser while the line drifts: one warning with thumbnails, and false alarms by day."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, form, png, serving
from playwright.sync_api import Browser, Page

from browser import chromium, collect_errors, new_page
from flawmap.detect.calibration import calibrate

CALIBRATION = calibrate([float(n) for n in range(40, 80)], [0.0] * 40, 0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def visible(page: Page, selector: str) -> bool:
    return page.locator(selector).is_visible()


@pytest.mark.parametrize(("width", "is_mobile"), [(1280, False), pytest.param(400, True, marks=pytest.mark.slow)])
def test_a_drift_is_shown_as_long_as_it_lasts(browser: Browser, tmp_path: Path, width: int, is_mobile: bool) -> None:
    errors: list[str] = []
    model = BrightnessModel(replace(FACTS, calibration=CALIBRATION))
    with serving(model, tmp_path / "reviews.csv") as client, new_page(browser, width, 860, is_mobile) as page:
        collect_errors(page, errors)
        page.goto(f"http://127.0.0.1:{client.port}/")
        page.locator("#model", has_text="bright").wait_for()
        assert not visible(page, "#drift") and not visible(page, "#days-part")
        for number in range(27):
            body, content_type = form(png(np.full((12, 20, 3), 100 + number, np.uint8)), f"<b>{number:02d}</b>.png")
            client.detect(body, content_type=content_type)
        page.wait_for_selector("#drift:not([hidden])")  # without a reload
        assert page.locator("#drift strong").inner_text() == "Images have moved away from the good ones (scores)."
        assert page.locator("#drift li").all_inner_texts() == [f"<b>{number}</b>.png" for number in range(26, 21, -1)]
        assert page.evaluate("[...document.querySelectorAll('#drift img')].every((one) => one.naturalWidth === 20)")
        page.locator("#drift summary").click()
        assert "flawmap calibrate MODEL GOOD_IMAGES" in page.locator("#drift p").inner_text()
        assert page.locator("#days-title").inner_text() == "False alarms by day (wanted: 5.0 %)"
        page.locator("#days-title").click()
        assert page.locator("#days tr td").all_inner_texts()[1:] == ["27", "27", "0/0", "no reviews"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        model.facts = replace(model.facts, calibration=calibrate([float(n) for n in range(100, 140)], [0.0] * 40, 0.05))
        page.reload()
        page.locator("#days-title", has_text="wanted").wait_for()
        assert not visible(page, "#drift")  # another calibration, other good images
    assert errors == []

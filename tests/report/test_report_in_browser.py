"""The report as a person uses it: opened in a browser, its slider moved by keys, its images gone through."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from browser import chromium, collect_errors, new_page
from flawmap.report.html import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page; errors of its scripts fail the test."""
    errors: list[str] = []
    with new_page(browser) as opened:
        collect_errors(opened, errors)
        yield opened
    assert errors == []


def counts(scores: np.ndarray, n: int) -> str:
    return f"{n} of {len(scores)} ({100 * n / len(scores):.1f} %)"


def assert_counts(page: Page, made_up, threshold: float) -> None:
    """What the page says against numpy's count at the threshold."""
    n_missed, n_alarms = int((made_up.anomalous <= threshold).sum()), int((made_up.good > threshold).sum())
    assert page.evaluate("document.getElementById('live-missed').textContent") == counts(made_up.anomalous, n_missed)
    assert page.evaluate("document.getElementById('live-false-alarms').textContent") == counts(made_up.good, n_alarms)
    spoken = page.evaluate("document.getElementById('threshold-slider').getAttribute('aria-valuetext')")
    assert spoken.endswith(f": {n_missed} missed, {n_alarms} false alarms")


def threshold_of_slider(page: Page) -> float:
    """Where the slider stands, by the ends that the page embeds."""
    data = json.loads(page.evaluate("document.getElementById('scores-data').textContent"))
    return data["low"] + (data["high"] - data["low"]) * float(page.evaluate("+threshold_slider.value")) / 1000


def test_arrow_keys_move_the_threshold_and_its_counts(made_up, page: Page) -> None:
    page.goto(write_report(made_up.run).as_uri())
    page.evaluate("window.threshold_slider = document.getElementById('threshold-slider')")
    assert_counts(page, made_up, 0.6)  # the calibrated threshold, exactly: two scores equal it
    page.evaluate("threshold_slider.focus()")
    before = page.evaluate("+threshold_slider.value")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("+threshold_slider.value") == before - 60
    moved = threshold_of_slider(page)
    assert int((made_up.good > moved).sum()) > int((made_up.good > 0.6).sum())  # the move changes what is counted
    assert_counts(page, made_up, moved)
    for _ in range(200):
        page.keyboard.press("ArrowRight")
    assert_counts(page, made_up, threshold_of_slider(page))
    line = float(page.evaluate("document.getElementById('threshold-line').getAttribute('x1')"))
    assert line == pytest.approx(56 + (before + 140) / 1000 * (704 - 56), abs=0.01)
    page.evaluate("document.getElementById('threshold-reset').click()")
    assert_counts(page, made_up, 0.6)
    page.goto(write_report(made_up.run).as_uri() + "#threshold=0.4")
    assert_counts(page, made_up, 0.4)


def test_j_and_k_go_through_the_images(made_up, page: Page) -> None:
    page.goto(write_report(made_up.run).as_uri())
    titles = page.evaluate("[...document.querySelectorAll('.case h3')].map((title) => title.textContent)")
    assert len(titles) == 20

    def press(key: str) -> str:
        page.keyboard.press(key)
        return page.evaluate("document.activeElement.querySelector('h3').textContent")

    assert [press(key) for key in "jjjk"] == [titles[0], titles[1], titles[2], titles[1]]
    assert abs(page.evaluate("document.activeElement.getBoundingClientRect().top")) < 2
    assert [press("k") for _ in range(3)][-1] == titles[0]  # the first is the end of the way
    assert [press("j") for _ in range(30)][-1] == titles[19]


def test_nothing_is_fetched_and_nothing_is_wider_than_a_phone(made_up, browser: Browser) -> None:
    with new_page(browser, width=390, height=844, is_mobile=True) as page:
        page.goto(write_report(made_up.run).as_uri())
        resources = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert [name for name in resources if not name.startswith("data:")] == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("document.querySelectorAll('[data-needs-script][hidden]').length") == 0


def test_dark_is_dark_and_light_is_light(made_up, page: Page) -> None:
    page.goto(write_report(made_up.run).as_uri())
    brightness = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for what, rule in (("paper", "backgroundColor"), ("ink", "color")):
            colour = page.evaluate(f"getComputedStyle(document.body).{rule}")
            brightness[scheme, what] = sum(int(number) for number in re.findall(r"\d+", colour)[:3]) / 3
    assert brightness["light", "paper"] > 240 and brightness["light", "ink"] < 60
    assert brightness["dark", "paper"] < 40 and brightness["dark", "ink"] > 220


def test_it_prints_to_pdf(made_up, page: Page) -> None:
    page.goto(write_report(made_up.run).as_uri())
    pdf = page.pdf(print_background=False)
    assert pdf.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 30

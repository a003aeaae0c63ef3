"""The report as a person uses it: opened in a browser, its slider moved by keys, its pictures gone through."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser

from flawmap.report.html import write_report

ARROW_LEFT, ARROW_RIGHT = 37, 39


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


def counts(scores: np.ndarray, n: int) -> str:
    return f"{n} of {len(scores)} ({100 * n / len(scores):.1f} %)"


def assert_counts(browser: Browser, made_up, threshold: float) -> None:
    """What the page says against numpy's count at the threshold."""
    n_missed, n_alarms = int((made_up.anomalous <= threshold).sum()), int((made_up.good > threshold).sum())
    assert browser.read("document.getElementById('live-missed').textContent") == counts(made_up.anomalous, n_missed)
    assert browser.read("document.getElementById('live-false-alarms').textContent") == counts(made_up.good, n_alarms)
    spoken = browser.read("document.getElementById('threshold-slider').getAttribute('aria-valuetext')")
    assert spoken.endswith(f": {n_missed} missed, {n_alarms} false alarms")


def threshold_of_slider(browser: Browser) -> float:
    """Where the slider stands, by the ends that the page embeds."""
    data = json.loads(browser.read("document.getElementById('scores-data').textContent"))
    return data["low"] + (data["high"] - data["low"]) * float(browser.read("+threshold_slider.value")) / 1000


def test_arrow_keys_move_the_threshold_and_its_counts(made_up, browser: Browser) -> None:
    browser.open(write_report(made_up.run).as_uri())
    browser.read("window.threshold_slider = document.getElementById('threshold-slider')")
    assert_counts(browser, made_up, 0.6)  # the calibrated threshold, exactly: two scores equal it
    browser.read("threshold_slider.focus()")
    before = browser.read("+threshold_slider.value")
    for _ in range(60):
        browser.press("ArrowLeft", ARROW_LEFT)
    assert browser.read("+threshold_slider.value") == before - 60
    moved = threshold_of_slider(browser)
    assert int((made_up.good > moved).sum()) > int((made_up.good > 0.6).sum())  # the move changes what is counted
    assert_counts(browser, made_up, moved)
    for _ in range(200):
        browser.press("ArrowRight", ARROW_RIGHT)
    assert_counts(browser, made_up, threshold_of_slider(browser))
    line = float(browser.read("document.getElementById('threshold-line').getAttribute('x1')"))
    assert line == pytest.approx(56 + (before + 140) / 1000 * (704 - 56), abs=0.01)
    browser.read("document.getElementById('threshold-reset').click()")
    assert_counts(browser, made_up, 0.6)
    browser.open(write_report(made_up.run).as_uri() + "#threshold=0.4")
    assert_counts(browser, made_up, 0.4)


def test_j_and_k_go_through_the_pictures(made_up, browser: Browser) -> None:
    browser.open(write_report(made_up.run).as_uri())
    titles = browser.read("[...document.querySelectorAll('.case h3')].map((one) => one.textContent)")
    assert len(titles) == 20

    def press(key: str) -> str:
        browser.press(key, ord(key.upper()), key)
        return browser.read("document.activeElement.querySelector('h3').textContent")

    assert [press(key) for key in "jjjk"] == [titles[0], titles[1], titles[2], titles[1]]
    assert abs(browser.read("document.activeElement.getBoundingClientRect().top")) < 2
    assert [press("k") for _ in range(3)][-1] == titles[0]  # the first is the end of the way
    assert [press("j") for _ in range(30)][-1] == titles[19]


def test_nothing_is_fetched_and_nothing_is_wider_than_a_phone(made_up, browser: Browser) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    browser.open(write_report(made_up.run).as_uri())
    assert browser.read("performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:'))") == []
    assert browser.read("document.documentElement.scrollWidth") == 390
    assert browser.read("document.querySelectorAll('[data-needs-script][hidden]').length") == 0


def test_dark_is_dark_and_light_is_light(made_up, browser: Browser) -> None:
    browser.open(write_report(made_up.run).as_uri())
    brightness = {}
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for what, rule in (("paper", "backgroundColor"), ("ink", "color")):
            colour = browser.read(f"getComputedStyle(document.body).{rule}")
            brightness[scheme, what] = sum(int(number) for number in re.findall(r"\d+", colour)[:3]) / 3
    assert brightness["light", "paper"] > 240 and brightness["light", "ink"] < 60
    assert brightness["dark", "paper"] < 40 and brightness["dark", "ink"] > 220


def test_it_prints_to_pdf(made_up, browser: Browser, tmp_path: Path) -> None:
    browser.open(write_report(made_up.run).as_uri())
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    assert pdf.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 30

"""The page in a real browser: a person says which camera took the images, and each is judged by its own thresholds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import FACTS, BrightnessModel, png, serving
from playwright.sync_api import Browser, Page

from browser import chromium, collect_errors, drop_files, new_page
from flawmap.detect.calibration import calibrate

GOOD = calibrate([float(n) for n in range(40, 80)], [0.0] * 40, 0.05)
LEFT = calibrate([float(n) for n in range(140, 180)], [0.0] * 40, 0.05)
OF_CAMERAS = replace(FACTS, calibration=GOOD, cameras={"left": LEFT, "screw@right": GOOD}, trained={"screw@right": 40})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def part(folder: Path, value: int) -> Path:
    path = folder / f"{value}.png"
    path.write_bytes(png(np.full((12, 20, 3), value, np.uint8)))
    return path


def wait_for_row(page: Page, name: str, verdict: str) -> None:
    page.locator("#table tr", has_text=name).locator(f".badge:text-is('{verdict}')").wait_for()


def test_images_are_judged_as_those_of_the_chosen_camera(browser: Browser, tmp_path: Path) -> None:
    errors: list[str] = []
    model = BrightnessModel(OF_CAMERAS)
    with serving(model, tmp_path / "reviews.csv") as client, new_page(browser) as page:
        collect_errors(page, errors)
        page.goto(f"http://127.0.0.1:{client.port}/")
        page.locator("#model", has_text="bright").wait_for()
        assert page.locator("#camera option").all_inner_texts() == ["not named", "left", "right"]
        assert page.locator("#product option").all_inner_texts() == ["found by likeness", "screw"]
        drop_files(page, "#drop", part(tmp_path, 150))
        wait_for_row(page, "150.png", "anomaly")
        page.select_option("#camera", "left")
        drop_files(page, "#drop", part(tmp_path, 177), part(tmp_path, 200))
        wait_for_row(page, "177.png", "ok")
        wait_for_row(page, "200.png", "anomaly")
        assert page.inner_text("#counts").startswith("2 of 3 anomalous")
        drop_files(page, "#drop", tmp_path / "150.png")  # now as of the camera that took it
        wait_for_row(page, "150.png", "ok")
        page.locator("#verdict", has_text="left · score 150").wait_for()
        page.wait_for_function("() => state.painted && panes.layers")
        assert set(model.cameras[-1:]) == {"left"}  # the map, too, is by the region of this camera
        set_to = (
            "(value) => { threshold.value = value; threshold.dispatchEvent(new Event('input', { bubbles: true })); }"
        )
        page.evaluate(set_to, GOOD.threshold - 4)  # the slider takes the thresholds of cameras with it
        wait_for_row(page, "177.png", "anomaly")
        page.reload()
        page.locator("#model", has_text="bright").wait_for()
        wait_for_row(page, "150.png", "ok")
        assert page.locator("#table tr").count() == 3 and page.input_value("#camera") == ""
    assert errors == []


def test_a_served_camera_is_the_one_that_is_chosen_and_without_any_there_is_no_choice(
    browser: Browser, tmp_path: Path
) -> None:
    left = replace(OF_CAMERAS, calibration=LEFT, camera="left", trained={})
    for facts, cameras in ((left, ["left", "right"]), (FACTS, [])):
        reviews = tmp_path / f"{len(cameras)}.csv"
        with serving(BrightnessModel(facts), reviews) as client, new_page(browser) as page:
            page.goto(f"http://127.0.0.1:{client.port}/")
            page.locator("#model", has_text="bright").wait_for()
            assert page.locator("#taken-by").is_visible() == bool(cameras) and page.locator("#showing").is_hidden()
            if cameras:
                assert page.locator("#camera option").all_inner_texts() == cameras
                assert page.input_value("#camera") == "left"

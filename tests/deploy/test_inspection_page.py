"""The inspection page in a real browser: drop images, move the slider, look, record a verdict."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from brightness_model import BrightnessModel, png, serving
from PIL import Image
from playwright.sync_api import Browser, Page

from browser import chromium, collect_errors, drop_files, new_page
from flawmap.deploy.inspection_page import FOLDER
from flawmap.deploy.reviews import read_reviews
from flawmap.drawing.colour import ColourScale, colour_table
from flawmap.drawing.overlay import overlay
from flawmap.runs.calibration import MapScale


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for file in FOLDER.iterdir():
        assert "http://" not in file.read_text() and "https://" not in file.read_text()


def test_every_control_has_a_name_for_a_screen_reader():
    markup = (FOLDER / "index.html").read_text()
    for tag in re.findall(r"<(?:input|canvas)\b[^>]*>", markup):
        name = re.search(r'id="([\w-]+)"', tag)
        assert name is not None
        labelled = f'for="{name[1]}"' in markup or "aria-label=" in tag or f"<label>Token {tag}" in markup
        assert labelled, tag


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four parts: mean value 40, 90, 110, and one of 75 with a bright block."""
    folder = tmp_path_factory.mktemp("parts")
    images = {f"part {value}.png": np.full((60, 100, 3), value, np.uint8) for value in (40, 90, 110)}
    images["spotted.png"] = np.full((60, 100, 3), 75, np.uint8)
    images["spotted.png"][10:30, 50:90] = 250
    for name, pixels in images.items():
        (folder / name).write_bytes(png(pixels))
    return [folder / name for name in images]


@pytest.fixture(scope="module")
def own_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "reviews.csv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def errors() -> list[str]:
    """Errors of the page's scripts; a test that expects some clears it."""
    return []


@pytest.fixture(scope="module")
def page(browser: Browser, errors: list[str], own_reviews: Path, parts: list[Path]) -> Iterator[Page]:
    with serving(BrightnessModel(), own_reviews) as server, new_page(browser) as opened:
        collect_errors(opened, errors)
        opened.goto(f"http://127.0.0.1:{server.port}/")
        wait_for(opened, "document.querySelector('#model').innerText.includes('bright')")
        drop_files(opened, "#drop", *parts)
        wait_for(opened, "document.querySelectorAll('#table tr').length === 4 && !counts.innerText.includes('waiting')")
        opened.evaluate("window.firstShown = document.querySelector('#name').innerText")
        show(opened, "part 110.png")
        yield opened
        assert errors == []


def wait_for(page: Page, condition: str) -> None:
    page.wait_for_function(f"() => Boolean({condition})")


def show(page: Page, name: str) -> None:
    """Choose an image in the table and wait for its views."""
    page.evaluate(f"[...document.querySelectorAll('#table button')].find((b) => b.title === '{name}').click()")
    wait_for(page, f"document.querySelector('#name').innerText === '{name}' && panes.layers?.overlay && state.painted")


def names(page: Page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('#table td button')].map((button) => button.innerText)")


def test_dropped_images_are_listed_by_score(page):
    assert names(page) == ["part 110.png", "spotted.png", "part 90.png", "part 40.png"]
    # who looks at the first result while others come in does not get another under the review keys
    assert page.evaluate("firstShown") in ("part 40.png", "part 90.png")  # two are scored at a time
    assert page.inner_text("#counts").startswith("1 of 4 anomalous")
    assert page.inner_text("#name") == "part 110.png" and page.inner_text("#verdict").startswith("anomaly score 110 ")
    assert "threshold 100 for 1.0 % false alarms, from 50 good images" in page.inner_text("#model")


def test_the_threshold_slider_recounts_at_once_and_goes_back(page):
    set_to = "(value) => { threshold.value = value; threshold.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.evaluate(f"({set_to})(85)")
    assert page.inner_text("#counts").startswith("3 of 4 anomalous")
    page.evaluate(f"({set_to})(111)")
    assert page.inner_text("#counts").startswith("0 of 4 anomalous") and page.inner_text("#verdict").startswith("ok")
    page.click("#calibrated")
    assert page.inner_text("#counts").startswith("1 of 4 anomalous") and page.inner_text("#threshold-value") == "100"


def test_j_and_k_walk_through_the_table(page):
    page.keyboard.press("j")
    wait_for(page, "document.querySelector('#name').innerText === 'spotted.png' && panes.layers")
    assert page.inner_text("#regions-title") == "1 region"
    assert "800 px at (70, 20), peak 250" in page.inner_text("#regions")
    page.keyboard.press("k")
    wait_for(page, "document.querySelector('#name').innerText === 'part 110.png' && panes.layers")
    page.keyboard.press("k")
    assert page.inner_text("#name") == "part 110.png"  # the first has none before it


def pixel(page: Page, view: str, x: int, y: int) -> list[int]:
    return page.evaluate(f"[...panes.layers.{view}.getContext('2d').getImageData({x}, {y}, 1, 1).data]")


def test_views_show_original_map_and_overlay_on_the_models_scale(page):
    page.keyboard.press("j")
    wait_for(
        page, "document.querySelector('#name').innerText === 'spotted.png' && panes.layers?.overlay && state.painted"
    )
    assert pixel(page, "original", 70, 20) == [250, 250, 250, 255]
    hot, calm = round(250 / 300 * 255), round(75 / 300 * 255)
    assert pixel(page, "map", 70, 20)[:3] == colour_table()[hot].tolist()
    assert pixel(page, "map", 5, 5)[:3] == colour_table()[calm].tolist()
    assert pixel(page, "overlay", 5, 5)[:3] == [75, 75, 75]  # a normal place stays as it is
    image, values = np.full((1, 1, 3), 250, np.uint8), np.full((1, 1), 250, np.float32)
    expected = overlay(image, values, ColourScale(0.0, 150.0, 300.0))[0, 0].astype(int)
    assert np.abs(np.array(pixel(page, "overlay", 70, 20)[:3]) - expected).max() <= 2  # as the saved overlays
    assert pixel(page, "attention", 90, 5)[0] > pixel(page, "attention", 5, 5)[0]
    page.evaluate("opacity.value = 0; opacity.dispatchEvent(new Event('input'))")
    assert pixel(page, "overlay", 70, 20)[:3] == [250, 250, 250]
    page.evaluate("opacity.value = 50; opacity.dispatchEvent(new Event('input'))")


def test_zoom_is_shared_by_all_views_and_fit_undoes_it(page):
    page.click("#tab-all")
    assert page.evaluate("document.querySelectorAll('.pane').length") == 4
    box = page.locator(".pane:last-child").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.wheel(0, -400)
    wait_for(page, "panes.zoom > 2.5")
    shown = page.evaluate("panes.panes.map(({ canvas, view }) => panes.placed(canvas, panes.layers[view]))")
    assert all(placed == shown[0] for placed in shown)
    assert page.evaluate("panes.center[0] < 0.5 && panes.center[1] < 0.5")  # towards the pointer
    page.keyboard.press("0")
    assert page.evaluate("panes.zoom") == 1 and page.inner_text("#zoom-value") == "fit"
    page.click("#regions button")
    assert page.evaluate("panes.zoom > 1 && Math.abs(panes.center[0] - 0.7) < 1e-9")
    page.click("#tab-overlay")
    page.keyboard.press("0")


def test_a_verdict_with_a_note_reaches_the_file(page, own_reviews, parts):
    page.keyboard.press("n")
    wait_for(page, "document.activeElement.id === 'note'")
    page.keyboard.insert_text("glare on the edge")
    page.keyboard.press("Enter")
    page.keyboard.press("a")
    wait_for(page, "document.querySelector('#saved').innerText.includes('as good')")
    (found,) = read_reviews(own_reviews)
    assert (found.image, found.review, found.truth, found.note) == ("spotted.png", "agree", "good", "glare on the edge")
    assert found.sha256 == hashlib.sha256(parts[3].read_bytes()).hexdigest()
    assert (found.score, found.map_peak) == (pytest.approx(75 + 175 * 800 / 6000), 250.0)
    page.click("#disagree")
    wait_for(page, "document.querySelector('#saved').innerText.includes('as a defect')")
    assert read_reviews(own_reviews)[0].truth == "defect"
    assert "1 reviewed" in page.inner_text("#counts")
    assert page.get_attribute("#disagree", "aria-pressed") == "true"


def slow_answers(page: Page) -> None:
    """Answers with maps wait until the test lets them go: ``window.release()``."""
    page.evaluate(
        "() => { const real = window.score; const gate = new Promise((go) => { window.release = go; });"
        " window.score = async (...all) => { if (all[1].withMaps) await gate; return real(...all); }; }"
    )


def test_no_verdict_is_saved_of_a_picture_that_nobody_saw(page, own_reviews):
    before = own_reviews.read_text()
    page.evaluate("for (const row of state.rows) row.details = null")
    slow_answers(page)
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.keyboard.press("d")
    assert page.inner_text("#saved") == "Look first: the image is not shown yet."
    assert page.is_disabled("#agree") and page.is_disabled("#disagree")
    assert own_reviews.read_text() == before
    page.evaluate("release()")
    wait_for(page, "state.painted === state.selected")
    assert page.is_enabled("#agree")
    page.keyboard.press("k")
    wait_for(page, "state.painted === state.selected")


def test_a_click_anywhere_in_a_row_selects_it(page):
    for column in (2, 3, 4):
        rows = page.locator("#table tr")
        rows.nth(2).locator(f"td:nth-child({column})").click()
        wait_for(page, "document.querySelector('#name').innerText === 'part 90.png' && state.painted")
        rows.nth(1).locator(f"td:nth-child({column})").click()
        wait_for(page, "document.querySelector('#name').innerText === 'spotted.png' && state.painted")


def test_a_filter_lists_some_and_the_keys_walk_through_those(page):
    page.select_option("#filter", "open")
    assert page.evaluate("[...document.querySelectorAll('#table tr:not([hidden])')].length") == 3
    assert "3 listed" in page.inner_text("#counts")
    page.fill("#search", "part 4")
    assert page.evaluate("[...document.querySelectorAll('#table tr:not([hidden]) button')].map((b) => b.title)") == [
        "part 40.png"
    ]
    page.fill("#search", "")
    page.select_option("#filter", "all")
    assert "listed" not in page.inner_text("#counts")


def test_a_reload_loses_nothing(page, own_reviews):
    listed, reviews = names(page), own_reviews.read_text()
    page.reload()
    wait_for(page, "state.rows.length === 4 && state.painted")
    assert names(page) == listed and "1 reviewed" in page.inner_text("#counts")
    show(page, "spotted.png")
    assert page.get_attribute("#disagree", "aria-pressed") == "true"
    assert page.input_value("#note") == "glare on the edge"
    assert pixel(page, "original", 70, 20) == [250, 250, 250, 255]
    assert page.evaluate("document.querySelectorAll('#table img[src^=data]').length") == 4
    assert own_reviews.read_text() == reviews


def test_a_folder_is_read_and_the_systems_own_files_are_not(page, tmp_path):
    folder = tmp_path / "monday"
    (folder / "@eaDir").mkdir(parents=True)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "part 77.png").write_bytes(png(np.full((6, 8, 3), 77, np.uint8)))
    (folder / "@eaDir" / "thumb.png").write_bytes(png(np.full((6, 8, 3), 99, np.uint8)))
    (folder / "Thumbs.db").write_bytes(b"x")
    drop_files(page, "#drop", folder)
    wait_for(page, "state.rows.some((row) => row.name === 'monday/deep/er/part 77.png')")
    wait_for(page, "!state.waiting.length && !state.active")
    assert page.evaluate("state.rows.length") == 5 and page.inner_text("#problems") == ""
    with page.expect_download() as download:
        page.click("#save-table")
    assert "monday/deep/er/part 77.png,77.0,100.0,False,0" in Path(download.value.path()).read_text("utf-8-sig")
    page.evaluate("state.rows.find((row) => row.name.includes('77')).line.remove()")  # as other tests count
    page.evaluate("state.rows.splice(state.rows.findIndex((row) => row.name.includes('77')), 1)")


def test_a_key_that_is_held_is_one_review(page, own_reviews):
    lines = len(own_reviews.read_text().splitlines())
    event = "new KeyboardEvent('keydown', { key: 'a', bubbles: true, repeat: true })"
    page.evaluate(f"document.body.dispatchEvent({event})")
    page.keyboard.press("a")
    wait_for(page, "document.querySelector('#saved').innerText.includes('as good')")
    assert len(own_reviews.read_text().splitlines()) == lines + 1


def test_a_new_image_leaves_the_focus_where_it_was(page, tmp_path):
    page.evaluate("[...document.querySelectorAll('#table button')].find((b) => b.title === 'part 40.png').focus()")
    (tmp_path / "part 75.png").write_bytes(png(np.full((60, 100, 3), 75, np.uint8)))
    page.set_input_files("#files", tmp_path / "part 75.png")
    wait_for(page, "document.querySelector('#table').innerText.includes('part 75.png')")
    assert page.evaluate("document.activeElement.title") == "part 40.png"
    assert names(page)[-2:] == ["part 75.png", "part 40.png"] and page.inner_text("#name") == "spotted.png"


def shown_gray(page: Page) -> list[int]:
    """Of a dark and a bright place of the image as it is shown."""
    return [pixel(page, "original", x, 5)[0] for x in (5, 35)]


def slide(page: Page, name: str, value: float) -> None:
    page.evaluate(f"{name}.value = {value}; {name}.dispatchEvent(new Event('input'))")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_a_window_shows_what_8_bits_hide(page, tmp_path, suffix):
    values = np.full((20, 40), 20_000, np.uint16)
    values[:, 20:] = 20_100
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    page.set_input_files("#files", tmp_path / f"deep.{suffix}")
    wait_for(page, f"document.querySelector('#table').innerText.includes('deep.{suffix}')")
    show(page, f"deep.{suffix}")
    verdict = page.inner_text("#verdict")
    assert page.is_visible("#window-level") and page.inner_text("#width-value") == "65,535"
    assert shown_gray(page) == [round(20_000 / 257), round(20_100 / 257)] == [78, 78]  # as the model sees it
    slide(page, "level", 20_053)  # the slider has 1000 steps of 65.5
    slide(page, "width", 200)
    level, width = page.evaluate("[windowLevel.image.shown.level, windowLevel.image.shown.width]")
    expected = [round(255 * min(1, max(0, (value - level) / width + 0.5))) for value in (20_000, 20_100)]
    assert np.abs(np.array(shown_gray(page)) - expected).max() <= 1 and expected[1] - expected[0] > 100
    assert page.inner_text("#verdict") == verdict
    page.click("#own-window")
    assert shown_gray(page) == [78, 78]
    show(page, "spotted.png")
    assert page.is_hidden("#window-level")


def test_a_tiff_of_8_bits_is_shown_although_browsers_do_not_know_it(page, tmp_path):
    Image.fromarray(np.full((20, 40, 3), (10, 60, 30), np.uint8)).save(tmp_path / "plain.tif")
    page.set_input_files("#files", tmp_path / "plain.tif")
    wait_for(page, "document.querySelector('#table').innerText.includes('plain.tif')")
    show(page, "plain.tif")
    assert pixel(page, "original", 5, 5) == [10, 60, 30, 255]
    assert page.is_hidden("#window-level")


def test_a_file_that_is_not_an_image_is_listed_and_costs_nothing(page, errors, tmp_path):
    (tmp_path / "notes.png").write_text("not an image")
    page.set_input_files("#files", tmp_path / "notes.png")
    wait_for(page, "document.querySelector('#problems').innerText.includes('notes.png: not an image')")
    assert len(names(page)) == 8
    assert all("Failed to load resource" in error for error in errors)  # the browser logs the refusal
    errors.clear()


def test_the_page_asks_for_a_token_where_the_server_wants_one(browser, tmp_path):
    with serving(BrightnessModel(), tmp_path / "reviews.csv", token="secret") as server, new_page(browser) as page:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_selector("#token-form", state="visible")
        wait_for(page, "document.querySelector('#model').innerText.includes('Cannot reach')")  # it moves the form
        page.fill("#token", "secret")
        page.press("#token", "Enter")
        wait_for(page, "document.querySelector('#model').innerText.includes('bright')")
        assert page.is_hidden("#token-form")


def test_clear_empties_the_page_and_the_server(browser, tmp_path, parts):
    with serving(BrightnessModel(), tmp_path / "reviews.csv") as server, new_page(browser) as page:
        page.goto(f"http://127.0.0.1:{server.port}/")
        wait_for(page, "document.querySelector('#model').innerText.includes('bright')")
        page.set_input_files("#files", parts)
        wait_for(page, "state.rows.length === 4 && !state.active")
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#clear")
        wait_for(page, "state.rows.length === 0 && counts.innerText === 'No images yet.'")
        assert server.get("/v1/session").json == {"images": []}
        page.reload()
        wait_for(page, "document.querySelector('#model').innerText.includes('bright')")
        assert page.inner_text("#counts") == "No images yet."


def test_a_new_threshold_is_shown_on_the_open_page(browser, tmp_path, parts):
    model, errors = BrightnessModel(), []
    (tmp_path / "model.onnx").write_bytes(b"old")
    source = tmp_path / "model.onnx"
    with serving(model, tmp_path / "reviews.csv", source) as server, new_page(browser) as page:
        collect_errors(page, errors)
        page.goto(f"http://127.0.0.1:{server.port}/")
        wait_for(page, "document.querySelector('#model').innerText.includes('bright')")
        page.set_input_files("#files", parts)
        wait_for(page, "state.rows.length === 4 && !state.active")
        show(page, "part 90.png")
        page.fill("#note", "half a sentence")
        assert page.inner_text("#counts").startswith("1 of 4 anomalous") and page.is_hidden("#behind")
        lower = replace(model.facts.calibration, threshold=80.0, map_scale=MapScale(0.0, 160.0))
        model.facts = replace(model.facts, camera="left", calibration=lower)
        # by itself, after a few seconds
        wait_for(page, "document.querySelector('#model').innerText.includes('threshold 80.000 of camera left')")
        wait_for(page, "state.painted && panes.layers?.map")
        assert page.inner_text("#counts").startswith("3 of 4 anomalous")
        assert page.inner_text("#threshold-value") == "80.000"
        assert page.inner_text("#verdict").startswith("anomaly score 90")
        assert page.inner_text("#scale-high").startswith("160 ")
        assert pixel(page, "map", 5, 5)[:3] == colour_table()[round(90 / 160 * 255)].tolist()  # on the new scale
        assert page.input_value("#note") == "half a sentence"

        page.evaluate("(threshold.value = 100, threshold.dispatchEvent(new Event('input', { bubbles: true })))")
        model.facts = replace(model.facts, calibration=replace(lower, threshold=70.0))
        page.evaluate("followModel()")
        assert "threshold 70.000 " in page.inner_text("#model")
        assert page.inner_text("#threshold-value") == "100"  # a slider that was moved stays
        page.click("#calibrated")
        assert page.inner_text("#threshold-value") == "70.000"

        source.write_bytes(b"a newer file")
        page.evaluate("followModel()")
        assert page.inner_text("#behind") == "another model is on disk now, and not in use yet"
    assert errors == []


def test_what_lies_outside_of_the_region_of_interest_is_dark(browser, tmp_path, parts):
    model, errors = BrightnessModel(), []
    model.left_counts = True
    with serving(model, tmp_path / "reviews.csv") as server, new_page(browser) as page:
        collect_errors(page, errors)
        page.goto(f"http://127.0.0.1:{server.port}/")
        wait_for(page, "document.querySelector('#model').innerText.includes('bright')")
        page.set_input_files("#files", [part for part in parts if part.name == "part 110.png"])
        wait_for(page, "state.rows.length === 1 && !state.active")
        show(page, "part 110.png")
        colour = colour_table()[round(110 / 300 * 255)]
        for view, shown in (("map", colour), ("overlay", np.array(pixel(page, "overlay", 49, 5)[:3]))):
            assert pixel(page, view, 49, 5)[:3] == shown.tolist()
            assert np.allclose(pixel(page, view, 50, 5)[:3], 0.4 * shown, atol=1)
        assert pixel(page, "original", 50, 5)[:3] == [110, 110, 110]
    assert errors == []

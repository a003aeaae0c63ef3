"""The studio's pages in a real browser: by mouse, by keys alone, on a phone, and for a screen reader."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import uvicorn
from made_up_results import RUN, write_made_up_results
from playwright.sync_api import Browser, Page, expect

from browser import chromium, collect_errors, drop_files, new_page
from flawmap_studio.app import create_app
from flawmap_studio.guard import Entrance
from flawmap_studio.studio import Studio
from images import striped, write_image

pytestmark = pytest.mark.slow
PAGES = ("Images", "Region", "Train", "Result", "Review", "Models")
NAMELESS = """() => {
    const kinds = "button, a[href], input, select, progress, [role=listbox], [role=application], [role=img]";
    const controls = document.querySelectorAll(kinds);
    const named = (element) => element.getAttribute("aria-label") || element.textContent.trim()
        || element.labels?.length;
    return [...controls].filter((element) => !named(element)).map((element) => element.outerHTML);
}"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a studio, with its token."""
    with Studio(folder) as studio:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as listening:
            entrance = Entrance(listening.getsockname()[1])
            server = uvicorn.Server(uvicorn.Config(create_app(studio, entrance), log_level="warning"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            while not server.started:
                time.sleep(0.01)
            yield entrance.address("127.0.0.1")
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    write_made_up_results(folder, {"test/0.png": 4.0, "test/1.png": 2.5})
    errors: list[str] = []
    with served(folder) as address, new_page(browser) as opened:
        collect_errors(opened, errors)
        opened.goto(address)
        expect(opened.locator(".cell")).to_have_count(5)
        yield opened
    assert errors == []


def go(page: Page, title: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=title).click()
    expect(page).to_have_title(f"{title} · flawmap studio")
    wait_until(page, "document.activeElement === document.querySelector('main')")  # it is shown, and has the focus


def wait_until(page: Page, expression: str) -> None:
    """The page's policy forbids what Playwright's own waiting does."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def labels(page: Page) -> dict[str, str]:
    rows = page.evaluate("fetch('/api/images').then((reply) => reply.json())")["images"]
    return {path: label for path, label, *_ in rows}


def test_the_token_leaves_the_address_and_a_page_without_it_shows_nothing(page: Page, browser: Browser):
    assert "#" not in page.url
    page.reload()
    expect(page.locator(".cell")).to_have_count(5)
    with new_page(browser) as other:
        other.goto(page.url)
        expect(other.get_by_role("alert")).to_contain_text("no valid token")
        expect(other.locator(".cell")).to_have_count(0)


def test_everything_has_a_name_and_fits_on_a_phone(page: Page):
    for title in PAGES:
        go(page, title)
        page.wait_for_timeout(300)
        assert page.evaluate(NAMELESS) == [], title
        assert page.get_by_role("main").count() == 1
    page.set_viewport_size({"width": 390, "height": 844})
    for title in PAGES:
        go(page, title)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), title


def test_images_are_dropped_chosen_and_labelled_by_keys_alone(page: Page, tmp_path: Path, folder: Path):
    new = [write_image(tmp_path / "new" / f"{number}.png", striped(40 + number)) for number in range(2)]
    page.locator("details.drop summary").click()
    drop_files(page, ".drop", *new)
    expect(page.locator(".cell")).to_have_count(7)
    assert (folder / "good" / "0-2.png").read_bytes() == new[0].read_bytes()  # good/0.png was another image
    grid = page.get_by_role("listbox", name="Images")
    grid.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_text("2 images chosen")).to_be_visible()
    page.keyboard.press("d")
    expect(page.locator(".cell b.defect")).to_have_count(2)
    page.keyboard.press("Control+a")
    page.keyboard.press("u")
    expect(page.locator("#said")).to_have_text("7 images: unsure")
    assert set(labels(page).values()) == {"unsure"}
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_training_is_refused_with_its_reason_and_shows_its_command(page: Page):
    go(page, "Train")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled()
    page.locator("summary", has_text="The same as a command").click()
    expect(page.locator("code").first).to_contain_text("--recipe standard")
    page.get_by_role("spinbutton", name="False alarms").fill("70")
    expect(page.locator(".reason")).to_contain_text("less than 0.5")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_disabled()


def test_a_region_is_drawn_by_keys_alone(page: Page):
    go(page, "Region")
    page.get_by_role("application").focus()
    for _ in range(25):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    for _ in range(50):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("of each image counts")).to_be_visible()
    drawn = page.evaluate("fetch('/api/region').then((reply) => reply.json())")["region"]
    assert drawn["image_size_px"] == [48, 48]
    (shape,) = drawn["inside"]
    assert shape["rectangle"] == pytest.approx([12, 12, 36, 36], abs=0.02)
    page.keyboard.press("z")
    expect(page.get_by_text("The whole image counts").first).to_be_visible()


def test_each_camera_has_a_region_of_its_own(page: Page):
    page.get_by_role("combobox", name="Group").select_option("good")
    camera = page.get_by_role("textbox", name="Camera of this folder")
    camera.fill("left")
    camera.press("Enter")
    expect(page.locator("#said")).to_have_text("The images in good are of camera left")
    go(page, "Region")
    page.get_by_role("combobox", name="Camera").select_option("left")
    expect(page.get_by_text("Camera left has no region of its own")).to_be_visible()
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    for _ in range(25):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("of each image of camera left counts")).to_be_visible()
    drawn = page.evaluate("fetch('/api/region?camera=left').then((reply) => reply.json())")["region"]
    assert drawn["inside"][0]["rectangle"] == pytest.approx([0.49 * 48, 24, 0.74 * 48, 36], abs=0.02)
    page.get_by_role("combobox", name="Camera").select_option("")
    expect(page.get_by_text("The whole image counts")).to_be_visible()


def test_the_slider_says_what_another_threshold_would_do(page: Page):
    go(page, "Images")
    page.get_by_role("listbox", name="Images").focus()
    page.keyboard.press("End")
    page.keyboard.press("d")  # test/1.png
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("g")  # test/0.png
    go(page, "Result")
    stats = page.locator(".outcome")
    expect(stats).to_contain_text("1 of 1good test images")
    expect(stats).to_contain_text("1 of 1defects")
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("Home")
    expect(stats).to_contain_text("0 of 1defects")
    page.keyboard.press("End")
    expect(stats).to_contain_text("0 of 1good test images")
    page.get_by_role("button", name="Back to the model's").click()
    expect(stats).to_contain_text("1 of 1good test images")


def test_reviews_begin_with_the_closest_call_and_can_be_taken_back(page: Page):
    go(page, "Review")
    heading = page.locator(".viewer h2")
    expect(heading).to_have_text("test/1.png")  # 0.5 below the threshold; the other is 1 above
    wait_until(page, "document.querySelector('.stage img').complete")
    page.keyboard.press("d")
    expect(heading).to_have_text("test/0.png")
    wait_until(page, "document.querySelector('.stage img').complete")
    page.keyboard.press("g")
    expect(page.get_by_text("2 of 2 reviewed")).to_be_visible()
    assert labels(page)["test/0.png"] == "good" and labels(page)["test/1.png"] == "defect"
    expect(page.get_by_role("button", name="Add to good images")).to_be_enabled()
    page.keyboard.press("z")
    expect(page.get_by_text("1 of 2 reviewed")).to_be_visible()
    assert labels(page)["test/0.png"] == ""
    expect(page.locator(".reason").first).to_contain_text("no image was reviewed as good")


def test_a_job_that_is_refused_says_why(page: Page):
    """The made-up model has no weights that could be exported."""
    go(page, "Models")
    expect(page.get_by_role("heading", name=RUN)).to_be_visible()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.locator("#job.failed")).to_be_visible(timeout=60_000)
    expect(page.locator("#job").get_by_role("alert")).to_contain_text("What to do:")

"""A newcomer's film: from an empty folder to an exported model, in the browser alone.

    python -m flawmap_bench.studio.film GOOD TEST_GOOD TEST_DEFECT --shots FOLDER

GOOD, TEST_GOOD and TEST_DEFECT are folders of images. Every step leaves a screenshot in FOLDER. Prints the processor
time of all jobs together.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from flawmap_bench.studio.browser import chromium, studio

IMAGES = 60  # good ones to learn from
TESTED = 12  # of each kind
REVIEWED = 6  # at least, and until one of them is good
JOB_MS = 900_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class Film:
    """The steps, in order; each leaves a screenshot."""

    def __init__(self, page: Page, shots: Path) -> None:
        self.page, self._shots, self._number = page, shots, 0

    def shoot(self, name: str) -> None:
        """Take a screenshot when the pictures are there."""
        while not self.page.evaluate("[...document.images].every(one => one.complete || one.loading === 'lazy')"):
            self.page.wait_for_timeout(50)
        self._number += 1
        self.page.screenshot(path=self._shots / f"{self._number:02d}_{name}.png")

    def go(self, title: str) -> None:
        """Open a page of the studio."""
        self.page.get_by_role("navigation").get_by_role("link", name=title).click()
        expect(self.page).to_have_title(f"{title} · flawmap studio")
        while not self.page.evaluate("document.activeElement === document.querySelector('main')"):  # it is shown
            self.page.wait_for_timeout(50)

    def drop(self, kind: str, files: list[Path]) -> None:
        """Bring images in."""
        self.page.evaluate("said.textContent = ''")
        drop = self.page.locator("details.drop")
        if drop.get_attribute("open") is None:
            drop.locator("summary").click()
        self.page.get_by_role("radio", name=re.compile(f"^{kind}")).check()
        self.page.locator("#files").set_input_files(files)
        expect(self.page.locator("#said")).to_have_text(re.compile(r"added"), timeout=60_000)

    def wait_for_job(self) -> None:
        """Until the job that runs is done."""
        expect(self.page.locator("#job.done")).to_be_visible(timeout=JOB_MS)
        self.page.locator("#job").get_by_role("button", name="Close").click()

    def bring_images(self, good: list[Path], test_good: list[Path], defects: list[Path]) -> None:
        """From an empty folder to a set of images, and what a check finds."""
        self.shoot("empty")
        self.drop("Good parts, to learn from", good)
        self.drop("Good parts, to test", test_good)
        self.drop("Defects, to test", defects[: len(defects) // 2])
        self.drop("Images to test", defects[len(defects) // 2 :])
        self.shoot("images")
        self.page.locator("summary", has_text="Check the good images").click()
        self.page.get_by_role("button", name="Check", exact=True).click()
        self.wait_for_job()
        self.shoot("checked")

    def train(self) -> None:
        """Train with the recipe quick."""
        self.go("Train")
        self.page.get_by_role("radio", name=re.compile("^Quick")).check()
        expect(self.page.get_by_role("button", name="Train", exact=True)).to_be_enabled()
        self.shoot("train")
        self.page.get_by_role("button", name="Train", exact=True).click()
        expect(self.page.locator("#job.running progress")).to_be_visible(timeout=30_000)
        self.page.wait_for_timeout(15_000)
        self.shoot("training")
        self.wait_for_job()
        expect(self.page).to_have_title("Result · flawmap studio")
        self.shoot("trained")

    def test(self) -> None:
        """Test, move the threshold, measure."""
        self.page.get_by_role("button", name="Test the images").click()
        self.wait_for_job()
        self.shoot("tested")
        slider = self.page.get_by_role("slider", name="Threshold")
        slider.focus()
        for _ in range(60):
            slider.press("ArrowLeft")
        self.shoot("threshold")
        self.page.get_by_role("button", name="Measure").click()
        self.wait_for_job()
        self.page.get_by_role("region", name="Measures").scroll_into_view_if_needed()
        self.shoot("measured")

    def draw_region(self) -> None:
        """A rectangle that leaves out the rim, and then a polygon that is taken back."""
        self.go("Region")
        box = self.page.locator(".draw svg").bounding_box()
        assert box is not None
        left, top, width, height = box["x"], box["y"], box["width"], box["height"]
        self.page.mouse.move(left + 0.03 * width, top + 0.03 * height)
        self.page.mouse.down()
        self.page.mouse.move(left + 0.97 * width, top + 0.97 * height, steps=5)
        self.page.mouse.up()
        expect(self.page.get_by_text("of each image counts")).to_be_visible()
        self.page.get_by_role("radio", name=re.compile("^Polygon")).check()
        for x, y in ((0.1, 0.1), (0.3, 0.1), (0.2, 0.3)):
            self.page.mouse.click(left + x * width, top + y * height)
        self.page.keyboard.press("c")
        self.page.mouse.move(0, 0)
        expect(self.page.get_by_text("polygon of 3 corners")).to_be_visible()
        self.page.keyboard.press("z")
        expect(self.page.get_by_text("polygon of 3 corners")).to_be_hidden()
        self.shoot("region")

    def review(self) -> None:
        """Answer the closest calls as a person would who knows the parts, and take one answer back."""
        self.go("Review")
        self.shoot("review")
        answered = self.page.locator(".queue .answered")
        number, has_good = 0, False
        while number < REVIEWED or not has_good:  # the update learns from what was called good
            has_good |= self.answer()
            number += 1
            expect(answered).to_have_count(number)
        self.page.keyboard.press("z")
        expect(answered).to_have_count(number - 1)
        self.answer()
        expect(answered).to_have_count(number)
        self.shoot("reviewed")

    def answer(self) -> bool:
        """Say what the image shows, once it is in view: the page takes no answer before. Returns whether it is good."""
        name = self.page.locator(".viewer h2").inner_text()
        while not self.page.evaluate("document.querySelector('.stage img').complete"):
            self.page.wait_for_timeout(50)
        self.page.keyboard.press("g" if "/good/" in name else "d")
        return "/good/" in name

    def update(self) -> None:
        """Learn from what was called good: first as a trial, then for good; and test again."""
        self.page.get_by_role("button", name="Try it").click()
        self.wait_for_job()
        self.shoot("update_tried")
        self.page.get_by_role("button", name="Add to good images").click()
        self.wait_for_job()
        expect(self.page.get_by_text("Learned: update-0001")).to_be_visible()
        self.shoot("updated")
        self.go("Result")
        self.page.get_by_role("button", name="Test again").click()
        self.wait_for_job()
        self.shoot("tested_again")

    def export(self) -> None:
        """Export, and download the file."""
        self.go("Models")
        self.shoot("models")
        self.page.get_by_role("button", name="Export", exact=True).click()
        self.wait_for_job()
        expect(self.page.get_by_text("Checked on")).to_be_visible()
        self.shoot("exported")
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=re.compile(r"\.onnx$")).click()
        assert download.value.path().stat().st_size > 1_000_000
        self.page.get_by_role("region", name="Compare").scroll_into_view_if_needed()
        self.shoot("compared")

    def look_elsewhere(self) -> None:
        """The pages on a phone, and in the dark."""
        self.page.emulate_media(color_scheme="dark")
        for title in ("Images", "Result", "Models"):
            self.go(title)
            self.shoot(f"dark_{title.lower()}")
        self.page.set_viewport_size({"width": 390, "height": 844})
        self.page.emulate_media(color_scheme="light")
        for title in ("Images", "Region", "Train", "Result", "Review", "Models"):
            self.go(title)
            self.shoot(f"phone_{title.lower()}")


def images_in(folder: Path, count: int) -> list[Path]:
    """So many images of a folder and below, spread evenly by name."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return found[:: max(1, len(found) // count)][:count]


def main() -> None:
    """Play the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("good", "test_good", "test_defect"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--shots", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="of the studio, which must be empty (default: a new one)")
    parser.add_argument("--port", type=int, default=8350)
    given = parser.parse_args()
    given.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        play(given, given.folder or Path(temporary))


def play(given: argparse.Namespace, folder: Path) -> None:
    """Play the film in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with studio(folder, given.port) as (_, address), chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)  # the machine may be busy
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        film = Film(page, given.shots)
        film.bring_images(
            images_in(given.good, IMAGES), images_in(given.test_good, TESTED), images_in(given.test_defect, TESTED)
        )
        film.draw_region()
        film.train()
        film.test()
        film.review()
        film.update()
        film.export()
        film.look_elsewhere()
        if errors:
            raise AssertionError(f"the page's scripts failed: {errors}")
    results = [json.loads(path.read_bytes()) for path in folder.glob(".flawmap-studio/jobs/*/result.json")]
    used = sum(result["processor_seconds"] for result in results)
    print(f"{used / 60:.1f} processor minutes in {len(results)} jobs, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

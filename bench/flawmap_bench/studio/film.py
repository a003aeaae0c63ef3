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
JOB_MS = 900_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class Film:
    """The steps, in order; each leaves a screenshot."""

    def __init__(self, page: Page, shots: Path) -> None:
        self.page, self._shots, self._number = page, shots, 0

    def shoot(self, name: str) -> None:
        """Take a screenshot when the pictures are there."""
        self.page.wait_for_function("[...document.images].every(image => image.complete)")
        self._number += 1
        self.page.screenshot(path=self._shots / f"{self._number:02d}_{name}.png")

    def go(self, title: str) -> None:
        """Open a page of the studio."""
        self.page.get_by_role("navigation").get_by_role("link", name=title).click()
        expect(self.page).to_have_title(f"{title} · flawmap studio")

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
        self.shoot("measured")


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
        page.set_default_timeout(20_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        film = Film(page, given.shots)
        film.bring_images(
            images_in(given.good, IMAGES), images_in(given.test_good, TESTED), images_in(given.test_defect, TESTED)
        )
        film.train()
        film.test()
        if errors:
            raise AssertionError(f"the page's scripts failed: {errors}")
    results = [json.loads(path.read_bytes()) for path in folder.glob(".flawmap-studio/jobs/*/result.json")]
    used = sum(result["processor_seconds"] for result in results)
    print(f"{used / 60:.1f} processor minutes in {len(results)} jobs, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

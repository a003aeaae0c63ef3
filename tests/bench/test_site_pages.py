"""The documentation as a site: links hold in the repository and in the site, and it is read without a network."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from browser import chromium, collect_errors, new_page
from flawmap_bench.site.pages import OUTSIDE, address_of, of_notebook, origin_of, with_links_of_the_site

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("docs/method.md", "method.md"),
        ("docs/results/mtd.md", "results/mtd.md"),
        ("docs/notebooks/look.ipynb", "notebooks/look.md"),
        ("README.md", "readme.md"),
        ("LICENSE", "files/LICENSE"),
        ("recipes/standard.yaml", "files/recipes/standard.yaml"),
        ("src", None),
        ("no/such/file.py", None),
    ],
)
def test_each_file_has_its_place_in_the_site(path, address):
    assert address_of(path) == address


@pytest.mark.parametrize("path", [*OUTSIDE, "docs/method.md", "docs/results/mtd.md"])
def test_a_page_is_traced_back_to_its_file(path):
    assert origin_of(address_of(path)) == path


def test_links_are_followed_from_the_file_and_written_from_the_page():
    linked = set()
    readme = "[a](docs/results/mtd.md#x) [b](LICENSE) ![c](docs/images/line.png) [d](https://e.org/f.md) [g](#h)"
    assert with_links_of_the_site(readme, "readme.md", linked) == (
        "[a](results/mtd.md#x) [b](files/LICENSE) ![c](images/line.png) [d](https://e.org/f.md) [g](#h)"
    )
    assert linked == {"docs/results/mtd.md", "LICENSE", "docs/images/line.png"}
    of_results = "[a](../../README.md#x) [b](../method.md) [c](../../nowhere.md)"
    assert with_links_of_the_site(of_results, "results/mtd.md", set()) == (
        "[a](../readme.md#x) [b](../method.md) [c](../../nowhere.md)"
    )


def test_code_is_left_as_it_is():
    text = "[a](../README.md)\n```python\nx = [f](../README.md)\n```\n  ```bash\n  [b](../README.md)\n  ```\n"
    changed = with_links_of_the_site(text, "method.md", set())
    assert changed == text.replace("[a](../README.md)", "[a](readme.md)")


def test_a_notebook_becomes_text_and_blocks():
    cells = [
        {"cell_type": "markdown", "source": ["# Look\n", "here"]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": []},
    ]
    assert of_notebook({"cells": cells}) == "# Look\nhere\n\n```python\nx = 1\n```\n"


@functools.cache
def site(folder: Path) -> Path:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin", "no_proxy": "", "https_proxy": "http://[::1]:9"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_read_without_a_network(tmp_path):
    pages = sorted(site(tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    fetched = r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]+'
    assert [(page.name, found) for page in pages for found in re.findall(fetched, page.read_text("utf-8"))] == []
    detector = (tmp_path / "site" / "reference" / "detector.html").read_text("utf-8")
    assert 'id="flawmap.AnomalyDetector.fit"' in detector and "good images only: a folder" in detector
    with chromium() as browser, new_page(browser) as page:
        errors: list[str] = []
        collect_errors(page, errors)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "site" / "index.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("coreset")
        link = page.locator(".md-search-result__link").first
        link.wait_for()
        link.click()
        page.wait_for_load_state()
        assert "coreset" in page.locator("article").inner_text().lower()
        assert errors == []
        assert not [url for url in asked if url.startswith("http")]

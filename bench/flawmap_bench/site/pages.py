"""Hooks of ``mkdocs``: documents outside docs/ become pages, notebooks too, and links between all of them hold.

The Markdown is written for GitHub, so that links are relative to their file in the repository. Each link is followed
there, and then written as the site needs it. Files that are no pages, such as examples, are copied into the site.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).parents[3]
DOCS = "docs/"
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/cpp/README.md")
LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)([^)\s#]+)(?=[)\s#])")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def address_of(path: str) -> str | None:
    """Where a file of the repository lies in the site, or None if it is not there."""
    if path in OUTSIDE:
        return path.lower()
    if path.startswith(DOCS):
        path = path.removeprefix(DOCS)
        return path.removesuffix(".ipynb") + ".md" if path.endswith(".ipynb") else path
    return f"files/{path}" if (REPO / path).is_file() else None


def origin_of(address: str) -> str:
    """The file of the repository that a page is made of."""
    outside = {address_of(path): path for path in OUTSIDE}
    notebook = f"{DOCS}{address.removesuffix('.md')}.ipynb"
    return outside.get(address) or (notebook if (REPO / notebook).is_file() else DOCS + address)


def outside_code(change: Callable[[str], str], markdown: str) -> str:
    """The text, changed except in its blocks of code."""
    between, blocks = FENCE.split(markdown), [*FENCE.findall(markdown), ""]
    return "".join(change(text) + block for text, block in zip(between, blocks, strict=True))


def with_links_of_the_site(markdown: str, address: str, linked: set[str]) -> str:
    """The text of a page with its links as the site needs them; adds the files that it links to ``linked``."""
    folder = posixpath.dirname(origin_of(address))

    def followed(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if (target := address_of(path)) is None:
            return match[0]  # mkdocs says that it leads nowhere
        linked.add(path)
        return posixpath.relpath(target, posixpath.dirname(address) or ".")

    return outside_code(lambda text: LINK.sub(followed, text), markdown)


def of_notebook(content: dict[str, Any]) -> str:
    """The cells of a notebook as Markdown."""
    texts = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        texts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(texts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/, and those of notebooks; and the files that pages link to."""
    for path in OUTSIDE:
        files.append(File.generated(config, path.lower(), content=(REPO / path).read_text(encoding="utf-8")))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = of_notebook(json.loads(file.content_string))
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=content))
    linked: set[str] = set()
    for page in files.documentation_pages():
        with_links_of_the_site(page.content_string, page.src_uri, linked)
    for path in sorted(linked):
        if (address := address_of(path)) and address.startswith("files/"):
            files.append(File.generated(config, address, abs_src_path=str(REPO / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Writes the links of a page as the site needs them."""
    return with_links_of_the_site(markdown, page.file.src_uri, set())

"""The inspection page and the page about the interface: files of this package, nothing from elsewhere."""

import html
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

FOLDER = Path(__file__).with_name("page")
FILES = {
    "/": ("index.html", "text/html"),
    "/page/inspection.js": ("inspection.js", "text/javascript"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("server", "image_table", "picture_panes", "window_level", "hands")
    },
    "/page/inspection.css": ("inspection.css", "text/css"),
}
HEADERS = {
    # pictures are blobs that the page makes of the files that were dropped on it
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def add_page(app: FastAPI, colours: list[str]) -> None:
    """Serve the page, its colours and ``/docs``."""
    for path, (name, media_type) in FILES.items():
        app.get(path, include_in_schema=False)(_file((FOLDER / name).read_bytes(), media_type))

    @app.get("/page/colours.json", include_in_schema=False)
    async def colour_table() -> JSONResponse:
        return JSONResponse(colours, headers=HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(interface_page(app.openapi()), headers=HEADERS)


def _file(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return answer


def interface_page(description: dict) -> str:
    """The OpenAPI description as a plain page: it works without network, which the usual viewers do not."""
    sections = []
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            sections.append(_section(path, method, operation))
    schemas = json.dumps(description.get("components", {}).get("schemas", {}), indent=1)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>flawmap: interface</title>'
        '<link rel="stylesheet" href="/page/inspection.css"><body class="docs"><main><h1>Interface</h1>'
        '<p>The same as a machine reads it: <a href="/openapi.json">openapi.json</a>. '
        "Example: <code>curl --data-binary @part.png -H 'content-type: image/png' "
        "http://127.0.0.1:8321/v1/detect</code></p>"
        f"{''.join(sections)}<h2>Fields</h2><pre>{html.escape(schemas)}</pre></main></body></html>"
    )


def _section(path: str, method: str, operation: dict) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(one['name'])}</code> {html.escape(str(one['schema'].get('type', '')))}</li>"
        for one in operation.get("parameters", [])
    )
    answers = "".join(
        f"<li><code>{html.escape(status)}</code> {html.escape(one['description'])}</li>"
        for status, one in operation["responses"].items()
    )
    text = html.escape(operation.get("description", ""))
    return (
        f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{text}</p>"
        f"<ul>{parameters}</ul><p>Answers</p><ul>{answers}</ul></section>"
    )

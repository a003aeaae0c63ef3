"""The inspection page and the page that describes the interface; both load files of this package only."""

import html
import json
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

FOLDER = Path(__file__).with_name("page")
MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
HEADERS = {
    # images are blobs that the page makes from the files that were dropped on it
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def add_page(app: FastAPI, colours: list[str]) -> None:
    """Serve the page, its colours and ``/docs``."""
    for file in sorted(FOLDER.iterdir()):
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        response = partial(FileResponse, file, media_type=MEDIA_TYPES[file.suffix], headers=HEADERS)
        app.add_route(path, lambda _, response=response: response(), include_in_schema=False)

    @app.get("/page/colours.json", include_in_schema=False)
    async def colour_table() -> JSONResponse:
        return JSONResponse(colours, headers=HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(interface_page(app.openapi()), headers=HEADERS)


def interface_page(description: dict) -> str:
    """The OpenAPI description as a plain page, which works without network, unlike the usual viewers."""
    sections = [
        _section(path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = json.dumps(description.get("components", {}).get("schemas", {}), indent=1)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>flawmap: interface</title>'
        '<link rel="stylesheet" href="/page/look.css"><link rel="stylesheet" href="/page/inspection.css">'
        '<body class="docs"><main><h1>Interface</h1>'
        '<p>The same for machines: <a href="/openapi.json">openapi.json</a>. '
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
        f"<li><code>{html.escape(status)}</code> {html.escape(response['description'])}</li>"
        for status, response in operation["responses"].items()
    )
    text = html.escape(operation.get("description", ""))
    return (
        f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{text}</p>"
        f"<ul>{parameters}</ul><p>Answers</p><ul>{answers}</ul></section>"
    )

"""Limits on what a client may send, applied before anything reads it."""

import asyncio
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_LATER = {"retry-after": "1"}  # seconds
MAX_REVIEW_BYTES = 16_384  # a name, numbers and a note


class UploadLimits:
    """ASGI middleware: body size (413), time to send it (408), simultaneous uploads (503 with Retry-After).

    An upload occupies a place from before its body is read until it is answered. Memory is therefore bounded by the
    number of places times the body size, whatever clients do.

    Args:
        app: the application to guard.
        upload_path: where images are sent; other paths have a small body limit and need no place.
        max_bytes: of one upload, including its multipart headers.
        places: simultaneous uploads.
        read_seconds: for the whole body.
        count: called with the status of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        upload_path: str,
        max_bytes: int,
        places: int,
        read_seconds: float,
        count: Callable[[int], None],
    ) -> None:
        self._app, self._upload_path, self._count = app, upload_path, count
        self._max_bytes, self._read_seconds = max_bytes, read_seconds
        self._free = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._counted(send)
        is_upload = scope["path"] == self._upload_path and scope["method"] == "POST"
        if is_upload and self._free == 0:
            await refusal(503, "too busy: the queue is full", **RETRY_LATER)(scope, receive, send)
            return
        self._free -= is_upload
        try:
            await self._limited(scope, receive, send, self._max_bytes if is_upload else MAX_REVIEW_BYTES)
        finally:
            self._free += is_upload

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        return counted

    async def _limited(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        too_large = f"the body is larger than {max_bytes:,} bytes"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > max_bytes:
            await refusal(413, too_large)(scope, receive, send)
            return
        body = _Body(receive, max_bytes, self._read_seconds)
        started = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if body.refusal is None or started:  # otherwise the app answers a client that only seems gone
                started = True
                await send(message)

        try:
            await self._app(scope, body.receive, send_unless_refused)
        except Exception:
            if body.refusal is None:
                raise
        if body.refusal is not None and not started:
            problem = too_large if body.refusal == 413 else "the body arrived too slowly"
            await refusal(body.refusal, problem)(scope, receive, send)


class _Body:
    """Counts what is received; when it is too much or too slow, tells the app that the client has disconnected."""

    def __init__(self, receive: Receive, max_bytes: int, read_seconds: float) -> None:
        self._receive, self._bytes_left = receive, max_bytes
        self._deadline = asyncio.get_running_loop().time() + read_seconds
        self._complete = False
        self.refusal: int | None = None

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._complete:  # the app only waits for the client to disconnect
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refusal = 408
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._bytes_left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._bytes_left < 0:
                self.refusal = 413
                return {"type": "http.disconnect"}
        return message


def refusal(status: int, problem: str, **headers: str) -> JSONResponse:
    """An answer that closes the connection, because a body may still be on its way."""
    return JSONResponse({"error": problem}, status, headers | {"connection": "close"})

"""Limits of what a client may send, in front of everything that reads it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

RETRY_AFTER_SECONDS = 1
PAGE_BODY_BYTES = 16_384  # of a review: a name, numbers and a note


class UploadLimits:
    """ASGI middleware: body size (413), time to send it (408), uploads at a time (503 with Retry-After).

    An upload takes its place before its body is read and gives it back when it is answered, so memory is bounded by
    places times body size, whatever clients do.

    Args:
        app: what it guards.
        upload_path: where images are sent; other paths have a small body limit and need no place.
        max_bytes: of one upload, with its multipart frame.
        places: uploads at a time.
        read_seconds: for the whole body.
        count: is told the status of every answer that comes through here.
    """

    def __init__(
        self,
        app: App,
        upload_path: str,
        max_bytes: int,
        places: int,
        read_seconds: float,
        count: Callable[[int], None],
    ) -> None:
        self._app, self._upload_path, self._count = app, upload_path, count
        self._max_bytes, self._read_seconds = max_bytes, read_seconds
        self._free = places

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._counted(send)
        is_upload = scope["path"] == self._upload_path and scope["method"] == "POST"
        if is_upload and self._free == 0:
            await answer(send, 503, "too busy: as many images wait as may", {"retry-after": str(RETRY_AFTER_SECONDS)})
            return
        self._free -= is_upload
        try:
            await self._limited(scope, receive, send, self._max_bytes if is_upload else PAGE_BODY_BYTES)
        finally:
            self._free += is_upload

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        return counted

    async def _limited(self, scope: Message, receive: Receive, send: Send, max_bytes: int) -> None:
        too_large = f"the body is larger than {max_bytes:,} bytes"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > max_bytes:
            await answer(send, 413, too_large)
            return
        body = _Body(receive, max_bytes, self._read_seconds)
        started = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if body.refusal is None or started:  # what the app makes of a client that seems gone is not the answer
                started = True
                await send(message)

        try:
            await self._app(scope, body.receive, send_unless_refused)
        except Exception:
            if body.refusal is None:
                raise
        if body.refusal is not None and not started:
            await answer(send, body.refusal, too_large if body.refusal == 413 else "the body came too slowly")


class _Body:
    """Counts what is received. When it is too much or too slow, the app is told that the client has gone."""

    def __init__(self, receive: Receive, max_bytes: int, read_seconds: float) -> None:
        self._receive, self._left = receive, max_bytes
        self._until = asyncio.get_running_loop().time() + read_seconds
        self._complete = False
        self.refusal: int | None = None

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self._complete:  # the app only waits for the client to go
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refusal = 408
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left < 0:
                self.refusal = 413
                return {"type": "http.disconnect"}
        return message


async def answer(send: Send, status: int, problem: str, headers: dict[str, str] | None = None) -> None:
    """A whole JSON answer without the app's help; the connection is closed, because a body may still be on its way."""
    content = json.dumps({"error": problem}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in (fields | (headers or {})).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})

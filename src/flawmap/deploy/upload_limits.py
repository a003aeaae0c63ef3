"""Limits on what a client may send, applied before anything reads it."""

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_LATER = {"retry-after": "1"}  # seconds
CLOSE = {"connection": "close"}  # after a refusal, because a body may still be on its way
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
            busy = JSONResponse({"error": "too busy: the queue is full"}, 503, RETRY_LATER | CLOSE)
            await busy(scope, receive, send)
            return
        self._free -= is_upload
        try:
            max_bytes = self._max_bytes if is_upload else MAX_REVIEW_BYTES
            await self._app(scope, self._limited(receive, scope, max_bytes), send)
        finally:
            self._free += is_upload

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        return counted

    def _limited(self, receive: Receive, scope: Scope, max_bytes: int) -> Receive:
        """Receive a body; the application gets an HTTPException where it is too large or arrives too slowly."""
        too_large = HTTPException(413, f"the body is larger than {max_bytes:,} bytes", CLOSE)
        announced = int(dict(scope["headers"]).get(b"content-length", 0))
        deadline = asyncio.get_running_loop().time() + self._read_seconds
        received, is_complete = 0, False

        async def limited() -> Message:
            nonlocal received, is_complete
            if is_complete:  # the application only waits for the client to disconnect
                return await receive()
            if announced > max_bytes:
                raise too_large
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body arrived too slowly", CLOSE) from None
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > max_bytes:
                raise too_large
            return message

        return limited

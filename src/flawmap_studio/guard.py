"""Who may ask the studio for anything: the person who started it, in pages that it served itself.

Pages of other sites run in the same browser, and can send requests to this machine. Four things keep them out, each
enough on its own for most attacks: the Host header must name this server (a foreign name that was pointed at 127.0.0.1
does not), requests that change something must carry our own Origin, a random token that only the terminal shows must
have been exchanged for a cookie, and that cookie is not sent along with requests that other sites cause.
"""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READS = ("GET", "HEAD")
ENTER = "/enter"
MAX_TOKEN_BYTES = 200
NAMES = ("127.0.0.1", "localhost")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Entrance:
    """The token of one start of the studio, and the cookie that it is exchanged for."""

    def __init__(self, port: int) -> None:
        self._port, self._token, self._cookie = port, secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._cookie_name = f"flawmap-studio-{port}"  # cookies do not tell ports apart

    def address(self, host: str) -> str:
        """Where the person enters. The token follows a #, which browsers send to nobody and write into no log."""
        return f"http://{host}:{self._port}/#{self._token}"

    def hosts(self) -> set[str]:
        """What the Host header may be."""
        return {f"{name}:{self._port}" for name in NAMES} | (set(NAMES) if self._port == 80 else set())

    def admits(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(token.encode(), self._token.encode())

    def has_cookie(self, headers: Headers) -> bool:
        """Whether the request carries the cookie."""
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self._cookie_name)
        return found is not None and hmac.compare_digest(found.value.encode(), self._cookie.encode())

    def set_cookie(self, response: Response) -> None:
        """Let the browser send the cookie from now on, with requests of our own pages only."""
        response.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="strict", path="/")


class Guard:
    """ASGI middleware: what does not come from our own page does nothing.

    The page's own files, which hold no data, are served without the cookie, because a page must run to exchange the
    token.

    Args:
        app: the application to guard.
        entrance: the token and the cookie.
        open_paths: paths of the page's own files.
    """

    def __init__(self, app: ASGIApp, entrance: Entrance, open_paths: frozenset[str]) -> None:
        self._app, self._entrance, self._open_paths = app, entrance, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no WebSocket is spoken here
        send = _with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["path"] == ENTER:
            await (await self._entered(scope, receive))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        host = headers.get("host", "")
        if host not in self._entrance.hosts():
            return _problem(400, "this server has another name", "open the address that the terminal shows")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and path != "/":
            return _problem(403, "another web site asked for this", "open the address that the terminal shows")
        if method not in READS and headers.get("origin") != f"http://{host}":
            return _problem(403, "another web site asked for this", "open the address that the terminal shows")
        is_open = path in self._open_paths and method in READS
        if is_open or (path == ENTER and method == "POST") or self._entrance.has_cookie(headers):
            return None
        return _problem(401, "this page has no valid token", "open the address that the terminal shows")

    async def _entered(self, scope: Scope, receive: Receive) -> Response:
        body = b""
        while len(body) <= MAX_TOKEN_BYTES:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        if not self._entrance.admits(body.decode("utf-8", "replace")):
            return _problem(401, "the token is wrong", "open the address that the terminal shows")
        response = Response(status_code=204)
        self._entrance.set_cookie(response)
        return response


def _problem(status: int, problem: str, remedy: str) -> Response:
    return JSONResponse({"problem": problem, "place": "", "remedy": remedy}, status)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sent

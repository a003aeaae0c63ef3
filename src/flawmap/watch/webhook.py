"""Messages by HTTP POST, signed as https://www.standardwebhooks.com describes, so that its libraries verify them."""

import base64
import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import flawmap
from flawmap.errors import UserError
from flawmap.watch.delivery import BATCH, Failed, Outcome, Refused
from flawmap.watch.journal import Outgoing

TIMEOUT_S = 10.0
SECRET_VARIABLE, AUTHORIZATION_VARIABLE = "FLAWMAP_WEBHOOK_SECRET", "FLAWMAP_WEBHOOK_AUTHORIZATION"
ABOUT_THE_MESSAGE = {400, 413, 415, 422}  # sending the same again gives the same; others may be put right over there


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected becomes a GET without the message."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Webhook:
    """A web address that takes messages.

    Args:
        url: http or https; may hold a token, so that only its host is ever shown.
        secret: of the signature; ``whsec_`` and base64, or any text. Empty: no signature.
        authorization: of the header of that name; empty for none.
        timeout_s: of a request.
        clock: seconds since 1970.

    Raises:
        UserError: the address or the secret cannot be used.
    """

    key = "webhook"

    def __init__(
        self,
        url: str,
        secret: str = "",
        authorization: str = "",
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UserError(f"this is no web address: {error}", "--webhook", "--webhook https://HOST/PATH") from error
        if parts.scheme not in ("http", "https") or not host:
            raise UserError("the address must begin with http:// or https://", "--webhook", "http://HOST/PATH")
        if parts.username or parts.password:
            problem = "a password does not belong on a command line"
            raise UserError(problem, "--webhook", f"put `Basic ...` or `Bearer ...` into {AUTHORIZATION_VARIABLE}")
        self.name = f"webhook {parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
        self._url, self._authorization, self._timeout_s, self._clock = url, authorization, timeout_s, clock
        self._signing_key = signing_key(secret)
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._pool = ThreadPoolExecutor(BATCH, thread_name_prefix="webhook")

    def deliver(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        """Post them at the same time, so that a slow receiver does not delay the next by all of them."""
        return list(self._pool.map(self._post, messages))

    def tend(self) -> None:
        """There is no connection to keep."""

    def close(self) -> None:
        """End the threads; requests on their way end by their timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _post(self, message: Outgoing) -> Outcome:
        body = message.body.encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"flawmap/{flawmap.__version__}"}
        timestamp = int(self._clock())
        headers |= {"webhook-id": message.id, "webhook-timestamp": str(timestamp)}
        if self._signing_key:
            headers["webhook-signature"] = signature(self._signing_key, message.id, timestamp, body)
        if self._authorization:
            headers["Authorization"] = self._authorization
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"answered {error.code} {error.reason}"
            return Refused(reason) if error.code in ABOUT_THE_MESSAGE else Failed(reason)
        except TimeoutError:
            return Failed(f"no answer within {self._timeout_s:g} s")
        except urllib.error.URLError as error:
            return Failed(f"cannot be reached: {error.reason}")
        except (OSError, http.client.HTTPException) as error:
            return Failed(f"the connection broke: {error or type(error).__name__}")


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: decoded from base64 after ``whsec_``, else the text itself.

    Raises:
        UserError: what follows ``whsec_`` is not base64.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        problem = "the secret begins with whsec_ and is not base64 after it"
        raise UserError(problem, SECRET_VARIABLE, "copy it again, or make one: openssl rand -hex 32") from error


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over id, timestamp in seconds and body, joined by points."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

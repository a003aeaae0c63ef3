"""Addresses such as ``s3://bucket/line3``: which texts are one, and the file system behind it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from flawmap.errors import UserError
from flawmap.extras import missing, needs

PACKAGE_OF = {  # that brings a scheme to fsspec; those without one come with fsspec itself
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "file": "",
    "memory": "",
}
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_SECRETS = re.compile(r"(?<=://)[^/\s@]*@|[?][^=\s?/]*=\S*")  # a question mark alone is a pattern
CREDENTIALS = "leave it out; the libraries of the store find credentials by themselves, as docs/cluster.md says"


def is_address(text: object) -> bool:
    """Whether a text is an address, and not the path of a local file."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def scheme_of(address: str) -> str:
    """``s3`` of ``s3://bucket/line3``.

    Raises:
        UserError: a scheme that is not known.
    """
    match = _ADDRESS.match(address)
    scheme = match[1].lower() if match else ""
    if scheme not in PACKAGE_OF:
        remedy = f"a local path, or an address that begins with {', '.join(f'{one}://' for one in PACKAGE_OF)}"
        raise UserError(f"there is no storage {scheme}://", without_secrets(address), remedy)
    return scheme


def without_secrets(text: str) -> str:
    """The text without what stands before an ``@`` in an address, or in a query behind it."""
    return _SECRETS.sub("", text)


def refuse_secrets(words: Sequence[str]) -> None:
    """Commands are recorded, so none may hold a credential.

    Raises:
        UserError: one of the words is an address of a store with a user, a password or a query in it.
    """
    for word in words:
        for part in re.findall(rf"\b(?:{'|'.join(PACKAGE_OF)})://\S*", word, re.IGNORECASE):
            if (clean := without_secrets(part)) != part:
                raise UserError("an address holds no user, password or query", clean, CREDENTIALS)


def opened(address: str) -> tuple[Any, str]:
    """The file system of an address, one of fsspec, and the path in it, without a slash at its end.

    Raises:
        UserError: as :func:`scheme_of` and :func:`refuse_secrets`; or a package is missing.
    """
    refuse_secrets([address])
    scheme = scheme_of(address)
    path = address.partition("://")[2].rstrip("/")
    if not path.strip("/"):
        raise UserError("an address names at least a bucket", address, f"for example {scheme}://bucket/folder")
    return _file_system(scheme), path


@cache
def _file_system(scheme: str) -> Any:
    """One for all threads, which share its connections."""
    with needs("fsspec", f"{scheme}://"):
        import fsspec
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:  # fsspec names the package in words only
        raise missing(PACKAGE_OF[scheme], f"{scheme}://") from error


@contextmanager
def explained(what: str, address: str, remedy: str = "") -> Iterator[None]:
    """Whatever a store raises, as the user's error; its own words may hold a signed address, and lose it here."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{what}: there is nothing", address, remedy or "check the address") from None
    except Exception as error:  # each library has its own types
        first = (without_secrets(str(error)).splitlines() or [""])[0][:200]
        reason = f"{type(error).__name__}: {first}".removesuffix(": ")
        raise UserError(
            f"{what} ({reason})", address, remedy or "check the address, your credentials and the network"
        ) from None

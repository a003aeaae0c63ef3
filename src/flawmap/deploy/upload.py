"""An image file in a request: the body itself, or the one file of a form."""

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

MAX_NAME_LENGTH = 255  # characters of a file's name that the session keeps
RAW_TYPES = (
    *("application/octet-stream", "image/png", "image/jpeg", "image/bmp", "image/x-ms-bmp", "image/tiff", "image/webp"),
    *("image/x-portable-graymap", "image/x-portable-pixmap", "image/x-portable-anymap", "application/dicom"),
)

UPLOAD_CONTENT = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"image": {"type": "string", "format": "binary"}},
            "required": ["image"],
        }
    },
}


@dataclass(frozen=True)
class Upload:
    """An image file that a client sent, and the name that a form gave it."""

    data: bytes
    name: str


async def uploaded(request: Request) -> Upload:
    """The file that a client sent.

    Raises:
        HTTPException: the body is neither an image nor a form with one.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in RAW_TYPES:
        return Upload(await request.body(), "")
    if content_type != "multipart/form-data":
        raise HTTPException(415, f"send {', '.join(RAW_TYPES[:4])}, or a form with one file")
    async with request.form(max_files=1, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(422, "the form has no file")
        if files[0].content_type and files[0].content_type.lower() not in RAW_TYPES:
            raise HTTPException(415, f"the form's file has none of the types {', '.join(RAW_TYPES)}")
        return Upload(await files[0].read(), _unescaped(files[0].filename or "")[:MAX_NAME_LENGTH])


def _unescaped(name: str) -> str:
    """A file's name as it was before a form, which has no other way to write these three characters."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")

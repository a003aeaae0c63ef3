"""JSON of other tools, read into typed structures: what is not declared is skipped, what does not fit is an error."""

import codecs
from pathlib import Path
from typing import TypeVar

import msgspec

from flawmap.errors import UserError

T = TypeVar("T")
MAX_BYTES = 1_000_000_000  # the largest file of COCO itself has 470 MB
EXPORT_AGAIN = "export it again from the tool that wrote it"


def read_content(path: Path, kind: type[T], what: str) -> T:
    """The content of a JSON file in UTF-8, or in UTF-16 with a byte order mark.

    Args:
        path: of the file.
        kind: its structure; further keys are ignored.
        what: it is, for errors.

    Raises:
        UserError: the file cannot be read, is too large, is not JSON (which has no NaN), or has another structure.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            problem = f"the {what} have {size:,} bytes, more than {MAX_BYTES:,}"
            raise UserError(problem, str(path), "split the file, for example into one for each folder of images")
        data: bytes | str = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            data = data.decode("utf-16")
        else:
            data = data.removeprefix(codecs.BOM_UTF8)
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise UserError(f"the {what} are nested too deeply", str(path), EXPORT_AGAIN) from error
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the {what} cannot be read: {reason}", str(path), EXPORT_AGAIN) from error

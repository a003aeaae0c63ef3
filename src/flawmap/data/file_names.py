"""File names that results and manifests can hold."""

from collections.abc import Iterable

from flawmap.errors import UserError


def refuse_unwritable_names(names: Iterable[str]) -> None:
    """Refuse file names that no text file can hold.

    Raises:
        UserError: a name that is not UTF-8; manifests and results could not be written.
    """
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = name.encode("utf-8", "backslashreplace").decode("utf-8")
            raise UserError("a file name is not UTF-8", shown, "rename it; flawmap writes names into UTF-8") from error

"""Model folders on the Hugging Face hub. Nothing is downloaded unless a name begins with ``hub:``."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flawmap.errors import UserError

PREFIX = "hub:"
ANSWER_SECONDS = 5.0  # in which the hub must answer at all
_REPOSITORY = r"[\w.-]+/[\w.-]+"


def is_hub_id(path: str | Path) -> bool:
    """Whether this names a repository on the hub: ``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION``."""
    return str(path).startswith(PREFIX)


def download(hub_id: str, files: tuple[str, ...]) -> Path:
    """Download a model into the hub's cache.

    Args:
        hub_id: ``hub:OWNER/NAME``, with ``@REVISION`` for a branch, tag or commit.
        files: names of the files to download; none of them is executed.

    Returns:
        the folder of the model.

    Raises:
        UserError: no such repository, no network, or no access.
    """
    name = hub_id.removeprefix(PREFIX)
    if not re.fullmatch(rf"{_REPOSITORY}(@[\w./-]+)?", name):
        raise UserError(f"{hub_id} is not the name of a repository", "", "hub:OWNER/NAME, or hub:OWNER/NAME@REVISION")
    repository, _, revision = name.partition("@")
    import huggingface_hub

    with _explained("the model cannot be downloaded", hub_id, "check the name and the network, or give a folder"):
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(files))
        )


def upload(folder: Path, repository: str, private: bool, files: tuple[str, ...]) -> str:
    """Upload a model folder, with the token that ``hf auth login`` has stored.

    Args:
        folder: of the model.
        repository: ``OWNER/NAME``; created if it does not exist.
        private: whether a repository that is created now is hidden from others.
        files: names of the files to upload; nothing else is.

    Returns:
        the address of the commit.

    Raises:
        UserError: as :func:`download`.
    """
    if not re.fullmatch(_REPOSITORY, repository):
        raise UserError(f"{repository} is not the name of a repository", "", "OWNER/NAME")
    import huggingface_hub

    with _explained("the model cannot be uploaded", repository, "hf auth login; check the network"):
        api = huggingface_hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(files)))


def cached_file(repository: str, names: tuple[str, ...]) -> str | None:
    """The first of these files of a repository that an earlier download has left in the cache; None without any."""
    import huggingface_hub

    found = (huggingface_hub.try_to_load_from_cache(repository, name) for name in names)
    return next((path for path in found if isinstance(path, str)), None)


def why_unreachable() -> str | None:
    """Why the hub does not answer, None where it does: asked once, because the hub's client retries for a minute.

    ``HF_HUB_OFFLINE=1`` counts as no answer, and then nothing is asked.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except Exception as error:  # the client's own types, which depend on its version
        return f"{constants.ENDPOINT} does not answer: {_first_line(error)}"
    return None


@contextmanager
def _explained(problem: str, place: str, remedy: str) -> Iterator[None]:
    """Whatever the hub's client raises, as the user's error."""
    try:
        yield
    except Exception as error:  # no network, no such repository, no token
        raise UserError(f"{problem} ({_first_line(error)})", place, remedy) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

"""Model folders on the Hugging Face hub. Nothing is fetched unless a name begins with ``hub:``."""

import re
from pathlib import Path

from flawmap.errors import UserError

PREFIX = "hub:"
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_id(path: str | Path) -> bool:
    """Whether this names a repository of the hub: ``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION``."""
    return str(path).startswith(PREFIX)


def download(hub_id: str, files: tuple[str, ...]) -> Path:
    """The folder of a model of the hub, in its cache; only ``files`` are fetched, and none of them is executed.

    Args:
        hub_id: ``hub:OWNER/NAME``, with ``@REVISION`` for a branch, tag or commit.
        files: their names.

    Raises:
        UserError: no such name, no network, or no access.
    """
    name = hub_id.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise UserError(f"{hub_id} names no repository", "", "hub:OWNER/NAME, or hub:OWNER/NAME@REVISION")
    repository, _, revision = name.partition("@")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(files))
        )
    except Exception as error:  # whatever the hub's client raises: no network, no such repository, no token
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the model cannot be fetched ({reason})", hub_id, "check the name and the network, or give a folder"
        ) from error


def upload(folder: Path, repository: str, private: bool, files: tuple[str, ...]) -> str:
    """Put a model folder onto the hub, with the token that ``hf auth login`` has stored.

    Args:
        folder: of the model.
        repository: ``OWNER/NAME``; made if it is not there.
        private: whether others cannot see a repository that is made now.
        files: the names that are sent; nothing else is.

    Returns:
        the address of the commit.

    Raises:
        UserError: as :func:`download`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"{repository} names no repository", "", "OWNER/NAME")
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=list(files)))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the model cannot be sent ({reason})", repository, "hf auth login; check the network"
        ) from error

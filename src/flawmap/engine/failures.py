"""Turns what can go wrong in a stage, and is for the user to fix, into the user's terms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch.multiprocessing.spawn import ProcessRaisedException

from flawmap.errors import UserError
from flawmap.recipe.fields import settings_and_groups

# CUDA, the processor's allocator on Linux and on Windows; MPS says the first, too
OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemoryError|can't allocate memory|not enough memory", re.IGNORECASE)
# the end of the traceback that a spawned process leaves: UserError's own text
FROM_A_PROCESS = re.compile(
    r"flawmap\.errors\.UserError: (?P<problem>.*?)(?:\n  at: (?P<place>[^\n]*))?(?:\nremedy: (?P<remedy>.*?))?\s*\Z",
    re.DOTALL,
)


def user_error(
    error: BaseException, stage: str, batch_size: int, image_size_px: int, devices: int = 1
) -> UserError | None:
    """The user's error behind ``error``, or None where there is none.

    Args:
        error: what the stage raised. With several devices it is the text that a spawned process left.
        stage: its name, see :class:`flawmap.engine.stage.Stage`.
        batch_size: of all devices together.
        image_size_px: side of the images.
        devices: the batch size that is advised is a multiple of it.
    """
    text = str(error)
    if isinstance(error, ProcessRaisedException) and (raised := FROM_A_PROCESS.search(text)):
        return UserError(*(raised[part] or "" for part in ("problem", "place", "remedy")))
    is_about_memory = isinstance(error, RuntimeError | ProcessRaisedException) and OUT_OF_MEMORY.search(text)
    if not (is_about_memory or isinstance(error, MemoryError)):
        return None
    own_size = f"{stage}.image_size_px"
    smaller = f"--set {own_size if own_size in settings_and_groups() else 'data.image_size_px'}=SMALLER"
    half = batch_size // 2 // devices * devices
    setting = settings_and_groups().get(f"{stage}.batch_size")  # the memory's batches are not the recipe's to set
    smallest = setting.limits[0] if setting is not None and setting.limits is not None else None
    fewer = f"--set {stage}.batch_size={half}, or " if smallest is not None and half >= smallest else ""
    return UserError(
        f"out of memory with batches of {batch_size} images of {image_size_px} px", f"stage {stage}", fewer + smaller
    )


@contextmanager
def explain_failures(stage: str, batch_size: int, image_size_px: int, devices: int = 1) -> Iterator[None]:
    """Raises: UserError: what :func:`user_error` makes of an error; any other error passes through."""
    try:
        yield
    except Exception as error:
        explained = user_error(error, stage, batch_size, image_size_px, devices)
        if explained is None:
            raise
        raise explained from error

"""What can go wrong while a stage trains and is for the user to put right, in the user's words."""

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


def explained(
    error: BaseException, stage: str, batch_size: int, image_size_px: int, devices: int = 1
) -> UserError | None:
    """The user's error behind ``error``, or None where it is not one.

    Args:
        error: what training raised. With several devices it is what a spawned process left, as text.
        stage: its name, see :class:`flawmap.engine.stage.Stage`.
        batch_size: of all devices together.
        image_size_px: side of the images.
        devices: the batch size that is advised is a multiple of it.
    """
    text = str(error)
    if isinstance(error, ProcessRaisedException) and (found := FROM_A_PROCESS.search(text)):
        return UserError(*(found[part] or "" for part in ("problem", "place", "remedy")))
    is_of_memory = isinstance(error, RuntimeError | ProcessRaisedException) and OUT_OF_MEMORY.search(text)
    if not (is_of_memory or isinstance(error, MemoryError)):
        return None
    smaller = f"--set {'finetune' if stage == 'finetune' else 'data'}.image_size_px=SMALLER"
    half = batch_size // 2 // devices * devices
    setting = settings_and_groups().get(f"{stage}.batch_size")  # the memory's batches are not the recipe's to set
    smallest = setting.limits[0] if setting is not None and setting.limits is not None else None
    fewer = f"--set {stage}.batch_size={half}, or " if smallest is not None and half >= smallest else ""
    return UserError(
        f"out of memory with batches of {batch_size} images of {image_size_px} px", f"stage {stage}", fewer + smaller
    )


@contextmanager
def in_users_words(stage: str, batch_size: int, image_size_px: int, devices: int = 1) -> Iterator[None]:
    """Raises: UserError: what :func:`explained` makes of an error; any other passes as it is."""
    try:
        yield
    except Exception as error:
        mistake = explained(error, stage, batch_size, image_size_px, devices)
        if mistake is None:
            raise
        raise mistake from error

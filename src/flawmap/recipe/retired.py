"""Settings of earlier versions that are gone, and what those versions did where there was no setting yet."""

from dataclasses import dataclass

from flawmap.errors import UserError


@dataclass(frozen=True)
class Retired:
    """A setting that is gone.

    Attributes:
        default: its value in the recipes that came with flawmap.
        remedy: what to do instead.
    """

    default: object
    remedy: str


RETIRED = {
    "memory.scale_tokens": Retired(20_000, "remove it: the scale now comes from all reference images"),
    "memory.min_map_scale_images": Retired(8, "remove it: scales now come from good images of all folds"),
    "residual.batch_size": Retired(8, "remove it: residual.simulated_images sets how many defects are simulated"),
}


# What a model does whose recipe does not name these settings, because an earlier flawmap trained it.
BEFORE_THE_SETTING = {"expectation.appearance": "cls"}


def refuse_retired(key: str, value: object, place: str) -> None:
    """Refuse a setting that is gone, unless it has its old default.

    A recipe that flawmap wrote names all settings, so that their defaults say nothing about what its author wants.

    Raises:
        UserError: it has another value.
    """
    if value != RETIRED[key].default:
        raise UserError(f"{key} is no longer a setting", place, RETIRED[key].remedy)

"""Good images that the user does not want to be learned from: a list of their names, and the data without them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from flawmap.data.checks import MIN_IMAGES_WITHOUT_THRESHOLD, CheckedData, FileFacts, refuse_few
from flawmap.data.layouts.tables import read_table
from flawmap.data.sample import LeftOut
from flawmap.errors import UserError

COLUMN = "image"  # of the list


@dataclass(frozen=True)
class LeaveOut:
    """Names of good images that are not learned from, and where they were given, for errors."""

    names: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Omitted:
    """Facts of the images that were left out because the user named them."""

    facts: tuple[FileFacts, ...] = ()

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The same, beside what else was left out."""
        return tuple(LeftOut(fact.path, "it is in the list of --leave-out", "image of the list") for fact in self.facts)


def read_leave_out(path: Path) -> LeaveOut:
    """Read a list of images: a CSV file with a column ``image``, such as unusual/images.csv of a run or a part of it.

    Raises:
        UserError: the file cannot be read, has no such column, or names no image.
    """
    remedy = f"give a CSV file with a column {COLUMN}, such as unusual/images.csv of a run"
    _, rows = read_table(path, "list of images to leave out", [COLUMN], remedy)
    names = tuple(dict.fromkeys(row[COLUMN] for _, row in rows if row[COLUMN]))
    if not names:
        raise UserError("the list of images to leave out names none", str(path), "train without --leave-out")
    return LeaveOut(names, str(path))


def without_named(
    checked: CheckedData, leave_out: LeaveOut, no_threshold: str | None, fewest: int = MIN_IMAGES_WITHOUT_THRESHOLD
) -> tuple[CheckedData, Omitted]:
    """The data without the named images, and what is known of these.

    Args:
        checked: good images.
        leave_out: names of some. The name of an image that repeats another one stands for both.
        no_threshold, fewest: see :func:`flawmap.data.checks.check_training_data`.

    Raises:
        UserError: a name is not that of a good image of this data, or too few images are left.
    """
    data, root = checked.data, str(checked.data.root)
    known = {image.key for image in data.images} | set(data.unused)
    _refuse_unknown(leave_out, sorted(known), root)
    named = {checked.duplicates.get(name, name) for name in leave_out.names}
    omitted = tuple(fact for fact in checked.facts if fact.key in named)
    facts = tuple(fact for fact in checked.facts if fact.key not in named)
    images = tuple(image for image in data.images if image.key not in named)
    refuse_few(facts, no_threshold, data, fewest)
    unused = data.unused + tuple(fact.key for fact in omitted)
    return CheckedData(replace(data, images=images, unused=unused), facts, checked.duplicates), Omitted(omitted)


def _refuse_unknown(leave_out: LeaveOut, known: Sequence[str], root: str) -> None:
    unknown = [name for name in leave_out.names if name not in set(known)]
    if not unknown:
        return
    near = get_close_matches(unknown[0], known, n=1, cutoff=0.6)
    more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    hint = f"; is {near[0]} meant?" if near else ""
    problem = f"{unknown[0]} is no good image of {root}{more}{hint}"
    remedy = "take the names from unusual/images.csv of a run that was trained on the same data"
    raise UserError(problem, leave_out.place, remedy)

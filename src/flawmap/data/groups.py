"""What must not be split: the images of one patient, part, board or lot.

Images of a group resemble each other more than those of others. A detector that has seen one of them scores the rest
too low, so a group is never on both sides: not in training and among the held-out images, and not in training and test.
An image without a group is a group of its own. A group says nothing about defects, so training may know it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TypeVar

from flawmap.data.sample import KnownDefect, LabelledImage, NormalImage
from flawmap.errors import UserError

GROUP_COLUMNS = ("group", "patient", "part", "board", "lot")  # of a manifest: names of the same thing
MIN_GROUPS = 5  # with fewer, the held-out images would be those of one group, and say little about others
SETTING = "data.group_by"
FOLDER, IMAGE = "folder", "image"  # what the setting may be, besides a pattern
Image = NormalImage | LabelledImage | KnownDefect
Identity = tuple[str, str]  # kind and name
ImageT = TypeVar("ImageT", NormalImage, LabelledImage, KnownDefect)


def group_name(text: str | None) -> str | None:
    """A group as files name it: without spaces around it, accents composed; None where nothing is left."""
    return unicodedata.normalize("NFC", (text or "").strip()) or None


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of groups that differ in upper and lower case or in leading zeros alone, which tables like to drop."""
    first: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(filter(None, map(group_name, names))):
        other = first.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold()), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def group_column(columns: Sequence[str], place: str) -> str | None:
    """The column of a manifest that names groups; None if it has none.

    Raises:
        UserError: several columns could be meant.
    """
    found = [name for name in GROUP_COLUMNS if name in columns]
    if len(found) > 1:
        problem = f"the columns {' and '.join(found)} each say which images belong together"
        raise UserError(problem, place, f"keep one of them, and give the other a name that is not {_listed()}")
    return found[0] if found else None


def grouped(images: Sequence[ImageT], group_by: str | None) -> tuple[ImageT, ...]:
    """The images with the groups that ``data.group_by`` says; None keeps those that the data names."""
    if group_by is None:
        return tuple(images)
    return tuple(replace(image, group=group_in(image.key, group_by)) for image in images)


def grouped_as_trained(images: Sequence[ImageT], group_by: str | None) -> tuple[ImageT, ...]:
    """The groups of images that a trained model is given: what their own data names counts.

    Args:
        images: of one list or folder.
        group_by: ``data.group_by`` of the training, for data that names no groups.
    """
    named = any(image.group is not None for image in images)
    return tuple(images) if named else grouped(images, group_by)


def refuse_unmatched(images: Sequence[Image], group_by: str | None, place: str) -> None:
    """Raises: UserError: ``group_by`` is a pattern that fits no image."""
    if images and group_by not in (None, FOLDER, IMAGE) and all(image.group is None for image in images):
        problem = f"no image matches {SETTING}={group_by}, for example not {images[0].key}"
        remedy = (
            f"{{group}} stands for the group and * for any text, so --set '{SETTING}={{group}}_*' reads P12 from "
            f"P12_3.png; or --set {SETTING}={IMAGE}, and each image is on its own"
        )
        raise UserError(problem, place, remedy)


def identities(images: Sequence[Image]) -> tuple[Identity, ...]:
    """For each image what must stay together with it: the same for all images of a group, and no other."""
    return tuple(("image", image.key) if image.group is None else ("group", image.group) for image in images)


def groups_of(images: Sequence[Image]) -> dict[str, str]:
    """Each group that occurs, with the key of its first image."""
    first: dict[str, str] = {}
    for image in images:
        if image.group is not None:
            first.setdefault(image.group, image.key)
    return first


def are_too_few(images: Sequence[Image]) -> bool:
    """Whether there are groups, but fewer than :data:`MIN_GROUPS`: the images are then split one by one."""
    return any(image.group is not None for image in images) and len(set(identities(images))) < MIN_GROUPS


def by_image_if_few(images: Sequence[NormalImage]) -> tuple[NormalImage, ...]:
    """The images, without their groups where those are too few to split by."""
    return grouped(images, IMAGE if are_too_few(images) else None)


def groups_in_words(images: Sequence[Image], grouped_by: str | None) -> str | None:
    """How many groups there are, and how large; None where no image has one.

    Args:
        images: all of one side.
        grouped_by: what says which images belong together, such as ``patient``.
    """
    sizes = Counter(image.group for image in images if image.group is not None)
    if not sizes:
        return None
    by, largest = f" ({grouped_by})" if grouped_by else "", max(sizes.values())
    count = "1 group" if len(sizes) == 1 else f"{len(sizes)} groups"
    alone = len(images) - sizes.total()
    loose = f"; {alone} more images belong to none, each is a group of its own" if alone > 1 else ""
    loose = "; 1 more image belongs to none and is a group of its own" if alone == 1 else loose
    text = f"{count}{by}, largest {largest} image{'' if largest == 1 else 's'}{loose}"
    if are_too_few(images):
        text += f"; too few to split by (at least {MIN_GROUPS} are needed): split by image"
    return text


def refuse_shared_groups(
    images: Sequence[Image], trained: Mapping[str, str], grouped_by: str | None, place: str, use: str = "the test"
) -> None:
    """Refuse images of a group that training has seen.

    Args:
        images: that something is to be measured on.
        trained: for each group of training the key of one of its images.
        grouped_by: what the groups are, such as ``patient``.
        place: for the error.
        use: what is measured.

    Raises:
        UserError: with the group and an image of it on either side.
    """
    shared = {group: key for group, key in groups_of(images).items() if group in trained}
    for group, key in shared.items():
        kind = grouped_by if grouped_by in GROUP_COLUMNS else "group"
        more = f", and so {'is' if len(shared) == 2 else 'are'} {len(shared) - 1} more" if len(shared) > 1 else ""
        problem = f"{kind} {group!r} is in training and in {use}: {trained[group]} and {key}{more}"
        remedy = "take other groups than those of training: leave the images of a group out on one of the two sides"
        raise UserError(problem, place, remedy)


def group_in(key: str, group_by: str) -> str | None:
    """The group that an image's key names, by a value of ``data.group_by``; None where it names none."""
    path = PurePosixPath(unicodedata.normalize("NFC", key))
    if group_by == IMAGE:
        return None
    if group_by == FOLDER:
        return group_name(str(path.parent)) if len(path.parts) > 1 else None
    expression, num_parts = _compiled(group_by)
    *folders, name = path.parts[-num_parts:]
    for last in (path.stem, name):  # with and without the ending
        if match := expression.fullmatch("/".join((*folders, last))):
            return group_name(match["group"])
    return None


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> tuple[re.Pattern[str], int]:
    """A pattern as a regular expression, and how many parts of a path it looks at, from the last one."""
    pattern = unicodedata.normalize("NFC", pattern).replace("\\", "/").strip("/")
    wildcards = {"{group}": "(?P<group>[^/]+?)", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\{group\}|\*|\?)", pattern)
    return re.compile("".join(wildcards.get(part, re.escape(part)) for part in parts)), pattern.count("/") + 1


def _listed() -> str:
    return f"{', '.join(GROUP_COLUMNS[:-1])} or {GROUP_COLUMNS[-1]}"

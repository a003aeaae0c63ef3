"""Images of known defects, which a person names for training: ``flawmap train GOOD --defects FOLDER``.

Nothing else reads them as :class:`KnownDefect`: they come from a folder or a list of their own, never from a test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.checks import FileFacts, facts_of, refuse_unwritable_names
from flawmap.data.groups import grouped
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.layouts.image_folders import key_of, pair_masks, sub_folder
from flawmap.data.layouts.manifest import CsvManifest
from flawmap.data.sample import FileRemark, KnownDefect, LeftOut, MaskFile, NormalImage, SkippedFile
from flawmap.data.walk import MASK, Listing, visible_folders, walk, without_companions
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings, Recipe

OPTION = "--defects"
TEST, GROUND_TRUTH = "test", "ground_truth"
WITHOUT_HEAD = ("memory", "paper")  # methods
GIVE = "give a folder with images of defects, or a manifest.csv with rows of label 1"


@dataclass(frozen=True)
class KnownDefects:
    """Known defects that have been decoded.

    Attributes:
        root: the folder that they are in.
        defects: each content once. ``truth`` is None where a mask marks nothing.
        facts: of each, in the same order.
        duplicates: how many more repeat the pixels of one.
        skipped: files that could not be decoded.
        left_out: what lies beside them and is not read.
        remarks: on files that were read.
    """

    root: Path = Path()
    defects: tuple[KnownDefect, ...] = ()
    facts: tuple[FileFacts, ...] = ()
    duplicates: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[FileRemark, ...] = ()

    @property
    def words(self) -> str:
        """How many there are, and of how many it is known where the defect is."""
        count, marked = len(self.defects), sum(defect.truth is not None for defect in self.defects)
        repeated = f"; {self.duplicates} more repeat the pixels of one" if self.duplicates else ""
        return f"{count} known defect{'' if count == 1 else 's'}, {marked} with a mask or boxes{repeated}"


def refuse_without_head(recipe: Recipe) -> None:
    """Raises: UserError: the recipe's method has no head that could learn from known defects."""
    if recipe.method in WITHOUT_HEAD:
        problem = f"the method {recipe.method!r} has no head that learns from known defects"
        remedy = "leave out --defects, or take a recipe with a head: --recipe standard or --recipe quick"
        raise UserError(problem, OPTION, remedy)


def read_known_defects(
    location: str | Path, settings: DataSettings, good: Sequence[FileFacts], skip_unreadable: bool = False
) -> KnownDefects:
    """Find known defects, and decode all of them with their masks.

    Args:
        location: see :func:`find_known_defects`.
        settings: names of masks, and what makes groups.
        good: images that the memory learns from; none of them may be a defect.
        skip_unreadable: leave out files that cannot be decoded.

    Raises:
        UserError: no such folder, no image in it, images or masks that cannot be decoded, a mask of another size, or a
            defect that is also among the good images.
    """
    root, found = find_known_defects(location, settings)
    facts, bad = facts_of(found.images, root, skip_unreadable)
    if not facts:
        raise UserError("no image of a known defect can be read", str(root), "copy the images again")
    _refuse_good(facts, {content: fact.key for fact in good for content in (fact.sha256, fact.pixels_sha256)}, root)
    refuse_unwritable_names(fact.key for fact in facts)
    by_key, first = {defect.key: defect for defect in found.images}, dict[str, FileFacts]()
    for fact in facts:
        first.setdefault(fact.pixels_sha256, fact)
    kept = tuple(first.values())
    defects = tuple(
        replace(by_key[fact.key], sha256=fact.sha256, **({"truth": None} if fact.marks_nothing else {}))
        for fact in kept
    )
    remarks = [*found.remarks, *(remark for fact in facts for remark in fact.remarks)]
    remarks += [FileRemark(fact.key, "its mask marks nothing") for fact in facts if fact.marks_nothing]
    return KnownDefects(root, defects, kept, len(facts) - len(kept), tuple(bad), found.left_out, tuple(remarks))


def known_defects_for(
    defects: str | Path | Sequence[KnownDefect], images: Sequence[NormalImage], recipe: Recipe
) -> tuple[KnownDefect, ...]:
    """Those of a location, checked, or those that were given; with the groups that ``data.group_by`` says.

    Raises:
        UserError: a method without a head, or as :func:`read_known_defects`.
    """
    if not isinstance(defects, str | Path):
        if defects:
            refuse_without_head(recipe)
        return tuple(defects)
    refuse_without_head(recipe)
    good, _ = facts_of(images, Path(), skip_unreadable=False)
    return read_known_defects(defects, recipe.data, good).defects


def find_known_defects(location: str | Path, settings: DataSettings) -> tuple[Path, Listing[KnownDefect]]:
    """The known defects of a folder or of a manifest, with their masks; their keys begin with the folder's name.

    In a folder, images and those in sub-folders, whatever these are called, are defects. Their masks lie beside them
    (``STEM_mask``), in a sub-folder such as ``masks`` or ``ground_truth`` with the same folders in it, or, for a folder
    in ``test/`` of the layout of MVTec AD, in ``ground_truth/``. Of a manifest, rows with label 1 are defects.

    Raises:
        UserError: there is no such place, it holds good images or a whole data set, or no image; or masks match none.
    """
    path, manifest = Path(location), CsvManifest()
    if not path.exists():
        raise UserError(f"no such folder: {path}  (you are in {Path.cwd()})", OPTION, GIVE)
    if path.is_file() and not manifest.is_at(path):
        raise UserError(
            "known defects are given as a folder or a manifest.csv", str(path), f"give its folder: {path.parent}"
        )
    root = path if path.is_dir() else path.parent
    found = manifest.known_defects(path) if manifest.is_at(path) else _in_folder(path, settings.mask_pattern)
    if not found.images:
        raise UserError("no image of a known defect", str(path), GIVE)
    prefix = root.resolve().name
    images = tuple(replace(image, key=f"{prefix}/{image.key}") for image in grouped(found.images, settings.group_by))
    return root, replace(found, images=images)


def _in_folder(path: Path, mask_pattern: str) -> Listing[KnownDefect]:
    if meaning_of(path.resolve().name) == "good":
        raise UserError("by its name the folder holds good images, not defects", str(path), GIVE)
    if (test := sub_folder(path, TEST)).is_dir():
        kinds = [folder for folder in visible_folders(test) if meaning_of(folder.name) != "good"]
        raise UserError("this is a data set with a test", str(path), f"name a folder of defects: {(*kinds, test)[0]}")
    listing = walk(path, passes_over=_passed_over)
    found = without_companions(listing)
    masks, beside = _masks_beside(found, mask_pattern)
    for folder in _mask_folders(path):
        for image, mask in _masks_in(folder, path, found.images, mask_pattern).items():
            if image in masks:
                problem = f"{key_of(image, path)} has two masks: {masks[image].path} and {mask.path}"
                raise UserError(problem, str(path), "remove one of them")
            masks[image] = mask
    defects = tuple(KnownDefect(key_of(image, path), image, masks.get(image)) for image in found.images)
    return Listing(defects, tuple(item for item in found.left_out if item.path not in beside), found.remarks)


def _passed_over(folder: Path) -> LeftOut | bool:
    meaning = meaning_of(folder.name)
    if meaning == "good":
        return LeftOut(folder, "by its name the folder holds good images, not defects", "folder")
    return meaning == "masks"


def _masks_beside(found: Listing[Path], mask_pattern: str) -> tuple[dict[Path, MaskFile], set[Path]]:
    """Masks that lie beside their images, by image; and the same files."""
    candidates = {(item.path.parent, item.path.stem): item.path for item in found.left_out if item.kind == MASK}
    masks: dict[Path, MaskFile] = {}
    for image in found.images:
        if mask := candidates.get((image.parent, mask_pattern.replace("{stem}", image.stem))):
            masks[image] = MaskFile(mask)
    return masks, {mask.path for mask in masks.values()}


def _mask_folders(path: Path) -> list[Path]:
    """Folders with masks of the images in ``path``; places in them are those of the images."""
    inside = [folder for folder in visible_folders(path) if meaning_of(folder.name) == "masks"]
    place = path.resolve()
    if place.name.casefold() == TEST:
        return [*inside, sub_folder(place.parent, GROUND_TRUTH)]
    if place.parent.name.casefold() == TEST:
        return [*inside, sub_folder(sub_folder(place.parent.parent, GROUND_TRUTH), place.name)]
    return inside


def _masks_in(folder: Path, root: Path, images: Sequence[Path], mask_pattern: str) -> Mapping[Path, MaskFile]:
    """Masks in a folder, by image: of each place below it, those of the images at the same place below ``root``."""
    masks: dict[Path, MaskFile] = {}
    for place in sorted({mask.parent for mask in walk(folder).images} if folder.is_dir() else ()):
        of_images = root / place.relative_to(folder)
        masks |= pair_masks([image for image in images if image.parent == of_images], place, mask_pattern)
    return masks


def _refuse_good(facts: Sequence[FileFacts], good: Mapping[str, str], root: Path) -> None:
    same = {
        fact.key: good[content] for fact in facts for content in (fact.sha256, fact.pixels_sha256) if content in good
    }
    if same:
        key, good_key = next(iter(same.items()))
        more = f", and {len(same) - 1} more" if len(same) > 1 else ""
        problem = f"the known defect {key} is also among the good images as {good_key} (same content){more}"
        raise UserError(problem, str(root), "remove it from the good images, or from the known defects")

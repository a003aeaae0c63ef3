"""The MVTec AD layout: train/good, test/KIND, ground_truth/KIND/STEM_mask; the names may be in any case."""

from dataclasses import replace
from pathlib import Path

from flawmap.advice import command
from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.folder_names import meaning_of
from flawmap.data.layouts.image_folders import (
    good_images_in,
    images_with_masks,
    key_of,
    normal_images,
    sub_folder,
    unread_in,
)
from flawmap.data.layouts.other_folders import OtherFolders
from flawmap.data.sample import LabelledImage, LeftOut, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing, visible_folders, walk
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

GOOD = "good"


class MvtecAd(Layout):
    """One category of MVTec AD, or one's own data in the same folders."""

    name = "MVTec AD (train/good, test/KIND)"
    published = Protocol("MVTec AD")
    takes_folders_as_good = True

    def is_at(self, path: Path) -> bool:
        if good_folder(path).is_dir():
            return True
        return sub_folder(path, "test").is_dir() and not walk(path, recursive=False).images

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Images in train/good and below it.

        Raises:
            UserError: there are none.
        """
        train, good, test = sub_folder(path, "train"), good_folder(path), _test_folders(path)
        found = good_images_in(good) if good.is_dir() else Listing[Path]()
        if not found.images:
            others = OtherFolders(path, walk(path, passes_over=lambda place: place in test).images)
            remedy = command("flawmap", "train", *others.safe) if others.safe else f"fill train/good in {path}"
            raise UserError(f'no good image to train in the layout "{self.name}"', str(path), remedy)
        unread = unread_in(path, read=(train, *test)) + unread_in(train, read=[good])
        return normal_images(Listing(found.images, unread + found.left_out), path)

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Images in test/good and every test/KIND, with masks from ground_truth/KIND."""
        test, ground_truth = _test_folders(path)
        if not test.is_dir():
            return Listing()
        kinds = visible_folders(test)
        left_out = unread_in(test, read=kinds)
        if ground_truth.is_dir():
            _refuse_masks_without_images(ground_truth, {folder.name.casefold() for folder in kinds})
            left_out += _unread_masks(ground_truth)
        samples = []
        for folder in kinds:
            name = GOOD if folder.name.casefold() == GOOD else folder.name
            if name != GOOD and meaning_of(name) == "good":
                problem = f"images of {folder.parent.name}/{folder.name} would count as defects"
                remedy = "rename it to good if its images are good, or else after the defect"
                raise UserError(problem, str(folder), remedy)
            is_anomalous = name != GOOD
            masks = sub_folder(ground_truth, folder.name) if is_anomalous else None
            found = images_with_masks(folder, masks, settings.mask_pattern)
            left_out += found.left_out
            samples += [
                LabelledImage(key_of(image, path), image, is_anomalous, name, mask) for image, mask in found.images
            ]
        return Listing(tuple(samples), left_out)

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """As published; without a folder ground_truth there are no pixel metrics."""
        protocol = super().protocol(path, settings)
        return protocol if sub_folder(path, "ground_truth").is_dir() else replace(protocol, pixel_pool="none")


def good_folder(path: Path) -> Path:
    """``path/train/good`` in the case that it has."""
    return sub_folder(sub_folder(path, "train"), GOOD)


def _test_folders(path: Path) -> tuple[Path, Path]:
    return sub_folder(path, "test"), sub_folder(path, "ground_truth")


def _refuse_masks_without_images(ground_truth: Path, kinds: set[str]) -> None:
    for folder in visible_folders(ground_truth):
        if folder.name.casefold() not in kinds and walk(folder).images:
            problem = f"masks of kind {folder.name!r} have no images"
            raise UserError(problem, str(folder), f"add test/{folder.name}")


def _unread_masks(ground_truth: Path) -> tuple[LeftOut, ...]:
    """Masks of no kind of defect, and everything else in the folder that is no folder of masks."""
    found, good = walk(ground_truth, recursive=False), sub_folder(ground_truth, GOOD)
    reason = f"a mask outside of the folders of kinds; move it to {ground_truth.name}/KIND"
    masks = tuple(LeftOut(path, reason, "mask") for path in found.images)
    if good.is_dir() and walk(good).images:
        masks += (LeftOut(good, "masks of good images are not read", "folder"),)
    return masks + found.left_out

"""The MVTec AD layout: train/good, test/KIND, ground_truth/KIND/STEM_mask."""

from dataclasses import replace
from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import GOOD_NAMES, images_with_masks, key_of, list_images, visible
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings


class MvtecAd(Layout):
    """One category of MVTec AD, or one's own data in the same folders."""

    name = "MVTec AD (train/good, test/KIND)"
    published = Protocol("MVTec AD")
    reads_whole_folders = True

    def is_at(self, path: Path) -> bool:
        return (path / "train" / "good").is_dir() or ((path / "test").is_dir() and not list_images(path))

    def training(self, path: Path, settings: DataSettings, only: Strata) -> tuple[NormalImage, ...]:
        """Images in train/good and below it."""
        good = path / "train" / "good"
        images = list_images(good, recursive=True) if good.is_dir() else []
        return tuple(NormalImage(key_of(image, path), image) for image in images)

    def test(self, path: Path, settings: DataSettings, only: Strata) -> tuple[LabelledImage, ...]:
        """Images in test/good and every test/KIND, with masks from ground_truth/KIND."""
        test, ground_truth = path / "test", path / "ground_truth"
        if not test.is_dir():
            return ()
        kinds = [folder.name for folder in visible(test) if folder.is_dir()]
        for folder in visible(ground_truth) if ground_truth.is_dir() else []:
            if folder.is_dir() and folder.name not in kinds and list_images(folder, recursive=True):
                problem = f"masks of kind {folder.name!r} have no images"
                raise UserError(problem, str(folder), f"add test/{folder.name}")
        samples = []
        for kind in kinds:
            name = "good" if kind.casefold() == "good" else kind
            if name != "good" and name.casefold() in GOOD_NAMES:
                problem = f"images of test/{kind} would count as defects"
                remedy = "rename it to good if its images are good, or else after the defect"
                raise UserError(problem, str(test / kind), remedy)
            is_anomalous = name != "good"
            masks = ground_truth / kind if is_anomalous else None
            samples += [
                LabelledImage(key_of(image, path), image, is_anomalous, name, mask)
                for image, mask in images_with_masks(test / kind, masks, settings.mask_pattern)
            ]
        return tuple(samples)

    def protocol(self, path: Path, settings: DataSettings) -> Protocol:
        """As published; without a folder ground_truth there are no pixel metrics."""
        protocol = super().protocol(path, settings)
        return protocol if (path / "ground_truth").is_dir() else replace(protocol, pixel_pool="none")

"""The MVTec AD layout: train/good, test/KIND, ground_truth/KIND/STEM_mask."""

from pathlib import Path

from flawmap.data.layouts.image_folders import GOOD_NAMES, images_with_masks, key_of, list_images, visible
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

LAYOUT = "MVTec AD (train/good, test/KIND)"


def is_mvtec(root: Path) -> bool:
    """Whether ``root`` is laid out like one MVTec AD category."""
    return (root / "train" / "good").is_dir()


def read_training(root: Path) -> tuple[NormalImage, ...]:
    """Images of train/good and below it. Nothing else is looked at."""
    images = list_images(root / "train" / "good", recursive=True)
    return tuple(NormalImage(key_of(path, root), path) for path in images)


def read_test(root: Path, settings: DataSettings) -> tuple[LabelledImage, ...]:
    """Images of test/good and of every test/KIND, with masks from ground_truth/KIND.

    Raises:
        UserError: there is no test folder, a folder of masks has no images, or masks match no image.
    """
    test, ground_truth = root / "test", root / "ground_truth"
    if not test.is_dir():
        raise UserError("there are no test images: no folder test", str(root), "add test/good and test/KIND folders")
    kinds = [path.name for path in visible(test) if path.is_dir()]
    for place in visible(ground_truth) if ground_truth.is_dir() else []:
        if place.is_dir() and place.name not in kinds and list_images(place, recursive=True):
            raise UserError(f"masks of kind {place.name!r} have no images", str(place), f"add test/{place.name}")
    samples = []
    for kind in kinds:
        name = "good" if kind.casefold() == "good" else kind
        if name != "good" and name.casefold() in GOOD_NAMES:
            problem = f"images of test/{kind} would count as defects"
            raise UserError(problem, str(test / kind), "rename it to good if they are good, or else to what is wrong")
        anomalous = name != "good"
        found = images_with_masks(test / kind, ground_truth / kind if anomalous else None, settings.mask_pattern)
        samples += [LabelledImage(key_of(path, root), path, anomalous, name, mask) for path, mask in found]
    return tuple(samples)


def protocol(root: Path) -> Protocol:
    """Every image in the image pool; normal images and those with a mask in the pixel pool."""
    return Protocol(root.resolve().name, pixel_pool="all" if (root / "ground_truth").is_dir() else "none")

"""The MVTec AD layout: train/good, test/KIND, ground_truth/KIND/STEM_mask."""

from pathlib import Path

from flawmap.data.image_folders import key_of, list_images, pair_masks
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.errors import UserError
from flawmap.recipe import DataSettings

LAYOUT = "MVTec AD (train/good, test/KIND)"


def is_mvtec(root: Path) -> bool:
    """Whether ``root`` is laid out like one MVTec AD category."""
    return (root / "train" / "good").is_dir()


def read_training(root: Path) -> tuple[NormalImage, ...]:
    """Images of train/good. Nothing else is looked at."""
    return tuple(NormalImage(key_of(path, root), path) for path in list_images(root / "train" / "good"))


def read_test(root: Path, settings: DataSettings) -> tuple[LabelledImage, ...]:
    """Images of test/good and of every test/KIND, with masks from ground_truth/KIND.

    Raises:
        UserError: there is no test folder, a folder of masks has no images, or masks match no image.
    """
    test = root / "test"
    if not test.is_dir():
        raise UserError("there are no test images: no folder test", str(root), "add test/good and test/KIND folders")
    kinds = sorted(path.name for path in test.iterdir() if path.is_dir() and not path.name.startswith("."))
    masks_root = root / "ground_truth"
    mask_kinds = sorted(path.name for path in masks_root.iterdir() if path.is_dir()) if masks_root.is_dir() else []
    strangers = [kind for kind in mask_kinds if kind not in kinds and list_images(masks_root / kind)]
    if strangers:
        raise UserError(
            f"masks of kind {strangers[0]!r} have no images", str(masks_root / strangers[0]), f"add test/{strangers[0]}"
        )
    samples = []
    for kind in kinds:
        images = list_images(test / kind)
        anomalous = kind != "good"
        masks = pair_masks(images, masks_root / kind, settings.mask_pattern) if anomalous else {}
        samples += [LabelledImage(key_of(p, root), p, anomalous, kind, masks.get(p)) for p in images]
    return tuple(samples)


def protocol(root: Path) -> Protocol:
    """Every image in the image pool; normal images and those with a mask in the pixel pool."""
    return Protocol(root.name, pixel_pool="all" if (root / "ground_truth").is_dir() else "none")

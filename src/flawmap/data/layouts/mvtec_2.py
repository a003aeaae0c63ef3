"""The MVTec AD 2 layout: train/good, validation/good, test_public/{good,bad}, test_public/ground_truth/bad.

Images are named NUMBER_LIGHT (regular, overexposed, shift_1, ...); the light is a group. The private test sets have no
labels. ``validation/good`` is left alone: it is there for a threshold (``flawmap calibrate RUN .../validation/good``).
"""

from pathlib import Path

from flawmap.data.layouts import mvtec
from flawmap.data.layouts.archive import Archive
from flawmap.data.layouts.image_folders import images_with_masks, key_of, list_images
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Groups, is_chosen
from flawmap.errors import UserError


def is_at(root: Path) -> bool:
    """Whether ``root`` is laid out like one category of MVTec AD 2."""
    return mvtec.is_mvtec(root) and (root / "test_public").is_dir()


def read_training(root: Path, only: Groups) -> tuple[NormalImage, ...]:
    """Images of train/good."""
    images = [path for path in list_images(root / "train" / "good") if is_chosen(_groups(path), only)]
    return tuple(NormalImage(key_of(path, root), path) for path in images)


def read_test(root: Path, only: Groups) -> tuple[LabelledImage, ...]:
    """Images of the public test set.

    Raises:
        UserError: masks match no image, or a test folder is missing.
    """
    test, samples = root / "test_public", []
    for kind in ("good", "bad"):
        if not (test / kind).is_dir():
            raise UserError(f"no folder {kind} in the public test set", str(test), "unpack the archive again")
        masks = test / "ground_truth" / "bad" if kind == "bad" else None
        for path, mask in images_with_masks(test / kind, masks, "{stem}_mask"):
            sample = LabelledImage(key_of(path, root), path, kind == "bad", kind, mask, _groups(path))
            samples += [sample] if is_chosen(sample.groups, only) else []
    return tuple(samples)


def protocol(root: Path) -> Protocol:
    """All pixels of the public test set; each light is also reported apart."""
    return Protocol(root.resolve().name, group_by=("light",))


def _groups(path: Path) -> dict[str, str]:
    _, underscore, light = path.stem.partition("_")
    return {"light": light} if underscore else {}


ARCHIVE = Archive("MVTec AD 2 (train/good, test_public)", is_at, read_training, read_test, protocol)

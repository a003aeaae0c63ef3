"""Magnetic Tile Defects as published: MT_KIND/Imgs/STEM.jpg with its mask STEM.png beside it.

Protocol of DifferNet (github.com/marco-rudolph/differnet): 761 of the 952 images of MT_Free, those that its list
``mtd_train_filenames.txt`` names, are trained on; the other 191 and all 392 defective ones are the test. Some masks of
``uneven`` are empty: these images count for image metrics only.
"""

from pathlib import Path

from flawmap.data.layouts.archive import Archive
from flawmap.data.layouts.image_folders import key_of, list_images, visible
from flawmap.data.sample import LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Groups
from flawmap.errors import UserError

TRAINING_LIST = "mtd_train_filenames.txt"
FREE = "MT_Free"


def is_at(root: Path) -> bool:
    """Whether ``root`` is the unpacked repository of the data set."""
    return (root / FREE / "Imgs").is_dir()


def read_training(root: Path, only: Groups) -> tuple[NormalImage, ...]:
    """Images of MT_Free that the list names.

    Raises:
        UserError: the list is missing or names an image that is not in MT_Free.
    """
    listed = _training_names(root)
    images = {path.stem: path for path in _photographs(root, FREE)}
    if missing := sorted(listed - images.keys()):
        raise UserError(
            f"{len(missing)} listed images are not in {FREE}, first: {missing[0]}",
            str(root / TRAINING_LIST),
            "copy the folder MT_Free again",
        )
    return tuple(NormalImage(key_of(images[stem], root), images[stem]) for stem in sorted(listed) if not only)


def read_test(root: Path, only: Groups) -> tuple[LabelledImage, ...]:
    """All other images, defective ones with their masks.

    Raises:
        UserError: the list is missing.
    """
    trained, samples = _training_names(root), []
    for folder in [path for path in visible(root) if path.name.startswith("MT_") and (path / "Imgs").is_dir()]:
        anomalous = folder.name != FREE
        kind = folder.name.removeprefix("MT_").lower() if anomalous else "good"
        for path in _photographs(root, folder.name):
            mask = path.with_suffix(".png")
            truth = MaskFile(mask) if anomalous and mask.is_file() else None
            if anomalous or path.stem not in trained:
                samples.append(LabelledImage(key_of(path, root), path, anomalous, kind, truth))
    return () if only else tuple(samples)


def protocol(root: Path) -> Protocol:
    """All pixels of normal images and of those with a mask that is not empty."""
    return Protocol(root.resolve().name)


def _photographs(root: Path, folder: str) -> list[Path]:
    return [path for path in list_images(root / folder / "Imgs") if path.suffix.lower() == ".jpg"]


def _training_names(root: Path) -> set[str]:
    """Names without ending; the list writes one file name per line, with or without folders."""
    path = root / TRAINING_LIST
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the split of the magnetic tiles needs DifferNet's list {TRAINING_LIST}",
            str(path),
            "copy it from github.com/marco-rudolph/differnet, or list the images in a manifest.csv",
        ) from error
    return {Path(line.replace("\\", "/")).stem for line in lines}


ARCHIVE = Archive("Magnetic Tile Defects (MT_KIND/Imgs)", is_at, read_training, read_test, protocol)

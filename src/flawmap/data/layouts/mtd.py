"""Magnetic Tile Defects as published: MT_KIND/Imgs/STEM.jpg with its mask STEM.png in the same folder.

The split is DifferNet's (github.com/marco-rudolph/differnet): 761 of the 952 images of MT_Free, listed in
``mtd_train_filenames.txt``, are for training; the other 191 and all 392 defective ones are the test. Some masks of
``uneven`` are empty: these images count for image metrics only.
"""

from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import key_of
from flawmap.data.sample import LabelledImage, MaskFile, NormalImage, Protocol
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing, visible_folders, walk
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

TRAINING_LIST = "mtd_train_filenames.txt"
FREE = "MT_Free"


class MagneticTiles(Layout):
    """The unpacked repository of the data set, with DifferNet's list."""

    name = "Magnetic Tile Defects (MT_KIND/Imgs)"
    published = Protocol("Magnetic Tile Defects")

    def is_at(self, path: Path) -> bool:
        return (path / FREE / "Imgs").is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """The images of MT_Free in the list."""
        listed = _training_names(path)
        images = {image.stem: image for image in _photographs(path / FREE).images}
        if missing := sorted(listed - images.keys()):
            problem = f"{len(missing)} listed images are not in {FREE}, first: {missing[0]}"
            raise UserError(problem, str(path / TRAINING_LIST), "copy the folder MT_Free again")
        return Listing(tuple(NormalImage(key_of(images[stem], path), images[stem]) for stem in sorted(listed)))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """All other images, defective ones with their masks."""
        listed, samples, left_out = _training_names(path), [], ()
        for folder in visible_folders(path):
            if not folder.name.startswith("MT_") or not (folder / "Imgs").is_dir():
                continue
            is_anomalous = folder.name != FREE
            kind = folder.name.removeprefix("MT_").lower() if is_anomalous else "good"
            photographs = _photographs(folder)
            left_out += photographs.left_out
            for image in photographs.images:
                mask = image.with_suffix(".png")
                truth = MaskFile(mask) if is_anomalous and mask.is_file() else None
                if is_anomalous or image.stem not in listed:
                    samples.append(LabelledImage(key_of(image, path), image, is_anomalous, kind, truth))
        return Listing(tuple(samples), left_out)


def _photographs(folder: Path) -> Listing[Path]:
    """The images of a kind; their masks lie among them."""
    listing = walk(folder / "Imgs", recursive=False)
    return Listing(tuple(image for image in listing.images if image.suffix.lower() == ".jpg"), listing.left_out)


def _training_names(path: Path) -> set[str]:
    """Names without extension; the list has one file name per line, with or without folders."""
    try:
        lines = (path / TRAINING_LIST).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"the split of the magnetic tiles needs DifferNet's list {TRAINING_LIST}"
        remedy = "copy it from github.com/marco-rudolph/differnet, or list the images in a manifest.csv"
        raise UserError(problem, str(path / TRAINING_LIST), remedy) from error
    return {Path(line.replace("\\", "/")).stem for line in lines}

"""The MVTec AD 2 layout: train/good, validation/good, test_public/{good,bad}, test_public/ground_truth/bad.

Images are named NUMBER_LIGHT (regular, overexposed, shift_1, ...); the light is a stratum. The private test sets have
no labels: ``python -m flawmap_bench.submission`` writes their maps for the benchmark's server. ``validation/good`` is
not trained on: it can set a threshold (``flawmap calibrate RUN .../validation/good``).
"""

from dataclasses import replace
from pathlib import Path

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import good_images_in, images_with_masks, key_of, normal_images, unread_in
from flawmap.data.layouts.validation_images import VALIDATION, remark_on_validation
from flawmap.data.sample import LabelledImage, NormalImage, Protocol
from flawmap.data.subset import Strata, is_chosen
from flawmap.data.walk import Listing
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

PRIVATE_TESTS = ("test_private", "test_private_mixed")  # the second under lights that training has not seen, too


class MvtecAd2(Layout):
    """One category of MVTec AD 2, tested on its public test set; each light is also reported separately."""

    name = "MVTec AD 2 (train/good, test_public)"
    published = Protocol("MVTec AD 2", strata=("light",))
    strata = ("light",)

    def is_at(self, path: Path) -> bool:
        return (path / "train" / "good").is_dir() and (path / "test_public").is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Images in train/good."""
        found = good_images_in(path / "train" / "good")
        chosen = tuple(image for image in found.images if is_chosen(_strata(image), only))
        known = [path / name for name in ("train", VALIDATION, "test_public", *PRIVATE_TESTS)]
        images = normal_images(Listing(chosen, unread_in(path, known) + found.left_out), path)
        return replace(images, remarks=remark_on_validation(path))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Images of the public test set."""
        test, samples, left_out = path / "test_public", [], ()
        for kind in ("good", "bad"):
            if not (test / kind).is_dir():
                raise UserError(f"no folder {kind} in the public test set", str(test), "unpack the archive again")
            masks = test / "ground_truth" / "bad" if kind == "bad" else None
            found = images_with_masks(test / kind, masks, "{stem}_mask")
            left_out += found.left_out
            for image, mask in found.images:
                samples.append(LabelledImage(key_of(image, path), image, kind == "bad", kind, mask, _strata(image)))
        return Listing(tuple(sample for sample in samples if is_chosen(sample.strata, only)), left_out)


def _strata(image: Path) -> dict[str, str]:
    _, underscore, light = image.stem.partition("_")
    return {"light": light} if underscore else {}

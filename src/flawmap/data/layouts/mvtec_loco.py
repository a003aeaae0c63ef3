"""The MVTec LOCO layout: train/good, test/KIND, ground_truth/KIND/STEM/*.png, defects_config.json.

Each image with a defect has a folder of masks, one for each defect. The value of a mask's pixels is that of the kind of
defect in defects_config.json, which also says at which area such a defect counts as found in full.
``validation/good`` is not trained on: it can set a threshold (``flawmap calibrate RUN .../validation/good``).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flawmap.data.layouts.base import Layout
from flawmap.data.layouts.image_folders import good_images_in, images_in, key_of, normal_images, unread_in
from flawmap.data.layouts.validation_images import VALIDATION, remark_on_validation
from flawmap.data.sample import DefectMasks, LabelledImage, LeftOut, NormalImage, Protocol, Saturation
from flawmap.data.subset import Strata
from flawmap.data.walk import Listing, visible_folders, walk
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings

CONFIG = "defects_config.json"
GOOD = "good"
UNPACK_AGAIN = "unpack the archive again"


class MvtecLoco(Layout):
    """One category of MVTec LOCO, or other data in its folders."""

    name = f"MVTec LOCO (train/good, test/KIND, {CONFIG})"
    published = Protocol("MVTec LOCO", saturated_overlap=True)

    def is_at(self, path: Path) -> bool:
        return (path / CONFIG).is_file() and (path / "train" / GOOD).is_dir()

    def training(self, path: Path, settings: DataSettings, only: Strata) -> Listing[NormalImage]:
        """Images in train/good."""
        found = good_images_in(path / "train" / GOOD)
        known = [path / name for name in ("train", VALIDATION, "test", "ground_truth")]
        unread = tuple(item for item in unread_in(path, known) if item.path.name != CONFIG)
        images = normal_images(Listing(found.images, unread + found.left_out), path)
        return replace(images, remarks=remark_on_validation(path))

    def test(self, path: Path, settings: DataSettings, only: Strata) -> Listing[LabelledImage]:
        """Images in test/good and every test/KIND, with the masks of their defects.

        Raises:
            UserError: defects_config.json is damaged, or masks have no image.
        """
        test, samples, left_out = path / "test", [], ()
        if not test.is_dir():
            return Listing()
        saturations = _saturations(path / CONFIG)
        for folder in visible_folders(test):
            found = images_in(folder, recursive=False)
            is_anomalous = folder.name != GOOD
            masks, unread = _masks_of(path / "ground_truth" / folder.name, found.images) if is_anomalous else ({}, ())
            left_out += found.left_out + unread
            for image in found.images:
                truth = DefectMasks(masks[image.stem], saturations) if masks.get(image.stem) else None
                samples.append(LabelledImage(key_of(image, path), image, is_anomalous, folder.name, truth))
        return Listing(tuple(samples), left_out)


def _masks_of(folder: Path, images: tuple[Path, ...]) -> tuple[dict[str, tuple[Path, ...]], tuple[LeftOut, ...]]:
    """The masks of each image, by its stem, from ``folder/STEM``; and what is not read there.

    Raises:
        UserError: a folder of masks has no image.
    """
    if not folder.is_dir():
        return {}, ()
    places = visible_folders(folder)
    found = {place.name: walk(place, recursive=False) for place in places}
    stems = {image.stem for image in images}
    if orphans := [name for name, listing in found.items() if name not in stems and listing.images]:
        problem = f"{len(orphans)} folders of masks match no image, first: {orphans[0]}"
        raise UserError(problem, str(folder), f"add test/{folder.name}/{orphans[0]}.png, or remove its masks")
    unread = unread_in(folder, places) + tuple(item for listing in found.values() for item in listing.left_out)
    return {name: listing.images for name, listing in found.items()}, unread


def _saturations(config: Path) -> dict[int, Saturation]:
    """How each kind of defect saturates, by the value of its masks.

    Raises:
        UserError: the file is damaged.
    """
    try:
        entries = json.loads(config.read_text(encoding="utf-8"))
        return {int(entry["pixel_value"]): _saturation(entry) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{CONFIG} is damaged: {error!r}", str(config), UNPACK_AGAIN) from error


def _saturation(entry: dict[str, Any]) -> Saturation:
    threshold, is_relative = float(entry["saturation_threshold"]), entry["relative_saturation"]
    if not isinstance(is_relative, bool) or not 0 < threshold < (float("inf") if not is_relative else 1 + 1e-9):
        raise ValueError(f"{entry.get('defect_name', 'a defect')} saturates at {threshold}, relative: {is_relative}")
    return Saturation(threshold, is_relative)

"""Which real images an export is checked on: those that are given, or those that the run was trained from."""

import json
from pathlib import Path

from flawmap.data.layouts.image_folders import list_images
from flawmap.data.open_data import has_test_data, open_test_data, open_training_data
from flawmap.deploy.parity import CheckImage
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import file_sha256
from flawmap.runs.manifest import read_run_manifest

GIVE_IMAGES = "give a few with --images FOLDER"


def given_images(location: str, count: int) -> tuple[CheckImage, ...]:
    """Images of a data location, evenly spaced: labelled ones, half of them anomalous, where it has any.

    Args:
        location: anything that ``flawmap evaluate`` or ``flawmap train`` reads, or a folder of any images.
        count: at most so many.

    Raises:
        UserError: there are none.
    """
    if has_test_data(location, DataSettings()):
        samples = open_test_data(location, DataSettings(test_subset=max(1, count // 2))).samples
        return tuple(CheckImage(sample.path, sample.is_anomalous) for sample in samples)
    path = Path(location)
    images = list_images(path, recursive=True) if path.is_dir() else []
    if images:
        return tuple(CheckImage(path) for path in images[:: -(-len(images) // count)])
    found = open_training_data(location, DataSettings(train_subset=count)).images
    return tuple(CheckImage(image.path) for image in found)


def images_of_run(run: Path, count: int) -> tuple[CheckImage, ...]:
    """Images that the run was trained from, held-out ones first, where they still lie unchanged.

    Raises:
        UserError: the run does not say where they are, or they have gone or changed.
    """
    rows = {row.key: row for row in read_run_manifest(run)}
    try:
        location = json.loads((run / "environment.json").read_text(encoding="utf-8"))["data"]
        found = open_training_data(location, load_recipe(run / "recipe.yaml").data).images
    except (OSError, ValueError, KeyError, UserError) as error:
        raise UserError(
            "the run does not say where its images are, or they have gone", str(run), GIVE_IMAGES
        ) from error
    held_out_first = sorted((one for one in found if one.key in rows), key=lambda one: rows[one.key].split == "train")
    unchanged = (one for one in held_out_first if file_sha256(one.path) == rows[one.key].sha256)
    chosen = tuple(CheckImage(image.path) for image, _ in zip(unchanged, range(count), strict=False))
    if not chosen:
        raise UserError("none of the run's images is where it was, unchanged", str(run), GIVE_IMAGES)
    return chosen

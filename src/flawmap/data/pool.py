"""Further good images for stage 1 alone: pre-training pooled over several categories instead of one.

The paper does not say whether it pre-trains per class or pooled. Ours is per class; ``data.pretrain_on`` adds a pool.
Stage 2, the threshold and the evaluation stay the category's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.checks import FileFacts, check_training_data, refuse_unwritable_names
from flawmap.data.layouts import manifest
from flawmap.data.layouts.image_folders import visible
from flawmap.data.layouts.mvtec import is_mvtec
from flawmap.data.open_data import existing, open_training_data
from flawmap.data.sample import NormalImage, SkippedFile, TrainingData
from flawmap.data.subset import split_location
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings, Recipe

SETTING = "data.pretrain_on"


@dataclass(frozen=True)
class Pool:
    """What stage 1 learns from beside the category's own images.

    Attributes:
        images: their keys begin with the name of their data.
        facts: of each image, in the same order.
        num_locations: how many data sets they come from.
        num_left_out: images whose content is the category's own, held out ones included, or repeats another one's.
        skipped: files that could not be read.
    """

    images: tuple[NormalImage, ...] = ()
    facts: tuple[FileFacts, ...] = ()
    num_locations: int = 0
    num_left_out: int = 0
    skipped: tuple[SkippedFile, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        places = "1 location" if self.num_locations == 1 else f"{self.num_locations} locations"
        left_out = f"; {self.num_left_out} left out that the data has itself, or twice" if self.num_left_out else ""
        return f"{len(self.images)} further good images for stage 1, of {places}{left_out}"


def read_pool(recipe: Recipe, own: Sequence[FileFacts], skip_unreadable: bool = False) -> Pool:
    """Open and decode the images that ``data.pretrain_on`` names, and leave out what the category has itself.

    Args:
        recipe: an empty pool where it names none, or has no stage 1.
        own: all good images of the category, those held out for the threshold among them: no image with the pixels
            of one of these is in the pool.
        skip_unreadable: leave out files that cannot be decoded.

    Raises:
        UserError: the location is none, a file cannot be read, or no further image is left.
    """
    location = recipe.data.pretrain_on
    if location is None or not recipe.pretrain.enabled:
        return Pool()
    checked = [check_training_data(data, 0.0, skip_unreadable) for data in open_categories(location, recipe.data)]
    seen = {fact.pixels_sha256 for fact in own}
    facts: list[FileFacts] = []
    for one in checked:
        for fact in one.facts:
            if fact.pixels_sha256 not in seen:
                seen.add(fact.pixels_sha256)
                facts.append(replace(fact, key=f"{one.data.name}/{fact.key}"))
    num_read = sum(len(one.facts) for one in checked)
    if not facts:
        raise UserError(
            f"{SETTING} brings no further image: all {num_read} there are the category's own",
            str(location),
            f"name other good images, or --set {SETTING}=null to pre-train on the category alone",
        )
    refuse_unwritable_names(fact.key for fact in facts)
    return Pool(
        tuple(NormalImage(fact.key, fact.path, fact.sha256) for fact in facts),
        tuple(facts),
        len(checked),
        num_read - len(facts),
        tuple(
            SkippedFile(f"{one.data.name}/{skipped.key}", skipped.reason)
            for one in checked
            for skipped in one.data.skipped
        ),
    )


def pool_beside(images: Sequence[NormalImage], recipe: Recipe) -> Pool:
    """As :func:`read_pool`, for images of which no facts are known yet; reads them only where there is a pool."""
    if recipe.data.pretrain_on is None or not recipe.pretrain.enabled:
        return Pool()
    own = check_training_data(TrainingData("", Path(), "", tuple(images)), 0.0)
    return read_pool(recipe, own.facts)


def open_categories(location: str, settings: DataSettings) -> tuple[TrainingData, ...]:
    """The good images of a data location, or of every category in a folder of several in MVTec AD layout.

    Names of sub-folders that the recipe gives (``data.normal``) are those of the category and do not count here;
    ``data.train_subset`` limits each location alike.

    Raises:
        UserError: no such place, or a layout that is not known.
    """
    elsewhere = DataSettings(train_subset=settings.train_subset)
    try:
        return tuple(open_training_data(place, elsewhere) for place in _places(location))
    except UserError as error:
        remedy = error.remedy  # of a damaged manifest, for example
        if not error.place or (Path(error.place) == Path(location) and Path(location).suffix != ".csv"):
            remedy = f"--set {SETTING}=LOCATION: a data location, or a folder of several in MVTec AD layout"
        raise UserError(f"{SETTING}: {error.problem}", error.place or SETTING, remedy) from error


def _places(location: str) -> list[str | Path]:
    place, only = split_location(location)
    if only or place == "elpv":
        return [location]
    path = existing(Path(location))
    if not path.is_dir() or is_mvtec(path) or (path / manifest.FILE_NAME).is_file():
        return [path]
    return [child for child in visible(path) if is_mvtec(child)] or [path]

"""Further good images for stage 1, named by ``data.pretrain_on``: pre-training on several categories at once.

The paper does not say whether it pre-trains per class or on all classes. By default flawmap does it per class. Stage 2,
the threshold and the evaluation always use the category's own images only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flawmap.data.checks import FileFacts, check_training_data, refuse_unwritable_names
from flawmap.data.layouts.folder import PlainFolder, categories_in
from flawmap.data.open_data import find_layout, open_training_data, place_of
from flawmap.data.sample import LeftOut, NormalImage, SkippedFile, TrainingData
from flawmap.data.subset import split_location
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings, Recipe

SETTING = "data.pretrain_on"


@dataclass(frozen=True)
class Pool:
    """Images that stage 1 learns from in addition to the category's own.

    Attributes:
        images: their keys begin with the name of their data.
        facts: of each image, in the same order.
        num_locations: how many data sets they come from.
        num_left_out: images with the pixels of another one, or of one of the category's own.
        skipped: files that could not be read.
        left_out: what lies beside them.
    """

    images: tuple[NormalImage, ...] = ()
    facts: tuple[FileFacts, ...] = ()
    num_locations: int = 0
    num_left_out: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def words(self) -> str:
        """A line for people."""
        places = "1 location" if self.num_locations == 1 else f"{self.num_locations} locations"
        left_out = f"; {self.num_left_out} left out as duplicates" if self.num_left_out else ""
        return f"{len(self.images)} further good images for stage 1, from {places}{left_out}"


def read_pool(recipe: Recipe, own: Sequence[FileFacts], skip_unreadable: bool = False) -> Pool:
    """Open and decode the images that ``data.pretrain_on`` names.

    Args:
        recipe: the pool is empty if it names none, or has no stage 1.
        own: all good images of the category, those held out for the threshold included; images with the same pixels
            are left out of the pool.
        skip_unreadable: leave out files that cannot be decoded.

    Raises:
        UserError: the location does not exist, a file cannot be read, or no further image is left.
    """
    location = recipe.data.pretrain_on
    if location is None or not recipe.pretrain.enabled:
        return Pool()
    checked = [check_training_data(data, None, skip_unreadable) for data in _open_categories(location, recipe.data)]
    facts = {fact.pixels_sha256: fact for fact in own}
    num_own = len(facts)
    skipped: list[SkippedFile] = []
    for category in checked:
        name = category.data.name
        for fact in category.facts:
            facts.setdefault(fact.pixels_sha256, replace(fact, key=f"{name}/{fact.key}"))
        skipped += [replace(file, key=f"{name}/{file.key}") for file in category.data.skipped]
    further = tuple(facts.values())[num_own:]
    left_out = tuple(item for category in checked for item in category.data.left_out)
    num_read = sum(len(category.facts) for category in checked)
    if not further:
        problem = f"{SETTING} adds no image: all {num_read} there are the category's own"
        remedy = f"name other good images, or --set {SETTING}=null to pre-train on the category alone"
        raise UserError(problem, str(location), remedy)
    refuse_unwritable_names(fact.key for fact in further)
    images = tuple(NormalImage(fact.key, fact.path, fact.sha256) for fact in further)
    return Pool(images, further, len(checked), num_read - len(further), tuple(skipped), left_out)


def read_pool_for(images: Sequence[NormalImage], recipe: Recipe) -> Pool:
    """As :func:`read_pool`, for images that have not been checked; they are only read if there is a pool."""
    if recipe.data.pretrain_on is None or not recipe.pretrain.enabled:
        return Pool()
    return read_pool(recipe, check_training_data(TrainingData("", Path(), "", tuple(images)), None).facts)


def _open_categories(location: str, settings: DataSettings) -> list[TrainingData]:
    """Good images of a data location, or of every category in a folder of several in MVTec AD layout.

    ``data.train_subset`` limits each of them; names of sub-folders (``data.normal``) belong to the category alone.
    """
    try:
        name, only = split_location(location)
        path = place_of(name)
        is_collection = not only and isinstance(find_layout(path), PlainFolder)
        places = (categories_in(path) if is_collection else []) or [location]
        return [open_training_data(place, DataSettings(train_subset=settings.train_subset)) for place in places]
    except UserError as error:
        remedy = error.remedy
        if not error.place or (Path(error.place) == Path(location) and Path(location).suffix != ".csv"):
            remedy = f"--set {SETTING}=LOCATION: a data location, or a folder of several in MVTec AD layout"
        raise UserError(f"{SETTING}: {error.problem}", error.place or SETTING, remedy) from error

"""What the page Train may order, and why it may not."""

import datetime
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flawmap.advice import install
from flawmap.data.remarks import few_images
from flawmap.errors import UserError
from flawmap.metrics.rates import images_for_rate
from flawmap.plural import plural
from flawmap.recipe.files import load_recipe
from flawmap.runs.result_folders import free_path
from flawmap.runs.run_folder import unfinished_runs
from flawmap_studio.image_list import StudioImage
from flawmap_studio.jobs import Order
from flawmap_studio.lists import PlannedFile, manifest
from flawmap_studio.place import RUNS
from flawmap_studio.region import region_file, rois_for
from flawmap_studio.studio import Studio

MOST_SHAPES = 20  # images whose shape is compared with the region's; the command compares all


class TrainingWish(BaseModel):
    """What the person chose."""

    model_config = ConfigDict(extra="forbid")

    recipe: Literal["quick", "standard"] = "standard"
    smallest_defect_px: float | None = Field(None, gt=0, le=10_000)
    false_alarm_rate: float = Field(0.01, gt=0, lt=0.5)
    folders_are_groups: bool = False
    with_known_defects: bool = False
    resume: str | None = Field(None, max_length=200)


class CheckWish(BaseModel):
    """Nothing is to be chosen."""

    model_config = ConfigDict(extra="forbid")


def training_order(studio: Studio, wish: TrainingWish) -> Order:
    """The command that trains on all images to learn from that are labelled good.

    Raises:
        UserError: it would refuse, as far as that can be seen without decoding all images.
    """
    if find_spec("torch") is None:
        raise UserError("training needs packages that are not installed", "", install("train"))
    if wish.resume is not None:
        return _resumed(studio, wish.resume)
    learn = studio.images.chosen("learn", "good")
    if not learn:
        raise UserError("there is no good image to learn from", "Images", "drop images of good parts, and mark them G")
    sets = [f"calibration.false_alarm_rate={wish.false_alarm_rate:g}"] if wish.false_alarm_rate != 0.01 else []
    if wish.smallest_defect_px is not None:
        sets += ["data.tiles=auto", f"data.smallest_defect_px={wish.smallest_defect_px:g}"]
    load_recipe(wish.recipe, sets)  # raises as the command would
    known = _known_images(studio, learn)
    files, words = [known], ["flawmap", "train", known.name, "--recipe", wish.recipe]
    if wish.smallest_defect_px is not None:
        words += ["--smallest-defect-px", f"{wish.smallest_defect_px:g}"]
    words += [word for each in sets if not each.startswith("data.") for word in ("--set", each)]
    if wish.folders_are_groups:
        words += ["--set", "data.group_by=folder"]
    if wish.with_known_defects:
        listed = _known_defects(studio)
        files.append(listed)
        words += ["--defects", listed.name]
    if (drawn := region_file(studio.state, learn)) is not None:
        _refuse_other_shapes(studio, learn)
        files.append(drawn)
        words += ["--roi", drawn.name]
    run = _new_run(studio)
    words += ["--run", run, "--skip-unreadable", "--json"]
    facts = {"run": run, "n_images": len(learn), "recipe": wish.recipe}
    title = f"Train on {plural(len(learn), 'good image')}"
    return Order("train", title, words, facts, files, _advice(studio, learn, wish))


def check_order(studio: Studio, wish: CheckWish) -> Order:
    """The command that looks at all images before training.

    Raises:
        UserError: there is nothing to check.
    """
    learn = studio.images.chosen("learn", "good")
    if not learn:
        raise UserError("there is no good image to check", "Images", "drop images of good parts, and mark them G")
    known = _known_images(studio, learn)
    words, files = ["flawmap", "check", known.name], [known]
    if (drawn := region_file(studio.state, learn)) is not None:
        files.append(drawn)
        words += ["--roi", drawn.name]
    words += ["--skip-unreadable", "--json"]
    return Order("check", f"Check {plural(len(learn), 'good image')}", words, {"n_images": len(learn)}, files)


def _known_defects(studio: Studio) -> PlannedFile:
    """Defects that the head shall learn from; those to test with stay unseen."""
    defects = studio.images.chosen("learn", "defect")
    if not defects:
        remedy = "mark images to learn from with D, or leave known defects out"
        raise UserError("there is no known defect to learn from", "Images", remedy)
    return manifest("defects", test=defects)


def _known_images(studio: Studio, learn: list[StudioImage]) -> PlannedFile:
    """The good images, and the labelled test images, which must not be among them."""
    test = [image for image in studio.images.chosen("test") if image.label in ("good", "defect")]
    return manifest("images", learn, test)


def _resumed(studio: Studio, name: str) -> Order:
    unfinished = {run.path.name: run for run in unfinished_runs(studio.place.root / RUNS)}
    if name not in unfinished:
        raise UserError("there is no unfinished training of this name", name, "start a new one")
    job = next((job for job in studio.jobs.recent(200) if job.facts.get("run") == f"{RUNS}/{name}"), None)
    words = ["flawmap", "train", "--run", f"{RUNS}/{name}", "--resume", "--json"]
    facts = (job.facts if job else {}) | {"run": f"{RUNS}/{name}"}
    return Order("train", f"Continue {name}", words, facts)


def _new_run(studio: Studio) -> str:
    today = datetime.date.today().isoformat()
    path = free_path(studio.place.root / RUNS / f"{today}_{_plain(studio.place.root.name)}")
    return studio.place.relative(path)


def _plain(name: str) -> str:
    kept = "".join(character if character.isalnum() or character in "._-" else "-" for character in name)
    return kept.strip(".-") or "model"


def _refuse_other_shapes(studio: Studio, images: list[StudioImage]) -> None:
    """Some images are looked at here, so that the refusal comes at once; the command looks at all."""
    rois = rois_for(studio.state, images)
    if rois is None:
        return
    for image in images[:: max(1, len(images) // MOST_SHAPES)]:
        width, height = studio.pictures.size_px(image)
        found = rois.of(image.camera)
        if not found.fits(height, width):
            of_width, of_height = found.size_px
            problem = f"the region was drawn on {of_width:g} x {of_height:g} px, and {image.path} has another shape"
            raise UserError(problem, "Region", "draw the region as shares of the image, or leave out other images")


def _advice(studio: Studio, learn: list[StudioImage], wish: TrainingWish) -> list[str]:
    lines = []
    if few := few_images(len(learn)):
        lines.append(few)
    elif len(learn) < (needed := images_for_rate(wish.false_alarm_rate)):
        lines.append(
            f"{wish.false_alarm_rate:.2%} false alarms need {needed} good images; "
            f"{len(learn)} can promise {1 / (len(learn) + 1):.1%}"
        )
    left = ("good", "defect") if wish.with_known_defects else ("good",)
    others = [image for image in studio.images.chosen("learn") if image.label not in left]
    if others:
        lines.append(f"{plural(len(others), 'image')} to learn from without the label good will not be learned")
    return lines

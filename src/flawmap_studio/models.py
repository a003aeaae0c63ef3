"""The trained runs of a studio: what they are, what was changed, and the commands that change them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flawmap.data.rois import rois_of
from flawmap.errors import UserError
from flawmap.plural import plural
from flawmap.recipe.files import load_recipe
from flawmap.runs.calibration import Calibration
from flawmap.runs.cameras import is_camera_name, read_calibrations
from flawmap.runs.evaluation import Measure, read_evaluation
from flawmap.runs.manifest import read_manifest
from flawmap.runs.result_folders import free_path
from flawmap.runs.run_folder import FINISHED, RunFolder, latest_run, unfinished_runs
from flawmap.runs.unusual import read_unusual
from flawmap.runs.updates import updates_in_force
from flawmap.runs.versions import describe, read_history
from flawmap_studio.image_list import StudioImage
from flawmap_studio.jobs import Job, Order
from flawmap_studio.lists import manifest, places_of
from flawmap_studio.place import RESULTS, RUNS
from flawmap_studio.reviewing import reviewed_as_good, reviews_file
from flawmap_studio.studio import Studio

ALL_JOBS = 10_000
EXPORTED = (".onnx", ".xml", ".bin", ".pt")


class ModelWish(BaseModel):
    """A run, and what is to be done with it."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(max_length=200)


class TestWish(ModelWish):
    """Which images are scored: those with the given paths, else all for testing, or those of a camera among them."""

    paths: list[str] | None = Field(None, max_length=20_000)
    camera: str | None = Field(None, max_length=64)
    false_alarm_rate: float | None = Field(None, gt=0, lt=1)


class UpdateWish(ModelWish):
    """Learn from images that were reviewed as good."""

    dry_run: bool = False


class CalibrationWish(ModelWish):
    """Set a threshold from reviewed images, or from test images that are labelled good."""

    source: Literal["reviews", "test"] = "test"
    camera: str | None = Field(None, max_length=64)
    false_alarm_rate: float | None = Field(None, gt=0, lt=1)


class CameraWish(ModelWish):
    """The camera whose threshold is meant; None for the default."""

    camera: str | None = Field(None, max_length=64)


class ExportWish(ModelWish):
    """The runtime."""

    to: Literal["onnx", "openvino", "torchscript"] = "onnx"


def run_of(studio: Studio, name: str) -> str:
    """The path of a finished run, relative to the folder.

    Raises:
        UserError: there is none of this name.
    """
    path = studio.place.existing(f"{RUNS}/{name}")
    if path.parent != studio.place.root / RUNS or not RunFolder(path).is_finished:
        raise UserError("there is no trained model of this name", name, "train one first")
    return f"{RUNS}/{name}"


def unseen_tests(studio: Studio, run: str) -> list[StudioImage]:
    """The images for testing, without those that an update of the run has learned from: they would flatter it."""
    learned = {path for job in studio.jobs.recent(ALL_JOBS) if _has_learned(job, run) for path in job.facts["paths"]}
    return [image for image in studio.images.chosen("test") if image.path not in learned]


def _has_learned(job: Job, run: str) -> bool:
    return job.kind == "update" and job.state == "done" and job.facts["run"] == run and not job.facts["dry_run"]


def order_test(studio: Studio, wish: TestWish) -> Order:
    """Score images with a run."""
    run = run_of(studio, wish.run)
    advice: list[str] = []
    if wish.paths is None:
        images = unseen_tests(studio, run)
        if n_learned := len(studio.images.chosen("test")) - len(images):
            advice.append(f"{plural(n_learned, 'image')} to test left out: the model has learned from them")
        remedy = "drop images to test, or choose images and press T"
    else:
        images, remedy = [studio.images.of(path) for path in wish.paths], "choose some images"
    if wish.camera is not None:
        images, remedy = [image for image in images if image.camera == wish.camera], "choose another camera"
    if not images:
        raise UserError("there is no image to test", "Images", remedy)
    camera = _camera_words(studio, run, images)
    result = studio.place.relative(free_path(studio.place.root / RESULTS / wish.run))
    words = [
        "flawmap",
        "detect",
        *_shown(places_of(images, studio.images.all())),
        "--model",
        run,
        *camera,
        "--output",
        result,
    ]
    if wish.false_alarm_rate is not None:
        words += ["--false-alarm-rate", f"{wish.false_alarm_rate:g}"]
    facts = {"run": run, "result": result, "n_images": len(images)}
    return Order("test", f"Test {plural(len(images), 'image')}", words, facts, advice=advice)


def _camera_words(studio: Studio, run: str, images: Sequence[StudioImage]) -> list[str]:
    """The option that names the camera of images, for a model whose cameras have regions of interest of their own.

    Raises:
        UserError: they are of several cameras, and the command can name one.
    """
    rois = rois_of(load_recipe(RunFolder(studio.place.root / run).recipe, is_of_model=True))
    if rois is None or not rois.cameras:
        return []
    cameras = list(dict.fromkeys(image.camera or "" for image in images))
    if len(cameras) > 1:
        names = ", ".join(camera or "none" for camera in cameras)
        problem = f"each camera of this model has a region of its own, and these images are of several: {names}"
        raise UserError(problem, "Images", "choose a camera")
    return ["--camera", cameras[0]] if cameras[0] else []


def _shown(places: Sequence[str]) -> list[str]:
    """A path that begins with a dash is no option, and no pattern is meant."""
    return [f"./{place}" if place.startswith("-") else place for place in places]


def order_evaluation(studio: Studio, wish: ModelWish) -> Order:
    """Measure a run on the labelled test images."""
    run = run_of(studio, wish.run)
    images = [image for image in unseen_tests(studio, run) if image.label in ("good", "defect")]
    if len({image.label for image in images}) < 2:
        problem = "measuring needs test images that are labelled good, and others that are labelled defect"
        raise UserError(problem, "Images", "mark test images with G and D")
    listed = manifest("test", test=images)
    words = ["flawmap", "evaluate", run, listed.name, "--json"]
    title = f"Measure on {plural(len(images), 'labelled image')}"
    return Order("evaluate", title, words, {"run": run, "n_images": len(images)}, [listed])


def order_update(studio: Studio, wish: UpdateWish) -> Order:
    """Let a run learn from the images that people called good in reviews of it."""
    run = run_of(studio, wish.run)
    good = reviewed_as_good(studio, run)
    if not good:
        remedy = "review what the model found, and answer G where it is wrong"
        raise UserError("no image was reviewed as good", "Review", remedy)
    listed = reviews_file(studio, run)
    words = ["flawmap", "update", run, *_shown(places_of(good, studio.images.all())), "--reviews", listed.name]
    words += _camera_words(studio, run, good)
    words += ["--dry-run", "--json"] if wish.dry_run else ["--json"]
    title = f"{'Try to learn' if wish.dry_run else 'Learn'} from {plural(len(good), 'reviewed image')}"
    facts = {"run": run, "n_images": len(good), "dry_run": wish.dry_run, "paths": [image.path for image in good]}
    return Order("update", title, words, facts, [listed])


def order_undo(studio: Studio, wish: ModelWish) -> Order:
    """Return to the model before the last update."""
    run = run_of(studio, wish.run)
    if RunFolder(studio.place.root / run).version is None:
        raise UserError("this model was not updated", wish.run, "undo the calibration instead, if that is meant")
    return Order("undo", "Undo the last update", ["flawmap", "update", run, "--undo", "--json"], {"run": run})


def order_calibration(studio: Studio, wish: CalibrationWish) -> Order:
    """Set the threshold from good images that the run has not learned from."""
    run = run_of(studio, wish.run)
    words = ["flawmap", "calibrate", run]
    if wish.source == "reviews":
        listed, n_images = reviews_file(studio, run), None
    else:
        images = [image for image in unseen_tests(studio, run) if image.label == "good"]
        if not images:
            remedy = "label test images good, or calibrate with reviews"
            raise UserError("no test image is labelled good", "Images", remedy)
        listed, n_images = manifest("good", learn=images), len(images)
    words += [listed.name]
    if wish.camera:
        if not is_camera_name(wish.camera):
            raise UserError("a camera cannot have this name", wish.camera, "letters, digits, points and dashes")
        words += ["--camera", wish.camera]
    if wish.false_alarm_rate is not None:
        words += ["--false-alarm-rate", f"{wish.false_alarm_rate:g}"]
    return Order("calibrate", "Calibrate", [*words, "--json"], {"run": run, "n_images": n_images}, [listed])


def order_undo_calibration(studio: Studio, wish: CameraWish) -> Order:
    """Take back the last calibration."""
    run = run_of(studio, wish.run)
    camera = ["--camera", wish.camera] if wish.camera else []
    words = ["flawmap", "calibrate", run, "--undo", *camera, "--json"]
    return Order("undo", "Take back the calibration", words, {"run": run})


def order_export(studio: Studio, wish: ExportWish) -> Order:
    """Write the run as one file for a line."""
    run = run_of(studio, wish.run)
    words = ["flawmap", "export", run, "--to", wish.to, "--json"]
    return Order("export", f"Export for {wish.to}", words, {"run": run})


def order_report(studio: Studio, wish: ModelWish) -> Order:
    """Write the run's report."""
    run = run_of(studio, wish.run)
    return Order("report", "Write the report", ["flawmap", "report", run], {"run": run})


def models(studio: Studio) -> dict[str, Any]:
    """All runs of the studio, newest first."""
    folder = studio.place.root / RUNS
    runs = [RunFolder(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    found = [_facts(studio, run) for run in runs if run.is_finished]
    latest = latest_run(folder)
    return {
        "models": sorted(found, key=lambda facts: facts["finished"], reverse=True),
        "latest": latest.name if latest else None,
        "unfinished": [run.path.name for run in unfinished_runs(folder)],
    }


def _facts(studio: Studio, run: RunFolder) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": run.path.name, "finished": "", "problem": None}
    try:
        environment = run.read_environment()
        calibrations = read_calibrations(run.model)
        evaluation = read_evaluation(run.evaluation)
        unusual = read_unusual(run.unusual)
        facts |= {
            "finished": environment.get(FINISHED, ""),
            "command": environment.get("command", ""),
            "n_images": sum(row.split in ("train", "reviewed") for row in read_manifest(run.manifest)),
            "threshold": _threshold(calibrations.default),
            "cameras": {name: _threshold(one) for name, one in calibrations.cameras.items()},
            "version": run.version,
            "updates": [{"at": one.at, "n_new": one.n_new, "command": one.command} for one in updates_in_force(run)],
            "history": list(describe(read_history(run.model))),
            "exported": _exported(studio, run),
            "has_report": run.report.is_file(),
            "unusual": [image.key for image in unusual.images] if unusual else [],
            "measures": None
            if evaluation is None
            else {name: _measure(evaluation.image.get(name)) for name in ("auroc", "ap", "f1_max") if evaluation.image},
        }
    except UserError as error:
        facts["problem"] = {"problem": error.problem, "place": error.place, "remedy": error.remedy}
    return facts


def _threshold(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "threshold": calibration.threshold,
        "false_alarm_rate": calibration.false_alarm_rate,
        "words": calibration.words,
        "good_scores": list(calibration.held_out_scores),
    }


def _measure(measure: Measure | None) -> dict[str, float | None] | None:
    return None if measure is None else {"value": measure.value, "low": measure.low, "high": measure.high}


def _exported(studio: Studio, run: RunFolder) -> list[dict[str, Any]]:
    files = [path for path in sorted(run.path.iterdir()) if path.suffix in EXPORTED and path.is_file()]
    return [{"path": studio.place.relative(path), "bytes": path.stat().st_size} for path in files]


def download(studio: Studio, name: str) -> Path:
    """An exported file.

    Raises:
        UserError: it is no exported file of a run.
    """
    path = studio.place.existing(name)
    if path.suffix not in EXPORTED or path.parent.parent != studio.place.root / RUNS or not path.is_file():
        raise UserError("this is no exported file", name, "export the model again")
    return path

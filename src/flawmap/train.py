"""From a data location to a finished run folder; ``train``, ``demo`` and ``benchmark`` use it."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flawmap.advice import command
from flawmap.check import SoundData, read_sound_data, remarks, report_on
from flawmap.data.checks import MIN_IMAGES, FileFacts
from flawmap.data.leave_out import LeaveOut, read_leave_out
from flawmap.data.open_data import Location, absolute_locations, locations_of
from flawmap.data.rois import refuse_too_small
from flawmap.data.sample import LeftOut
from flawmap.data.split import split_normals
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import refuse_stage
from flawmap.engine.compute import Compute, choose_compute
from flawmap.engine.launch import refuse_other_number
from flawmap.engine.loggers import refuse_missing_loggers
from flawmap.engine.processes import from_first, is_first, together
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import environment
from flawmap.runs.manifest import (
    HELD_OUT,
    KNOWN_DEFECT,
    LEFT_OUT,
    ONLY_PRETRAINED,
    TRAIN,
    ManifestRow,
    read_manifest,
    write_manifest,
)
from flawmap.runs.model_config import record_of_run
from flawmap.runs.result_folders import exclusive, is_held
from flawmap.runs.run_folder import (
    DEFECTS,
    FINISHED,
    SKIPS_UNREADABLE,
    STARTED,
    RunFolder,
    create_run,
    iso_time,
    latest_run,
    open_run,
    set_latest,
    unfinished_runs,
)
from flawmap.runs.threshold_names import FEWEST_IMAGES, nearest_name, whose
from flawmap.runs.unusual import read_unusual, what_to_do
from flawmap.training_order import TrainingOrder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder


@dataclass(frozen=True)
class TrainedRun:
    """What a training has made, from how many good images, and what was left out beside them."""

    run: RunFolder
    detector: AnomalyDetector
    n_good: int = 0
    left_out: tuple[LeftOut, ...] = ()


def train_run(order: TrainingOrder, resumed: RunFolder | None) -> TrainedRun:
    """Check device, data and weights, train, calibrate and save.

    No run folder is made before all of these are there, and none is left where training could not begin. Of several
    processes this is the first; the others do what :func:`train_beside` says.
    """
    device, sound, rows = together(lambda: _ready(order, resumed))
    refuse_differing_data(rows)
    report = report_on(sound, order.recipe)
    for label, text in remarks(report):
        say(label, text)
    sides = [row.split for row in rows]
    say("split", described_split(sides.count(TRAIN), sides.count(HELD_OUT), order.recipe))
    refuse_missing_weights(order.recipe)
    run = together(lambda: resumed or create_run(order.run_path, sound.checked.data.name, order.recipe))
    try:
        with exclusive(run.path):
            write_manifest(run.manifest, rows)
            run.write_environment(environment(device) | _beginning_of(run, order))
            say("run", str(run.path))
            if resumed is None and (before := _unfinished_before(run, order)) is not None:
                again = command("flawmap", "train", *locations_of(order.location), "--run", before.path, "--resume")
                say("note", f"{before.path} was begun with the same data and settings; to continue it instead: {again}")
            detector = _fitted(order, sound, run)
            if order.stages != "pretrain":
                finish(run, detector, order.location)
    except UserError:
        if resumed is None and not run.has_results:  # such as --stage finetune without a finished stage 1
            run.discard()
        raise
    return TrainedRun(run, detector, report.good_images, report.passed_over)


def train_beside(order: TrainingOrder) -> None:
    """What all processes but the first do: read the same data, and share every batch. They leave no file."""
    _, sound, rows = together(lambda: _ready(order, None))
    refuse_differing_data(rows)
    refuse_missing_weights(order.recipe)
    together(lambda: None)  # the first one makes the run folder
    with TemporaryDirectory() as folder:
        _fitted(order, sound, RunFolder(Path(folder)))


def _fitted(order: TrainingOrder, sound: SoundData, run: RunFolder) -> AnomalyDetector:
    loggers = order.loggers if is_first() else ()
    how = order.device, order.stages, sound.pool, sound.known.defects, loggers, order.elsewhere
    return AnomalyDetector(order.recipe).fit(sound.checked.data, run, *how)


def _ready(order: TrainingOrder, resumed: RunFolder | None) -> tuple[str, SoundData, list[ManifestRow]]:
    """Everything that can be refused before there is a run folder: the device, the data, and a row for each image."""
    recipe = order.recipe
    devices, nodes = recipe.compute.devices, recipe.compute.nodes
    compute = choose_compute(order.device, recipe.training_precision, devices, recipe.encoder_precision, nodes)
    refuse_other_number(recipe, compute)
    refuse_stage(recipe, order.stages)
    if order.elsewhere is not None:
        refuse_elsewhere(recipe, compute)
    refuse_missing_loggers(order.loggers)
    how = order.skip_unreadable, order.strict, order.leave_out, order.defects
    sound = read_sound_data(order.location, recipe, *how)
    rows = _rows(sound, recipe)
    if resumed is not None:
        refuse_other_data(resumed, rows)
    return compute.device, sound, rows


def refuse_elsewhere(recipe: Recipe, compute: Compute) -> None:
    """Raises: UserError: the method encodes no shards, or another device than a processor would encode them here."""
    if recipe.method == "paper":
        problem = "the paper's method trains its encoder, and encodes nothing in advance"
        raise UserError(problem, "--cluster", "leave it out, or take a recipe such as standard")
    if compute.device != "cpu":
        problem = f"the nodes of a cluster encode on their processors, and this machine on {compute.device}"
        raise UserError(problem, "--cluster", "leave it out, or add --device cpu")


def refuse_missing_weights(recipe: Recipe) -> None:
    """The initial weights are there, and their patches fit into the regions of interest; fit loads its own.

    Raises:
        UserError: a process of this training does not find the weights, or a region is smaller than a patch.
    """
    encoder, _ = together(lambda: load_encoder(recipe.model, seed=recipe.seed))
    side_px = round_to_patches(recipe.training_size_px, encoder.patch_size_px)
    refuse_too_small(recipe, encoder.grid(side_px, side_px))


def _rows(sound: SoundData, recipe: Recipe) -> list[ManifestRow]:
    checked = sound.checked
    train, held_out = split_normals(checked.data.images, recipe.held_out_fraction, recipe.seed)
    side = {image.key: TRAIN for image in train} | {image.key: HELD_OUT for image in held_out}
    part_of = {image.key: (image.group, image.product, image.camera) for image in checked.data.images}
    rows = [_row(fact, side[fact.key], *part_of[fact.key]) for fact in checked.facts if fact.key in side]
    rows += [_row(fact, ONLY_PRETRAINED) for fact in sound.pool.facts]
    rows += [_row(fact, LEFT_OUT) for fact in sound.omitted.facts]
    known = zip(sound.known.facts, sound.known.defects, strict=True)
    return rows + [_row(fact, KNOWN_DEFECT, defect.group, None, defect.camera) for fact, defect in known]


def refuse_differing_data(rows: Sequence[ManifestRow]) -> None:
    """All processes of a training learn from the same images.

    Args:
        rows: of the images that this process has found.

    Raises:
        UserError: the first process has found others.
    """
    own = {(row.key, row.sha256, row.split) for row in rows}
    first = from_first(lambda: json.dumps(sorted(own)).encode("utf-8"))

    def compare() -> None:
        differing = sorted(own ^ {(key, sha256, split) for key, sha256, split in json.loads(first)})
        if differing:
            noun = "image is" if len({key for key, *_ in differing}) == 1 else "images are"
            problem = f"{len({key for key, *_ in differing})} {noun} not what the first process has found"
            raise UserError(problem, differing[0][0], "give all machines the same data, under the same path")

    together(compare)


def described_split(num_train: int, num_held_out: int, recipe: Recipe) -> str:
    """Which images train, and which set the threshold."""
    if recipe.method == "paper":
        return f"{num_train} train, {num_held_out} held out for the threshold (seed {recipe.seed})"
    if not recipe.calibration.folds:
        return f"{num_train} train, none sets a threshold"
    if num_train == 1:
        return "1 trains; there is no threshold"
    if num_train < MIN_IMAGES:
        return f"{num_train} train; for the threshold, each is scored without itself"
    return f"{num_train} train; for the threshold, {recipe.calibration.folds} folds (seed {recipe.seed})"


def _beginning_of(run: RunFolder, order: TrainingOrder) -> dict[str, Any]:
    """How and when a run was started; that of a resumed run stays."""
    before: dict[str, Any] = {}
    with suppress(UserError):  # a damaged record is no reason not to resume
        before = run.read_environment()
    return {
        "command": before.get("command") or order.command,
        STARTED: before.get(STARTED) or iso_time(),
        "seed": order.recipe.seed,
        "data": record_of(order.location),
        **({DEFECTS: record_of(order.defects)} if order.defects else {}),
        SKIPS_UNREADABLE: order.skip_unreadable,
    }


def _row(
    fact: FileFacts, split: str, group: str | None = None, product: str | None = None, camera: str | None = None
) -> ManifestRow:
    of_part = group or "", product or "", camera or ""
    return ManifestRow(fact.key, fact.sha256, split, fact.width_px, fact.height_px, fact.pixels_sha256, *of_part)


def record_of(location: Location) -> str | list[str]:
    """The data location, or the list of several, for readers in another folder."""
    found = absolute_locations(location)
    return found[0] if len(found) == 1 else found


def data_of(run: RunFolder) -> list[str] | None:
    """The locations that :func:`record_of` has recorded for a run; None where there is no such record.

    Raises:
        UserError: the record is damaged.
    """
    recorded = run.read_environment().get("data")
    return [recorded] if isinstance(recorded, str) else recorded if isinstance(recorded, list) else None


def defects_of(run: RunFolder) -> str | None:
    """Where the known defects are that a run was started with; None where there are none.

    Raises:
        UserError: the record is damaged.
    """
    recorded = run.read_environment().get(DEFECTS)
    return recorded if isinstance(recorded, str) else None


def defects_for(given: str | None, resumed: RunFolder | None) -> str | None:
    """Where the known defects are: the place that was given, else that which a resumed run was started with.

    Raises:
        UserError: a place is given for a run that is finished.
    """
    if given is not None and resumed is not None and resumed.is_finished:
        problem = "the run is finished, and its known defects cannot change"
        raise UserError(problem, str(resumed.path), "leave out --resume and --run to start a new run")
    return given if given is not None or resumed is None else defects_of(resumed)


def refuse_other_data(run: RunFolder, rows: Sequence[ManifestRow]) -> None:
    """A run resumes with the images it was started with.

    Args:
        run: to be resumed.
        rows: the images found now.

    Raises:
        UserError: images were added, removed or changed.
    """
    before = set(read_manifest(run.manifest))
    differing = sorted({row.key for row in before ^ set(rows)})
    if before and differing:
        noun = "image is" if len(differing) == 1 else "images are"
        raise UserError(
            f"{len(differing)} {noun} not what this run was started with, first: {differing[0]}",
            str(run.manifest),
            "put the images back, or train without --resume to start a new run",
        )


def finish(run: RunFolder, detector: AnomalyDetector, location: Location) -> None:
    """Save the detector into its run, which is then the latest, and print what training has found."""
    proxy, calibration = detector.proxy_, detector.calibration_
    if proxy is not None and proxy.image_auroc is not None and proxy.pixel_auroc is not None:
        say(
            "simulated",
            f"defects on good images: image AUROC {proxy.image_auroc:.3f}, pixel AUROC {proxy.pixel_auroc:.3f} "
            f"on {proxy.n} images (not a test result)",
        )
    _say_products(detector)
    if calibration is None:
        remedy = command("flawmap", "calibrate", run.path, "GOOD_IMAGES")
        is_wanted = detector.recipe.method != "paper" and detector.recipe.calibration.folds
        why = "from 1 image nothing can be promised" if is_wanted else "as the recipe says"
        say("threshold", f"none, {why}; next: {remedy}")
    else:
        for line in (*calibration.words, proxy.missed_words(calibration.threshold) if proxy else None):
            if line is not None:
                say("threshold", line)
    if detector.record_.known_defects is not None:
        say("defects", detector.record_.known_defects.words)
    if (found := read_unusual(run.unusual)) is not None:
        say("unusual", found.words)
        if found.images:
            skips = run.read_environment().get(SKIPS_UNREADABLE) is True
            for line in what_to_do(run, locations_of(location), defects_of(run), skips):
                say("unusual", line)
    detector.record_ = record_of_run(run)
    run.write_environment(run.read_environment() | {FINISHED: iso_time()})
    detector.save_pretrained(run.model)
    set_latest(run)


def _say_products(detector: AnomalyDetector) -> None:
    """The threshold of each product and camera that has its own, and which have none, if there is any threshold."""
    cameras = detector.calibrations_.cameras
    for name, count in detector.trained_.items() if detector.calibration_ is not None else ():
        own = cameras.get(name)
        few = f"the common one, because {count} good images are fewer than {FEWEST_IMAGES}"
        if own is not None or nearest_name(name, cameras) is None:
            say("threshold", f"{whose(name)}: {own.words[0] if own else few}")


def resumed_run(requested: Path | None, recipe: Recipe | None) -> RunFolder:
    """The run that ``--resume`` continues: ``requested``, else the unfinished one in runs/ that was started last.

    One in which another process works is passed over where there is another. Where no run is unfinished, the latest
    finished one is returned, which needs nothing.

    Raises:
        UserError: there is none, or a recipe was given that is not the run's.
    """
    path = requested or _run_to_resume()
    if path is None:
        raise UserError("there is no run to resume", "runs/", "flawmap train DATA, or name it with --run DIR")
    run = open_run(path)
    if recipe is not None and recipe != load_recipe(run.recipe, is_of_model=True):
        raise UserError(
            "the recipe differs from the one this run was started with",
            str(run.recipe),
            "leave out --recipe and --set to resume, or train without --resume to start a new run",
        )
    return run


def leaves_out(listed: str | None, resumed: RunFolder | None) -> LeaveOut | None:
    """The good images that are not learned from: those of a list, else those that a resumed run was started without.

    Raises:
        UserError: the list, or that of the run's images, cannot be read; or the run is finished.
    """
    if listed is not None and resumed is not None and resumed.is_finished:
        problem = "the run is finished, and its images cannot change"
        raise UserError(problem, str(resumed.path), "leave out --resume and --run to start a new run")
    if listed is not None:
        return read_leave_out(Path(listed))
    rows = read_manifest(resumed.manifest) if resumed is not None else ()
    names = tuple(row.key for row in rows if row.split == LEFT_OUT)
    return LeaveOut(names) if names else None


def skips_unreadable(run: RunFolder) -> bool:
    """Whether a run was started without the files that cannot be decoded; it is then resumed without them, too."""
    with suppress(UserError):  # a damaged record is no reason not to resume
        return run.read_environment().get(SKIPS_UNREADABLE) is True
    return False


def _unfinished_before(run: RunFolder, order: TrainingOrder) -> RunFolder | None:
    """A run beside a new one that the same order has begun, that was not finished, and that nobody works on."""
    for other in unfinished_runs(run.path.parent):
        with suppress(UserError):
            is_same = other.read_environment().get("data") == record_of(order.location)
            is_same = is_same and load_recipe(other.recipe, is_of_model=True) == order.recipe
            if is_same and other.path != run.path and not is_held(other.path):
                return other
    return None


def _run_to_resume() -> Path | None:
    unfinished = [run.path for run in unfinished_runs()]
    return next((path for path in unfinished if not is_held(path)), unfinished[0] if unfinished else latest_run())

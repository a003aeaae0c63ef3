"""What ``flawmap update`` does: let a run learn from further good images, and keep the result as a version of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import flawmap
from flawmap import advice
from flawmap.data.checks import CheckedData, FileFacts, check_good_images
from flawmap.data.known_defects import find_known_defects
from flawmap.data.left_out import refuse_left_out
from flawmap.data.open_data import Location, absolute_locations, locations_of, open_training_data
from flawmap.data.products import part_names
from flawmap.data.sample import KnownDefect, NormalImage, TrainingData
from flawmap.data.walk import walk
from flawmap.deploy.reviews import read_reviews
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.judge_unseen import deciding_scores
from flawmap.detect.update import ENCODING, TRAIN_AGAIN, learned_by, update_detector
from flawmap.engine.compute import DeviceName
from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.recipe.files import to_yaml
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import atomic_write_text, environment, file_sha256
from flawmap.runs.calibration import Calibration
from flawmap.runs.cameras import Calibrations
from flawmap.runs.manifest import KNOWN_DEFECT, REVIEWED, ManifestRow, read_manifest, write_manifest
from flawmap.runs.model_config import read_config, record_of_run
from flawmap.runs.model_folder import home_of, run_around
from flawmap.runs.result_folders import exclusive
from flawmap.runs.run_folder import FINISHED, MODEL, MODEL_CONFIG, VERSIONS, RunFolder, is_update, iso_time, open_run
from flawmap.runs.updates import (
    FORMAT,
    THE_DEFAULT,
    NewImage,
    Standing,
    UpdateRecord,
    make_current,
    put_in_force,
    read_update,
    this_user,
    unfinished_update,
    updates_in_force,
    updates_of,
)
from flawmap.train import data_of, defects_of

NAMED = 3  # images that the model has learned from already
TRAIN = "train"  # the role of images that set scales and threshold, as training images do


@dataclass(frozen=True)
class UpdateOrder:
    """What shall be learned.

    Attributes:
        images: where the good images are; with reviews, all folders in which the reviewed images may be.
        reviews: the reviews.csv of ``flawmap serve``; None where all images are a random sample of good parts.
        skip_unreadable: leave out files that cannot be decoded.
        strict: refuse folders with anything in them that is not read.
        device: where to compute.
        with_head: train the head again, on the images of before, which must still be there, and the new ones.
        dry_run: stop before the new version becomes current, and keep nothing.
        command: that repeats this, for the record.
        product, camera: of all the images; None: as the data says.
    """

    images: Location
    reviews: Path | None = None
    skip_unreadable: bool = False
    strict: bool = False
    device: DeviceName = "auto"
    with_head: bool = False
    dry_run: bool = False
    command: str = ""
    product: str | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Updated:
    """What an update has made: its version (None after a dry run), its record and the new images."""

    version: str | None
    record: UpdateRecord
    images: tuple[NewImage, ...]


def update_run(path: Path, order: UpdateOrder) -> Updated:
    """Let a run learn from further good images; its new model becomes the current one by the last step.

    Args:
        path: of a run folder.
        order: what shall be learned.

    Raises:
        UserError: no run, a model that cannot be updated, unusable images or reviews, no new image, or another process
            works in the run.
    """
    run = _run_at(path)
    with exclusive(run.path):
        detector = AnomalyDetector.from_pretrained(path, order.device)
        learned_by(detector)  # raises where a run keeps no tokens, before any image is read
        rows = read_manifest(run.manifest)
        files = _files_of(run, detector, rows) if order.with_head else None
        defects = _known_defects_of(run, detector, rows) if order.with_head else ()
        checked = _new_images(run, detector, order, rows)
        before, former = detector.calibrations_, run.version
        with unfinished_update(run) as unfinished:
            new = _learn(detector, checked, order, unfinished, files, defects)
            _write(unfinished, detector, [*rows, *_rows_of(checked, new, detector)], run, order)
            record = _record(detector, before, order, former, new, unfinished)
            version = None if order.dry_run else put_in_force(run, unfinished, record, new)
    return Updated(version, record, new)


def undo_update(path: Path) -> tuple[str, str | None]:
    """Return to the version before; its files are as they were. Called again, it goes one further back.

    Returns:
        the version that was current, and the one that is now; None for what the training made.

    Raises:
        UserError: the run was not updated, or another process works in it.
    """
    run = _run_at(path)
    with exclusive(run.path):
        current = run.version
        if current is None:
            problem = "the model of this run is that of its training: there is no update to undo"
            remedy = f"to take back a threshold: {advice.command('flawmap', 'calibrate', path, '--undo')}"
            raise UserError(problem, str(path), remedy)
        former = read_update(run, current).former
        make_current(run, former)
    return current, former


def _run_at(path: Path) -> RunFolder:
    """The run at a path.

    Raises:
        UserError: there is none, or a model or a version of a run is there.
    """
    if path.is_file():
        problem = "this is a file; only a run keeps what an update needs"
        raise UserError(problem, str(path), "name the run folder, and export it again afterwards")
    run, place = open_run(path), path.resolve()
    if is_update(place):
        remedy = advice.command("flawmap", "update", home_of(path / MODEL), "GOOD_IMAGES")
        raise UserError("this is a version of a run, not the run", str(path), remedy)
    if (path / MODEL_CONFIG).is_file():
        within = run_around(path)
        remedy = TRAIN_AGAIN if within is None else f"name the run: {advice.command(home_of(path))}"
        raise UserError("this is a model folder; only a run keeps what an update needs", str(path), remedy)
    return run


def _new_images(
    run: RunFolder, detector: AnomalyDetector, order: UpdateOrder, rows: Sequence[ManifestRow]
) -> CheckedData:
    """The good images that the run has not learned from, decoded once.

    Raises:
        UserError: there are none, or some cannot be read.
    """
    if order.reviews is not None:
        data = _reviewed_as_good(run, order.reviews, order.images)
    else:
        product_by = None if order.product else detector.recipe.data.product_by
        data = open_training_data(order.images, DataSettings(product_by=product_by))
        if order.strict:
            refuse_left_out(data.left_out, str(data.root))
    part_names(order.product, order.camera, "the command", "flawmap update")
    of_part = {"product": order.product} if order.product else {}
    of_part |= {"camera": order.camera} if order.camera else {}
    data = replace(data, images=tuple(replace(image, **of_part) for image in data.images))
    checked = check_good_images(data, order.skip_unreadable)
    known = {content: row.key for row in rows if row.split in (TRAIN, REVIEWED) for content in row.hashes}
    defects = {content: row.key for row in rows if row.split == KNOWN_DEFECT for content in row.hashes}
    kept: list[FileFacts] = []
    learned: list[str] = []
    for fact in checked.facts:
        if (defect := defects.get(fact.sha256) or defects.get(fact.pixels_sha256)) is not None:
            problem = f"{fact.key} is the known defect {defect} (same content), so it cannot be learned as good"
            raise UserError(problem, str(data.root), "remove it from the good images, or train again")
        if (same := known.get(fact.sha256) or known.get(fact.pixels_sha256)) is None:
            kept.append(fact)
        else:
            learned.append(f"{fact.key}: the model has learned from {same}, which has the same content")
    for line in learned[:NAMED]:
        say("left out", line)
    if (n_more := len(learned) - NAMED) > 0:  # new images often lie in the folder of the training
        say("left out", f"{n_more} more that the model has learned from")
    for key, same in checked.duplicates.items():
        say("left out", f"{key}: it has the pixels of {same}")
    if not kept:
        which = "this image" if len(checked.facts) == 1 else f"all {len(checked.facts)} images"
        problem = f"the model has learned from {which} already"
        raise UserError(problem, str(data.root), "give images that are new to it")
    keys = {fact.key for fact in kept}
    images = tuple(image for image in checked.data.images if image.key in keys)
    return replace(checked, data=replace(checked.data, images=images), facts=tuple(kept))


def _reviewed_as_good(run: RunFolder, reviews_at: Path, images: Location) -> TrainingData:
    """The images in some folders that people have reviewed as good, found by their content.

    Raises:
        UserError: reviews of another model, none of a good image, or no image of them is in the folders.
    """
    reviews = read_reviews(reviews_at)
    ids = _model_ids(run)
    if foreign := [review for review in reviews if review.model_id.partition("-")[0] not in ids]:
        problem = f"{len(foreign)} of {len(reviews)} reviews are of another model, first: {foreign[0].image}"
        raise UserError(problem, str(reviews_at), "give reviews of this run or of a file exported from it")
    good = {review.sha256: review for review in reviews if review.truth == "good"}
    if n_defects := len(reviews) - len(good):
        say("reviews", f"{n_defects} of {len(reviews)} are of defects, and are not learned from")
    if not good:
        raise UserError(
            "no image was reviewed as good", str(reviews_at), "agree with an ok verdict, or disagree with an anomaly"
        )
    roots = [Path(location) for location in locations_of(images)]
    found = {sha256: file for sha256, file in _by_content(roots).items() if sha256 in good}
    missing = [review.image for content, review in good.items() if content not in found]
    if not found:
        problem = f"none of the {len(good)} images reviewed as good is in these folders, first: {missing[0]}"
        raise UserError(problem, ", ".join(map(str, roots)), "name the folders with the reviewed image files")
    if missing:
        say("reviews", f"{len(missing)} images reviewed as good are not in these folders, first: {missing[0]}")
    names: dict[str, str] = {}  # of the files: several folders may have files of the same name
    for sha256, file in sorted(found.items(), key=lambda item: item[1]):
        names[f"{sha256[:8]}/{file.name}" if file.name in names else file.name] = sha256
    data = tuple(NormalImage(name, found[sha256], sha256) for name, sha256 in sorted(names.items()))
    return TrainingData(roots[0].resolve().name, roots[0], "reviewed images", data)


def _by_content(places: Sequence[Path]) -> dict[str, Path]:
    """The images in some folders, or these files, by the SHA-256 of their bytes.

    Raises:
        UserError: a place does not exist.
    """
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise UserError("there is no such file or folder", str(place), "name the folders with the image files")
        files += walk(place).images if place.is_dir() else [place]
    return {file_sha256(file): file for file in files}


def _files_of(run: RunFolder, detector: AnomalyDetector, rows: Sequence[ManifestRow]) -> dict[str, Path]:
    """Where the images are that the run has learned from, by the SHA-256 of their bytes.

    Raises:
        UserError: not all are where they were.
    """
    settings = detector.recipe.data
    data, remedy = data_of(run) or [], "put them back, or leave out --head, which needs none of them"
    try:
        paths = [image.path for image in open_training_data(data, settings).images] if data else []
        for record in updates_in_force(run):
            places = [Path(location) for location in record.locations]
            paths += places if record.reviews else [image.path for image in open_training_data(places, settings).images]
        files = _by_content(paths)
    except UserError as error:
        problem = f"the images that this run has learned from cannot be read: {error.problem}"
        raise UserError(problem, error.place, remedy) from error
    if missing := [row.key for row in rows if row.split in (TRAIN, REVIEWED) and row.sha256 not in files]:
        problem = f"{len(missing)} of the images that this run has learned from are gone, first: {missing[0]}"
        raise UserError(problem, ", ".join(data), remedy)
    return files


def _known_defects_of(run: RunFolder, detector: AnomalyDetector, rows: Sequence[ManifestRow]) -> list[KnownDefect]:
    """The known defects that the training of a run has learned from; none where it knew none.

    Raises:
        UserError: not all are where they were.
    """
    known = [row for row in rows if row.split == KNOWN_DEFECT]
    if not known:
        return []
    location, remedy = defects_of(run) or "", "put them back, or leave out --head, which needs none of them"
    found: dict[str, KnownDefect] = {}
    if Path(location).exists():
        _, listed = find_known_defects(location, detector.recipe.data)
        found = {file_sha256(defect.path): defect for defect in listed.images}
    if missing := [row.key for row in known if row.sha256 not in found]:
        problem = f"{len(missing)} of the known defects that this run has learned from are gone, first: {missing[0]}"
        raise UserError(problem, location or str(run.path), remedy)
    return [replace(found[row.sha256], sha256=row.sha256) for row in known]


def _model_ids(run: RunFolder) -> set[str]:
    """What reviews name a model of this run by: that of the training, or of any update."""
    models = [run.trained, *(RunFolder(run.path / VERSIONS / name).trained for name in updates_of(run))]
    hashes = [read_config(model / MODEL_CONFIG).weights_sha256 for model in models]
    return {sha256[:16] for sha256 in hashes if sha256}


def _learn(
    detector: AnomalyDetector,
    checked: CheckedData,
    order: UpdateOrder,
    unfinished: RunFolder,
    files: Mapping[str, Path] | None,
    defects: Sequence[KnownDefect],
) -> tuple[NewImage, ...]:
    """Let the detector learn; returns the new images, with what they score before and after."""
    scores = detector.score_samples(list(checked.data.images)).tolist()
    before = dict(zip((fact.sha256 for fact in checked.facts), scores, strict=True))
    known, is_reviewed = len(learned_by(detector).images), order.reviews is not None
    unseen = update_detector(detector, checked.data.images, is_reviewed, unfinished, order.device, files, defects)
    after: dict[int, float] = {}
    if unseen is not None:
        after = dict(zip(unseen.images, map(float, deciding_scores(detector, unseen)), strict=True))
    role = REVIEWED if is_reviewed else TRAIN
    return tuple(
        NewImage(image.key, sha256, role, before[sha256], after.get(number))
        for number, image in enumerate(learned_by(detector).images[known:], known)
        if (sha256 := image.sha256) is not None
    )


def _rows_of(checked: CheckedData, new: Sequence[NewImage], detector: AnomalyDetector) -> list[ManifestRow]:
    """What the list of images says of the new ones."""
    facts = {fact.sha256: fact for fact in checked.facts}
    learned = {image.key: image for image in learned_by(detector).images}
    rows = []
    for image in new:
        fact, of = facts[image.sha256], learned[image.path]
        of_part = of.group or "", of.product or "", of.camera or ""
        size_px = fact.width_px, fact.height_px
        rows.append(ManifestRow(image.path, image.sha256, image.role, *size_px, fact.pixels_sha256, *of_part))
    return rows


def _record(
    detector: AnomalyDetector,
    before: Calibrations,
    order: UpdateOrder,
    former: str | None,
    new: Sequence[NewImage],
    unfinished: RunFolder,
) -> UpdateRecord:
    """What was done, and what it changed."""
    cameras = {THE_DEFAULT: before.default, **before.cameras}
    kept = unfinished.checkpoint("").parent
    return UpdateRecord(
        format=FORMAT,
        former=former,
        at=iso_time(),
        by=this_user(),
        flawmap=flawmap.__version__,
        command=order.command,
        locations=tuple(absolute_locations(order.images)),
        reviews=None if order.reviews is None else str(order.reviews.absolute()),
        trains_head=order.with_head,
        n_new=len(new),
        n_images=len(learned_by(detector).images),
        kept_bytes=sum(file.stat().st_size for file in kept.iterdir()),
        before=_standing(before.default, [image.score_before for image in new]),
        after=_standing(detector.calibrations_.default, [image.score_after for image in new]),
        dropped=tuple(name for name, calibration in cameras.items() if calibration and not calibration.is_estimate),
    )


def _standing(calibration: Calibration | None, of_new: Sequence[float | None]) -> Standing:
    known = [score for score in of_new if score is not None]
    if calibration is None:
        return Standing(None, 0, 0, len(known), 0)
    threshold, scores = calibration.threshold, calibration.held_out_scores
    above, new_above = (sum(score > threshold for score in of) for of in (scores, known))
    return Standing(threshold, len(scores), above, len(known), new_above)


def _write(
    unfinished: RunFolder, detector: AnomalyDetector, rows: Sequence[ManifestRow], run: RunFolder, order: UpdateOrder
) -> None:
    """Write all of the new version but its record; config.json of the model comes last."""
    atomic_write_text(unfinished.recipe, to_yaml(detector.recipe))
    write_manifest(unfinished.manifest, rows)
    trained = run.read_environment()
    unfinished.write_environment(
        environment(detector.device)
        | {"command": order.command, "seed": detector.recipe.seed, "data": trained.get("data"), FINISHED: iso_time()}
    )
    for file in unfinished.checkpoint("").parent.iterdir():
        if not file.stem.endswith(ENCODING):
            file.unlink()  # the next update computes it anew
    detector.record_ = record_of_run(unfinished)
    detector.save_pretrained(unfinished.trained)

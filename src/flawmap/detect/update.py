"""A detector learns from further good images: what its run keeps of the earlier ones is joined by them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flawmap.data.groups import by_image_if_few, grouped_as_trained
from flawmap.data.products import refuse_without_product
from flawmap.data.sample import KnownDefect, NormalImage, content_hash
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import ALGORITHM_VERSION
from flawmap.detect.judge_unseen import calibrations_of, deciding_scores
from flawmap.detect.pretrained import weights_of
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext, is_result
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.memory.good_images import GoodImages
from flawmap.memory.scorer import TokenScorer
from flawmap.memory.tiled_scorer import TiledScorer
from flawmap.memory.units import Tiles, WholeImages
from flawmap.memory.update import Learned, fit_on
from flawmap.reproducibility import file_sha256
from flawmap.runs.cameras import Calibrations
from flawmap.runs.manifest import REVIEWED, read_manifest
from flawmap.runs.model_config import ModelRecord
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.threshold_names import trained_names
from flawmap.scorer import UnseenScores
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.positions import round_to_patches

TRAIN_AGAIN = "train again with the old and the new images: flawmap train OLD_IMAGES NEW_IMAGES"
ENCODING = "encoding"  # the stage whose result an update goes on from


def update_detector(
    detector: AnomalyDetector,
    images: Sequence[NormalImage],
    is_reviewed: bool,
    run: RunFolder,
    device: DeviceName = "auto",
    files: Mapping[str, Path] | None = None,
    defects: Sequence[KnownDefect] = (),
) -> UnseenScores | None:
    """See :meth:`AnomalyDetector.update`.

    Args:
        detector: that learns.
        images: good images.
        is_reviewed: whether they were chosen for their scores.
        run: for the results.
        device: where to compute.
        files: where the images are that it has learned from, by the SHA-256 of their bytes: its head is trained again.
            None keeps the head.
        defects: known ones, which a head that is trained again learns from.

    Returns:
        what all images that the run keeps whole score by fits that have not seen them; None without folds.
    """
    scorer, learned = _scorer_of(detector), learned_by(detector)
    if files is not None:
        found = (replace(image, path=files[image.sha256 or ""]) for image in learned.images)
        learned = replace(learned, images=tuple(found))
    recipe = detector.recipe
    new = only_new(images, learned.images)
    if not new:
        raise UserError("none of these images is new: the model has learned from all of them", "", "give other images")
    new = grouped_as_trained(new, recipe.data.group_by)
    refuse_without_product((*learned.images, *new), "the new images")
    compute = choose_compute(device, recipe.training_precision, recipe.compute.devices, recipe.encoder_precision)
    inputs = {
        "algorithm": ALGORITHM_VERSION,
        "updated": hashlib.sha256(weights_of(scorer)).hexdigest(),
        "images": content_hash((*learned.images, *new)),
        "is_reviewed": is_reviewed,
        "trains_head": files is not None,
    }
    size_px = round_to_patches(recipe.data.image_size_px, scorer.encoder.patch_size_px)
    context = StageContext(run, compute, recipe.seed, size_px, inputs, is_shared=False)
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    fitted, now = fit_on(scorer, learned, new, is_reviewed, recipe, context, simulate, files is not None, defects)
    rate = (detector.calibrations_.default or recipe.calibration).false_alarm_rate
    detector.scorer_, detector.learned_ = fitted.scorer.to(compute.device).eval(), now
    detector.stage_keys_, detector.encoder_backend_ = fitted.stage_keys, detector.scorer_.encoder_backend
    detector.proxy_ = detector.self_test_ = detector.weights_sha256_ = detector.camera_ = None
    detector.calibrations_, detector.trained_ = Calibrations(), trained_names(now.images)
    detector.record_, detector.unseen_scores_ = ModelRecord(), ()
    if (unseen := fitted.unseen) is not None:
        judged = by_image_if_few(now.images)
        scored = [judged[number] for number in unseen.images]
        detector.unseen_scores_ = tuple(
            (float(score), image.group) for score, image in zip(deciding_scores(detector, unseen), scored, strict=True)
        )
        detector.calibrations_ = calibrations_of(detector, scored, unseen, rate, now.not_counted)
    return fitted.unseen


def only_new(images: Sequence[NormalImage], known: Sequence[NormalImage]) -> tuple[NormalImage, ...]:
    """The images whose bytes no other one has, named so that no name stands for two of all."""
    seen, names, kept = {image.sha256 for image in known}, {image.key for image in known}, []
    for image in images:
        sha256 = image.sha256 or file_sha256(image.path)
        if sha256 in seen:
            say("left out", f"{image.key}: the model has learned from an image with the same content")
            continue
        key = image.key if image.key not in names else f"{sha256[:8]}/{image.key}"
        seen.add(sha256)
        names.add(key)
        kept.append(replace(image, key=key, sha256=sha256))
    return tuple(kept)


def learned_by(detector: AnomalyDetector) -> Learned:
    """What a detector was fitted to.

    Raises:
        UserError: its run does not keep that, or not any more.
    """
    if detector.learned_ is None:
        if detector.run_ is None:
            problem = "this model is in no run, which would keep the tokens of its images"
            raise UserError(problem, "", f"give the run folder of flawmap train; or {TRAIN_AGAIN}")
        detector.learned_ = read_learned(detector.run_, _scorer_of(detector), detector.stage_keys_)
    return detector.learned_


def read_learned(run: RunFolder, scorer: TokenScorer | TiledScorer, stage_keys: Mapping[str, str]) -> Learned:
    """What the scorer of a run was fitted to.

    Args:
        run: that keeps it.
        scorer: of its model.
        stage_keys: of its model; tokens under other keys are of another training.

    Raises:
        UserError: the run does not keep it, or it is damaged.
    """
    rows = [row for row in read_manifest(run.path / "data_manifest.csv") if row.split in ("train", REVIEWED)]
    images = tuple(
        NormalImage(row.key, Path(row.key), row.sha256, row.group or None, row.product or None, row.camera or None)
        for row in rows
    )
    not_counted = frozenset(number for number, row in enumerate(rows) if row.split == REVIEWED)
    whole, tiles = WholeImages.name + ENCODING, Tiles.name + ENCODING
    of_whole = _encoding_of(run, whole, stage_keys.get(whole))
    of_tiles = _encoding_of(run, tiles, stage_keys.get(tiles)) if isinstance(scorer, TiledScorer) else None
    if not images:
        problem = "the run has no list of the images that it has learned from"
        raise UserError(problem, str(run.path / "data_manifest.csv"), TRAIN_AGAIN)
    if len(of_whole.images) != len(images):
        problem = f"the run keeps the tokens of {len(of_whole.images)} images, and its list of images has {len(images)}"
        raise UserError(problem, str(run.path), TRAIN_AGAIN)
    return Learned(images, not_counted, of_whole, of_tiles)


def _encoding_of(run: RunFolder, name: str, key: str | None) -> GoodImages:
    """What the encoder gave for the images of a model, from its run or from a stage that runs share."""
    own = run.stage_output(name)
    path = next((path for path in (own, run.shared_stage(name, key or "")) if is_result(path, key)), None)
    if path is None:
        state = "are damaged, or of another training," if own.is_file() else "are not there any more"
        raise UserError(f"the tokens of the images that this model was trained on {state}", str(own), TRAIN_AGAIN)
    try:
        return GoodImages.of(read_tensors(path))
    except (KeyError, TypeError) as error:
        raise UserError("an earlier flawmap kept the tokens in another form", str(path), TRAIN_AGAIN) from error


def _scorer_of(detector: AnomalyDetector) -> TokenScorer | TiledScorer:
    scorer = detector.scorer_
    if scorer is None:
        raise UserError("this detector is not fitted", "AnomalyDetector", "call fit(), or from_pretrained()")
    if not isinstance(scorer, TokenScorer | TiledScorer):
        problem = "a model of the method 'paper' keeps no tokens of its images, so it cannot be updated"
        raise UserError(problem, "method", TRAIN_AGAIN)
    return scorer

"""A detector is fitted: its scorer, then what is set and measured on images that a fit has not seen."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from flawmap.data.groups import by_image_if_few, grouped
from flawmap.data.known_defects import known_defects_for
from flawmap.data.pool import Pool, read_pool_for
from flawmap.data.products import with_products
from flawmap.data.rois import with_roi_content
from flawmap.data.sample import KnownDefect, NormalImage
from flawmap.data.split import split_normals
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import StageChoice, fit_scorer
from flawmap.detect.judge_known import judge_known
from flawmap.detect.judge_unseen import judge_unseen
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.elsewhere import Elsewhere
from flawmap.engine.launch import refuse_other_number
from flawmap.engine.loggers import Loggers
from flawmap.engine.progress import say
from flawmap.recipe.checks import validate
from flawmap.recipe.files import to_yaml
from flawmap.runs.cameras import Calibrations
from flawmap.runs.model_config import ModelRecord
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.samples import read_samples
from flawmap.runs.threshold_names import trained_names


def fit_detector(
    detector: AnomalyDetector,
    images: Sequence[NormalImage],
    run: RunFolder,
    device: DeviceName,
    stages: StageChoice,
    pool: Pool | None,
    defects: str | Path | Sequence[KnownDefect],
    loggers: Loggers,
    elsewhere: Elsewhere | None = None,
) -> AnomalyDetector:
    """See :meth:`AnomalyDetector.fit`."""
    recipe = detector.recipe = with_roi_content(detector.recipe)
    validate(recipe)
    detector.scorer_ = detector.camera_ = detector.proxy_ = detector.self_test_ = detector.weights_sha256_ = None
    detector.run_ = detector.learned_ = None
    detector.calibrations_, detector.record_, detector.unseen_scores_ = Calibrations(), ModelRecord(), ()
    normals = by_image_if_few(grouped(images, recipe.data.group_by))
    normals = with_products(normals, recipe.data.product_by, "data")
    known = known_defects_for(defects, normals, recipe)
    train, held_out = split_normals(normals, recipe.held_out_fraction, recipe.seed)
    pool = read_pool_for(normals, recipe) if pool is None else pool
    devices, nodes = recipe.compute.devices, recipe.compute.nodes
    compute = choose_compute(device, recipe.training_precision, devices, recipe.encoder_precision, nodes)
    refuse_other_number(recipe, compute)
    precision = "int8" if recipe.encoder_precision == "int8" else compute.precision
    say("device", f"{compute.device}, {precision}: {compute.reason}")
    others = {"pool": pool.images, "defects": known, "loggers": loggers, "elsewhere": elsewhere}
    fitted = fit_scorer(train, recipe, run, compute, stages, **others)
    detector.trained_ = trained_names(train)
    detector.origin_, detector.stage_keys_ = fitted.origin, fitted.stage_keys
    if fitted.scorer is None:
        return detector
    detector.scorer_, detector._at_once = fitted.scorer.to(compute.device).eval(), None
    detector.encoder_backend_ = detector.scorer_.encoder_backend
    if fitted.unseen is not None or held_out:
        judged = held_out if fitted.unseen is None else [train[number] for number in fitted.unseen.images]
        judge_unseen(detector, judged, fitted, compute, run)
    if fitted.unseen_defects is not None:
        judge_known(detector, known, fitted.unseen_defects, run)
    _log_result(detector, run, len(normals), loggers)
    return detector


def _log_result(detector: AnomalyDetector, run: RunFolder, n_good: int, loggers: Loggers) -> None:
    """What the training found, for loggers: numbers, pictures of what it saw, and the recipe."""
    if not loggers.of_lightning:
        return
    calibration, proxy = detector.calibration_, detector.proxy_
    numbers: dict[str, float | None] = {"good_images": float(n_good)}
    if calibration is not None:
        numbers |= {"threshold": calibration.threshold, "map_threshold": calibration.map_threshold}
    if proxy is not None:
        numbers |= {"simulated_image_auroc": proxy.image_auroc, "simulated_pixel_auroc": proxy.pixel_auroc}
    loggers.metrics({name: value for name, value in numbers.items() if value is not None}, 0, "result")
    loggers.settings(yaml.safe_load(to_yaml(detector.recipe)))
    for row in read_samples(run.samples):
        for column, file in row.files.items():
            loggers.picture(f"samples/{column}/{row.number}", file)

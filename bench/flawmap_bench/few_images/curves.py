"""Fits each method to few good images, draw by draw, and measures it on the same test images; resumable."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import Fitted
from flawmap.detect.judge_unseen import judge_unseen
from flawmap.engine.compute import choose_compute
from flawmap.engine.progress import say
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import fit_units
from flawmap.memory.fitted import unseen_scores
from flawmap.memory.units import WholeImages
from flawmap.memory.views import KINDS, VIEWS, views_of
from flawmap.metrics.ranking import auroc
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.weights import WeightsOrigin
from flawmap_bench.few_images.board import FewImagesBoard, images_of
from flawmap_bench.few_images.peers import anomaly_dino, as_array, patchcore

FLAWMAP, NO_VIEWS, ALL_VIEWS = "flawmap", "flawmap, no views", "flawmap, all views"
DINO, PATCHCORE = "AnomalyDINO", "PatchCore-10 %"
VIEWS_OF: dict[str, tuple[int, ...] | None] = {
    FLAWMAP: None,
    NO_VIEWS: (),
    ALL_VIEWS: tuple(range(len(VIEWS))),
    **{f"flawmap, {kind}": views_of([kind]) for kind in KINDS},
}
METHODS = (*VIEWS_OF, DINO, PATCHCORE)
DEFAULT_METHODS = (FLAWMAP, NO_VIEWS, DINO, PATCHCORE)
TURNS_UP_TO = 16  # good images: AnomalyDINO turns few


@dataclass(frozen=True)
class Point:
    """One method with the good images of one draw.

    Attributes:
        number: of good images; None: all.
        num_good: how many these are.
        image_auroc, aupro: on the test images; AUPRO is None without masks.
        false_alarms, missed: shares at the method's own threshold; None without one.
        missed_simulated: what the method itself estimates.
        smallest_rate: of false alarms, that so many images can promise.
        kinds: of views in the memory.
        seconds: of processor time, without what the encoder had given before.
    """

    board: str
    method: str
    draw: int
    number: int | None
    num_good: int
    image_auroc: float
    aupro: float | None
    false_alarms: float | None = None
    missed: float | None = None
    missed_simulated: float | None = None
    smallest_rate: float | None = None
    kinds: tuple[str, ...] = ()
    seconds: float = 0.0


def run_point(
    board: FewImagesBoard, method: str, draw: int, number: int | None, recipe: Recipe, folder: Path
) -> Point | None:
    """Fit and measure, unless the folder has the result; None where a method cannot be fitted to one image."""
    path = (
        folder
        / f"{board.name.replace('/', '-')}-{method.replace(' ', '_').replace('%', '')}-{number or 'all'}-{draw}.json"
    )
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        return Point(**{**found, "kinds": tuple(found["kinds"])})
    if number == 1 and method == NO_VIEWS:
        return None
    images = board.drawn(draw, number)
    began = time.process_time()
    measure = _flawmap if method in VIEWS_OF else _peer
    point = replace(measure(board, method, images, draw, recipe), number=number)
    point = replace(point, seconds=time.process_time() - began)
    of = f"{len(images)} images, draw {draw}"
    say("few images", f"{board.name}, {method}, {of}: {100 * point.image_auroc:.1f}, {point.seconds:.0f} s")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(asdict(point)))
    return point


def _flawmap(board: FewImagesBoard, method: str, images: Sequence[NormalImage], draw: int, recipe: Recipe) -> Point:
    recipe = replace(recipe, seed=draw, method="memory")  # the head draws maps only, and costs as much as all the rest
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    units, compute = WholeImages(images, views=VIEWS_OF[method]), choose_compute("cpu", "fp32")
    with tempfile.TemporaryDirectory(prefix="flawmap-few-") as folder:
        run = RunFolder(Path(folder))
        context = StageContext(run, compute, draw, recipe.data.image_size_px, {}, is_shared=False)
        fitted = fit_units(units, board.encoder, recipe, context, simulate)
        numbers = fitted.good.numbers_of_views
        detector = AnomalyDetector(recipe)
        detector.scorer_ = fitted.scorer.eval()
        unseen = unseen_scores(fitted, recipe)
        if unseen is not None:
            weights = WeightsOrigin(*[""] * len(WeightsOrigin.__dataclass_fields__))
            judged = [images[number] for number in unseen.images]
            judge_unseen(detector, judged, Fitted(fitted.scorer, board.encoder, weights, {}, unseen), compute, run)
        with torch.no_grad():
            scores, maps = as_array([fitted.scorer.score(image) for image in board.test])
    point = _measured(board, method, images, draw, scores, maps)
    kinds = tuple(kind for kind in KINDS if set(views_of([kind])) & set(numbers))
    calibration, proxy = detector.calibration_, detector.proxy_
    if calibration is None or proxy is None:
        return replace(point, kinds=kinds)
    above, of_defects = scores > calibration.threshold, np.array(proxy.defect_scores)
    return replace(
        point,
        false_alarms=float(above[~board.is_anomalous].mean()),
        missed=float(1 - above[board.is_anomalous].mean()),
        missed_simulated=float((of_defects <= calibration.threshold).mean()),
        smallest_rate=calibration.smallest_resolvable_rate,
        kinds=kinds,
    )


def _peer(board: FewImagesBoard, method: str, images: Sequence[NormalImage], draw: int, recipe: Recipe) -> Point:
    squares = images_of(images, recipe.data.image_size_px)
    if method == DINO:
        scored = anomaly_dino(board.encoder, squares, turns=len(images) <= TURNS_UP_TO)
    else:
        scored = patchcore(board.encoder, squares, board.encoder.blocks, draw)
    with torch.no_grad():
        scores, maps = as_array([scored(image) for image in board.test])
    return _measured(board, method, images, draw, scores, maps)


def _measured(
    board: FewImagesBoard,
    method: str,
    images: Sequence[NormalImage],
    draw: int,
    scores: Float[np.ndarray, "t"],
    maps: Float[Tensor, "t r c"],
) -> Point:
    found = auroc(scores, board.is_anomalous)
    assert found is not None
    return Point(board.name, method, draw, None, len(images), found, board.aupro(maps))

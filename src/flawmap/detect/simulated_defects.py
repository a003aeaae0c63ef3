"""Simulated defects on good images that a fit has not seen: does it find them?

The images were held out of training, or of a fold's fit. The defects on them are fixed by the seed, so runs can be
compared. The numbers say how well the simulated defects were learned; they are not a test result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import RegionsOfInterest, roi_of_each
from flawmap.data.sample import NormalImage
from flawmap.detect.detection import refuse_not_finite
from flawmap.detect.scoring import Analysis, analyse, analysis_of, score_names
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import Compute
from flawmap.engine.in_order import batches_of
from flawmap.engine.sampling import evenly_spread
from flawmap.memory.views import FEW
from flawmap.metrics.ranking import BinnedScores, auroc
from flawmap.paper.patch_masking import attention_patch_mask
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import numpy_generator
from flawmap.runs.calibration import MapScale
from flawmap.runs.model_config import ProxyScores
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.samples import DROPPED_GRAY, SampleColumn, sample_file, write_map_ends
from flawmap.scorer import ScaleResult, Scorer, UnseenScores
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.simulated_anomaly import anomaly_inside
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder

MAX_IMAGES = 64
MIN_DEFECTS = 32  # few images get several each
MAX_TILED_IMAGES = 16  # each is scored at several times the work, and kept as large as it is
NUM_SAMPLES = 6


@dataclass(frozen=True)
class GoodSquare:
    """A good image, resized to a square, or, where tiles are scored, as it is; defects are simulated on it.

    Attributes:
        square: the pixels.
        attention: A^[CLS] on the patch grid.
        fold: of the image; 0 where there are no folds.
        scales: what a fit gave for it that has not seen it; empty where none was asked yet.
    """

    square: UInt8[np.ndarray, "h w 3"]
    attention: Float[np.ndarray, "r c"]
    fold: int = 0
    scales: tuple[ScaleResult, ...] = ()
    roi: RegionOfInterest | None = None


@dataclass(frozen=True)
class SimulatedDefect:
    """A good image and its fixed simulated defect."""

    good: GoodSquare
    simulated: UInt8[np.ndarray, "h w 3"]
    footprint: Bool[np.ndarray, "h w"]


def squares_of(images: Sequence[NormalImage], guide: Encoder, size_px: int, compute: Compute) -> list[GoodSquare]:
    """At most :data:`MAX_IMAGES` images, evenly over all, resized to a square, with their attention; not scored yet.

    No region of interest counts: the method that sets its thresholds from such images knows none.
    """
    pixels = NormalPixels([images[number] for number in evenly_spread(len(images), MAX_IMAGES)], size_px)
    attention = cache_attention(guide, pixels, size_px, compute.device)
    return [GoodSquare(pixels[number], attention[number]) for number in range(len(pixels))]


def unseen_squares(
    images: Sequence[NormalImage], unseen: UnseenScores, size_px: int, rois: RegionsOfInterest | None = None
) -> list[GoodSquare]:
    """As many images that fits have scored which have not seen them.

    Args:
        images: those of ``unseen``.
        unseen: their scores.
        size_px: at which they were scored.
        rois: the part of each that counts; None: all.
    """
    are_tiled = len(unseen.scales[0]) > 1
    rows = evenly_spread(len(images), MAX_TILED_IMAGES if are_tiled else MAX_IMAGES)
    chosen = [images[row] for row in rows]
    of_images = roi_of_each(rois, chosen)
    each = [None] * len(rows) if of_images is None else of_images
    if are_tiled:
        pixels = [read_image(image.path) for image in chosen]
        pixels = [
            image if roi is None else roi.with_grey_outside(image) for image, roi in zip(pixels, each, strict=True)
        ]
    else:
        squares = NormalPixels(chosen, size_px, rois=of_images)
        pixels = [squares[place] for place in range(len(rows))]
    return [
        GoodSquare(square, unseen.attention[row], unseen.folds[row], unseen.scales[row], roi)
        for square, row, roi in zip(pixels, rows, each, strict=True)
    ]


def several_each(squares: Sequence[GoodSquare], num_images: int) -> list[GoodSquare]:
    """Squares of few images, so often that one defect on each makes :data:`MIN_DEFECTS`; of many, as they are."""
    return [*squares] * (1 if num_images >= FEW else -(-MIN_DEFECTS // len(squares)))


def simulate_on(squares: Sequence[GoodSquare], recipe: Recipe) -> list[SimulatedDefect]:
    """One fixed defect on each image, made as in training but without augmentation; inside the region of interest."""
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    defects = []
    for index, good in enumerate(squares):
        generator = numpy_generator(recipe.seed, "held out", index)
        second = None
        if "second" in simulate.needs:
            second = resize_image(squares[(index + 1) % len(squares)].square, *good.square.shape[:2])
        roi, (rows, columns) = good.roi, good.attention.shape
        attention = good.attention if roi is None else good.attention * roi.patches((rows, columns))
        anomaly = simulate(good.square, generator, attention, second)
        if roi is not None:
            inside = anomaly.footprint & roi.at(*good.square.shape[:2])
            anomaly = anomaly_inside(good.square, anomaly.image, inside)
        defects.append(SimulatedDefect(good, anomaly.image, anomaly.footprint))
    return defects


@dataclass(frozen=True)
class ScoredDefects:
    """What a scorer gives for simulated defects.

    Attributes:
        scores: how well images with defects are told from the same images without them.
        maps: the anomaly maps of the first :data:`NUM_SAMPLES` images with defects.
    """

    scores: ProxyScores
    maps: list[Float[np.ndarray, "_ _"]]


def score_defects(
    scorer_without: Callable[[int], Scorer],
    defects: Sequence[SimulatedDefect],
    sizes_px: Sequence[int],
    image_score: str,
    at_once: ImagesAtOnce,
) -> ScoredDefects:
    """Score each image with its defect, and without it where that has not been done yet.

    Args:
        scorer_without: gives the scorer that has not seen the images of a fold.
        defects: to score.
        sizes_px: sides of the squares that are scored.
        image_score: which score tells images apart.
        at_once: how many images share a pass.
    """
    pixels, scores, labels, maps = BinnedScores(), [], [], dict[int, np.ndarray]()
    for number, without, analysis in _analyses(scorer_without, defects, sizes_px, at_once):
        footprint = defects[number].footprint
        for found, mask in ((without, np.zeros_like(footprint)), (analysis, footprint)):
            refuse_not_finite(found.scores, found.anomaly_map)
            counted = np.ones_like(mask) if found.inside is None else found.inside
            pixels.add(found.anomaly_map[counted], mask[counted])
            scores.append(found.scores[image_score])
            labels.append(bool(mask.any()))
        if number < NUM_SAMPLES:
            maps[number] = analysis.anomaly_map
    of_defects = tuple(sorted(float(score) for score, is_defect in zip(scores, labels, strict=True) if is_defect))
    proxy = ProxyScores(auroc(np.array(scores), np.array(labels)), pixels.auroc(), len(defects), of_defects)
    return ScoredDefects(proxy, [maps[number] for number in sorted(maps)])


def _analyses(
    scorer_without: Callable[[int], Scorer],
    defects: Sequence[SimulatedDefect],
    sizes_px: Sequence[int],
    at_once: ImagesAtOnce,
) -> Iterator[tuple[int, Analysis, Analysis]]:
    """Of each defect its number, and the analyses of the image without it and with it, fold by fold."""
    for fold in sorted({defect.good.fold for defect in defects}):
        scorer = scorer_without(fold)
        numbers = [number for number, defect in enumerate(defects) if defect.good.fold == fold]
        for batch in batches_of(numbers, at_once.size):
            goods = [defects[number].good for number in batch]
            without = _analyses_without(scorer, goods, sizes_px, at_once)
            images = [defects[number].simulated for number in batch]
            yield from zip(batch, without, analyse(scorer, images, sizes_px, at_once, _rois_of(goods)), strict=True)
        del scorer  # before that of the next fold is made


def _analyses_without(
    scorer: Scorer,
    goods: Sequence[GoodSquare],
    sizes_px: Sequence[int],
    at_once: ImagesAtOnce,
) -> list[Analysis]:
    """The analyses of images without their defects; from training where they were scored there, at their only size."""
    if not all(good.scales for good in goods):
        return list(analyse(scorer, [good.square for good in goods], sizes_px, at_once, _rois_of(goods)))
    names = score_names(scorer)
    sides = [good.square.shape[:2] for good in goods]
    return [analysis_of(good.scales, h, w, names, good.roi) for good, (h, w) in zip(goods, sides, strict=True)]


def _rois_of(goods: Sequence[GoodSquare]) -> list[RegionOfInterest] | None:
    """The region of each; None where all of each counts, which is so of all or none."""
    rois = [good.roi for good in goods if good.roi is not None]
    return rois or None


def write_samples(
    run: RunFolder,
    defects: Sequence[SimulatedDefect],
    maps: Sequence[Float[np.ndarray, "_ _"]],
    drop_ratio: float,
    map_scale: MapScale,
) -> None:
    """Images of input, attention, masked view, simulated defect, footprint and map (the paper's Figs. 1 and 4)."""
    run.samples.mkdir(exist_ok=True)
    write_map_ends(run.samples, map_scale)
    for number, (defect, anomaly_map) in enumerate(zip(defects, maps, strict=False)):
        height, width = defect.footprint.shape
        attention = cv2.resize(defect.good.attention, (width, height), interpolation=cv2.INTER_NEAREST)
        pictures: dict[SampleColumn, np.ndarray] = {
            "input": defect.good.square,
            "attention": _gray(attention / max(float(attention.max()), 1e-12)),
            "masked": masked_view(defect.good.square, defect.good.attention, drop_ratio),
            "simulated": defect.simulated,
            "footprint": _gray(defect.footprint.astype(np.float32)),
            "map": _gray((anomaly_map - map_scale.low) / (map_scale.high - map_scale.low)),
        }
        for name, picture in pictures.items():
            Image.fromarray(picture).save(sample_file(run.samples, number, name))


def masked_view(
    image: UInt8[np.ndarray, "h w 3"], attention: Float[np.ndarray, "r c"], drop_ratio: float
) -> UInt8[np.ndarray, "h w 3"]:
    """What APMask leaves of an image; dropped patches are gray."""
    rows, columns = attention.shape
    mask = attention_patch_mask(torch.from_numpy(attention.reshape(1, -1)), drop_ratio).reshape(rows, columns).numpy()
    dropped = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    return np.where(dropped[..., None], np.uint8(DROPPED_GRAY), image)


def _gray(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """[0, 1] -> 0..255."""
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)

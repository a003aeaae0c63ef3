"""Simulated defects on held-out good images: does the detector find them?

The images were held out of training. The defects on them are fixed by the seed, so runs can be compared. The numbers
say how well the simulated defects were learned; they are not a test result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.detect.detection import refuse_not_finite
from flawmap.detect.scoring import Analysis, ScaleResult, analyse, analysis_of, score_names
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import Compute
from flawmap.engine.in_order import batches_of
from flawmap.engine.sampling import evenly_spread
from flawmap.metrics.ranking import BinnedScores, auroc
from flawmap.paper.patch_masking import attention_patch_mask
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import numpy_generator
from flawmap.runs.calibration import MapScale
from flawmap.runs.model_config import ProxyScores
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.samples import DROPPED_GRAY, SampleColumn, sample_file, write_map_ends
from flawmap.scorer import HeldOutSquare, Scorer
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder

MAX_IMAGES = 64
NUM_SAMPLES = 6


@dataclass(frozen=True)
class SimulatedDefect:
    """A held-out good image and its fixed simulated defect."""

    good: HeldOutSquare
    simulated: UInt8[np.ndarray, "s s 3"]
    footprint: Bool[np.ndarray, "s s"]


def squares_of(images: Sequence[NormalImage], guide: Encoder, size_px: int, compute: Compute) -> list[HeldOutSquare]:
    """At most :data:`MAX_IMAGES` images, evenly over all, resized to a square, with their attention; not scored yet."""
    pixels = NormalPixels([images[number] for number in evenly_spread(len(images), MAX_IMAGES)], size_px)
    attention = cache_attention(guide, pixels, size_px, compute.device)
    return [HeldOutSquare(pixels[number], attention[number]) for number in range(len(pixels))]


def simulate_on(squares: Sequence[HeldOutSquare], recipe: Recipe) -> list[SimulatedDefect]:
    """One fixed defect on each image, made as in training but without augmentation."""
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    defects = []
    for index, good in enumerate(squares):
        generator = numpy_generator(recipe.seed, "held out", index)
        second = squares[(index + 1) % len(squares)].square if "second" in simulate.needs else None
        anomaly = simulate(good.square, generator, good.attention, second)
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
    maps: list[Float[np.ndarray, "s s"]]


def score_defects(
    scorer: Scorer,
    defects: Sequence[SimulatedDefect],
    sizes_px: Sequence[int],
    image_score: str,
    at_once: ImagesAtOnce,
) -> ScoredDefects:
    """Score each image with its defect, and without it where that has not been done yet."""
    pixels, scores, labels, maps = BinnedScores(), [], [], []
    for batch in batches_of(defects, at_once.size):
        goods = _analyses_without(scorer, [defect.good for defect in batch], sizes_px, at_once)
        simulated = analyse(scorer, [defect.simulated for defect in batch], sizes_px, at_once)
        for defect, without, analysis in zip(batch, goods, simulated, strict=True):
            for found, footprint in ((without, np.zeros_like(defect.footprint)), (analysis, defect.footprint)):
                refuse_not_finite(found.scores, found.anomaly_map)
                pixels.add(found.anomaly_map, footprint)
                scores.append(found.scores[image_score])
                labels.append(bool(footprint.any()))
            if len(maps) < NUM_SAMPLES:
                maps.append(analysis.anomaly_map)
    proxy = ProxyScores(auroc(np.array(scores), np.array(labels)), pixels.auroc(), len(defects))
    return ScoredDefects(proxy, maps)


def _analyses_without(
    scorer: Scorer, goods: Sequence[HeldOutSquare], sizes_px: Sequence[int], at_once: ImagesAtOnce
) -> list[Analysis]:
    """The analyses of images without their defects; from training where they were scored there, at their only size."""
    known = [
        (ScaleResult(sizes_px[0], good.score, good.evidence), good.square.shape)
        for good in goods
        if good.score is not None and good.evidence is not None
    ]
    if len(known) < len(goods):
        return list(analyse(scorer, [good.square for good in goods], sizes_px, at_once))
    names = score_names(scorer)
    return [analysis_of([scale], height, width, names) for scale, (height, width, _) in known]


def write_samples(
    run: RunFolder,
    defects: Sequence[SimulatedDefect],
    maps: Sequence[Float[np.ndarray, "s s"]],
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
    image: UInt8[np.ndarray, "s s 3"], attention: Float[np.ndarray, "r c"], drop_ratio: float
) -> UInt8[np.ndarray, "s s 3"]:
    """What APMask leaves of an image; dropped patches are gray."""
    rows, columns = attention.shape
    mask = attention_patch_mask(torch.from_numpy(attention.reshape(1, -1)), drop_ratio).reshape(rows, columns).numpy()
    dropped = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    return np.where(dropped[..., None], np.uint8(DROPPED_GRAY), image)


def _gray(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """[0, 1] -> 0..255."""
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)

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
from flawmap.detect.scoring import analyse
from flawmap.engine.compute import Compute
from flawmap.engine.sampling import evenly_spread
from flawmap.metrics.ranking import BinnedScores, auroc
from flawmap.paper.patch_masking import attention_patch_mask
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import numpy_generator
from flawmap.runs.calibration import MapScale
from flawmap.runs.model_config import ProxyScores
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.samples import DROPPED_GRAY, SampleColumn, sample_file, write_map_ends
from flawmap.scorer import Scorer
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import NormalImageSource

MAX_IMAGES = 64
NUM_SAMPLES = 6


@dataclass(frozen=True)
class SimulatedDefect:
    """A held-out good image and its fixed simulated defect."""

    normal: UInt8[np.ndarray, "s s 3"]
    attention: Float[np.ndarray, "r c"]
    simulated: UInt8[np.ndarray, "s s 3"]
    footprint: Bool[np.ndarray, "s s"]


def spread_over(images: Sequence[NormalImage], size_px: int) -> NormalPixels:
    """The pixels of at most :data:`MAX_IMAGES` images, evenly over all, resized to a square."""
    return NormalPixels([images[number] for number in evenly_spread(len(images), MAX_IMAGES)], size_px)


def simulate_on(
    pixels: NormalImageSource, guide: Encoder, recipe: Recipe, size_px: int, compute: Compute
) -> list[SimulatedDefect]:
    """One fixed defect on each image, made as in training but without augmentation."""
    attention = cache_attention(guide, pixels, size_px, compute.device)
    simulate = simulator_by_name(recipe.simulation.simulator, recipe.simulation)
    defects = []
    for index in range(len(pixels)):
        generator = numpy_generator(recipe.seed, "held out", index)
        second = pixels[(index + 1) % len(pixels)] if "second" in simulate.needs else None
        anomaly = simulate(pixels[index], generator, attention[index], second)
        defects.append(SimulatedDefect(pixels[index], attention[index], anomaly.image, anomaly.footprint))
    return defects


def proxy_scores(
    scorer: Scorer, defects: Sequence[SimulatedDefect], sizes_px: Sequence[int], image_score: str
) -> ProxyScores:
    """How well images with simulated defects are told from the same images without them."""
    pixels, scores, labels = BinnedScores(), [], []
    for defect in defects:
        for image, footprint in (
            (defect.normal, np.zeros_like(defect.footprint)),
            (defect.simulated, defect.footprint),
        ):
            (analysis,) = analyse(scorer, [image], sizes_px)
            refuse_not_finite(analysis.scores, analysis.anomaly_map)
            pixels.add(analysis.anomaly_map, footprint)
            scores.append(analysis.scores[image_score])
            labels.append(bool(footprint.any()))
    return ProxyScores(auroc(np.array(scores), np.array(labels)), pixels.auroc(), len(defects))


def write_samples(
    run: RunFolder,
    scorer: Scorer,
    defects: Sequence[SimulatedDefect],
    sizes_px: Sequence[int],
    drop_ratio: float,
    map_scale: MapScale,
) -> None:
    """Images of input, attention, masked view, simulated defect, footprint and map (the paper's Figs. 1 and 4)."""
    run.samples.mkdir(exist_ok=True)
    write_map_ends(run.samples, map_scale)
    for number, defect in enumerate(defects[:NUM_SAMPLES]):
        height, width = defect.footprint.shape
        attention = cv2.resize(defect.attention, (width, height), interpolation=cv2.INTER_NEAREST)
        anomaly_map = analyse(scorer, [defect.simulated], sizes_px)[0].anomaly_map
        pictures: dict[SampleColumn, np.ndarray] = {
            "input": defect.normal,
            "attention": _gray(attention / max(float(attention.max()), 1e-12)),
            "masked": masked_view(defect.normal, defect.attention, drop_ratio),
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

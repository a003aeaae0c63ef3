"""Every masking strategy and every simulator on a few normal images (the paper's Figures 1 and 4b); nothing is trained.

Pictures follow from the recipe and the images alone: each has a generator of its own, named by strategy or simulator
and image, so that a strategy that is added, or another number of images, changes no other picture.
"""

from typing import get_args, get_type_hints

import numpy as np
import torch
from jaxtyping import Float, UInt8

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.open_data import evenly_spaced
from flawmap.data.sample import TrainingData
from flawmap.engine.compute import Compute
from flawmap.paper.patch_masking import patch_mask
from flawmap.recipe.settings import MaskingSettings, Recipe
from flawmap.report.gallery_image import GalleryDefect, GalleryImage
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.by_name import SIMULATOR_NAMES, simulator_by_name
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches

MASKING_STRATEGIES: tuple[str, ...] = get_args(get_type_hints(MaskingSettings)["strategy"])
EVERYWHERE_ALIKE = Compute("cpu", "fp32", "the same pictures on every machine")


def gallery_images(data: TrainingData, encoder: Encoder, recipe: Recipe, count: int) -> list[GalleryImage]:
    """What training would make of some images, at the size of stage 2, without its crops, flips and jitter.

    Args:
        data: normal images, at least two; simulators that take a patch from another image get the next one by name.
        encoder: with the weights that the recipe names.
        recipe: gives size, masking ratio, settings of our simulator, and seed.
        count: how many images, evenly by name; all where there are fewer.
    """
    ordered = evenly_spaced(data.images, None)
    chosen = evenly_spaced(data.images, count)
    following = {image.key: ordered[(place + 1) % len(ordered)] for place, image in enumerate(ordered)}
    size_px = round_to_patches(recipe.finetune.image_size_px or recipe.data.image_size_px, encoder.patch_size_px)
    pixels = NormalPixels(chosen, size_px)
    others = NormalPixels([following[image.key] for image in chosen], size_px)
    attention = cache_attention(encoder, pixels, size_px, EVERYWHERE_ALIKE)
    return [
        GalleryImage(
            image.key,
            pixels[index],
            attention[index],
            masks_of(attention[index], recipe, image.key),
            defects_on(pixels[index], attention[index], others[index], recipe, image.key),
        )
        for index, image in enumerate(chosen)
    ]


def masks_of(attention: Float[np.ndarray, "r c"], recipe: Recipe, key: str) -> dict[str, np.ndarray]:
    """The mask (r, c) of each strategy at the recipe's ratio; True = dropped."""
    ratio, grid = recipe.pretrain.masking.drop_ratio, (attention.shape[0], attention.shape[1])
    cls_attention = torch.from_numpy(attention.reshape(1, -1))
    masks = {}
    for strategy in MASKING_STRATEGIES:
        numbers = numpy_generator(recipe.seed, "gallery", strategy, key)
        generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
        masks[strategy] = patch_mask(strategy, grid, ratio, generator, cls_attention).reshape(grid).numpy()
    return masks


def defects_on(
    image: UInt8[np.ndarray, "s s 3"],
    attention: Float[np.ndarray, "r c"],
    second: UInt8[np.ndarray, "s s 3"],
    recipe: Recipe,
    key: str,
) -> dict[str, GalleryDefect]:
    """One defect by each simulator."""
    defects = {}
    for name in SIMULATOR_NAMES:
        simulate = simulator_by_name(name, recipe.simulation)
        anomaly = simulate(image, numpy_generator(recipe.seed, "gallery", name, key), attention, second)
        defects[name] = GalleryDefect(anomaly.image, anomaly.footprint)
    return defects

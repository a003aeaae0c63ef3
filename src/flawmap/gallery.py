"""Every masking strategy and every simulator on a few good images (the paper's Figures 1 and 4b); nothing is trained.

The page depends on the recipe and the images alone. Each mask and each defect has a random generator of its own, named
after strategy or simulator and image, so that another strategy, or another number of images, does not change the rest.
"""

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.open_data import evenly_spaced
from flawmap.data.roi import RegionOfInterest
from flawmap.data.rois import roi_of_each, rois_of
from flawmap.data.sample import TrainingData
from flawmap.paper.patch_masking import patch_mask
from flawmap.recipe.settings import MaskingSettings, Recipe
from flawmap.report.gallery import GalleryDefect, GalleryImage, GalleryPage, write_gallery
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.by_name import simulator_by_name, simulator_names
from flawmap.simulators.simulated_anomaly import anomaly_inside
from flawmap.vit.attention_cache import cache_attention
from flawmap.vit.encoder import Encoder
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder

TRAINING_DEFECTS = 3  # of each image
MASKING_STRATEGIES: tuple[str, ...] = get_args(get_type_hints(MaskingSettings)["strategy"])


def write_gallery_page(
    data: TrainingData, recipe: Recipe, count: int, path: Path, source: tuple[tuple[str, str], ...] = ()
) -> None:
    """Write the gallery as one HTML page.

    Args:
        data: good images, at least two.
        recipe: names the encoder; see :func:`gallery_images`.
        count: how many images.
        path: of the page; nothing must be there.
        source: rows of name and text that the page shows first, such as the command that wrote it.

    Raises:
        UserError: the encoder's weights cannot be loaded.
    """
    encoder, origin = load_encoder(recipe.model, seed=recipe.seed)
    images = gallery_images(data, encoder, recipe, count)
    pretrain = recipe.pretrain
    facts = (
        *source,
        ("images", f"{len(images)} of {len(data.images)} good images, evenly by name"),
        ("encoder", f"{origin.source}; licence: {origin.licence}"),
        ("masking ratio", f"{pretrain.masking.drop_ratio:g}"),
        ("blending of our simulator", recipe.simulation.blend),
        ("seed", str(recipe.seed)),
    )
    masking = pretrain.masking.strategy if pretrain.enabled and pretrain.objective == "clusters" else None
    in_use = (masking, recipe.simulation.simulator)
    write_gallery(GalleryPage(data.name, pretrain.masking.drop_ratio, in_use, facts), images, path)


def gallery_images(data: TrainingData, encoder: Encoder, recipe: Recipe, count: int) -> list[GalleryImage]:
    """What training would make of some images, at the size of training, without its crops, flips and jitter.

    Args:
        data: good images, at least two; simulators that take a patch from another image get the next one by name.
        encoder: with the weights that the recipe names.
        recipe: gives size, masking ratio, settings of our simulator, and seed.
        count: how many images, evenly by name; all if there are fewer.
    """
    ordered = evenly_spaced(data.images, None)
    chosen = evenly_spaced(data.images, count)
    following = {image.key: ordered[(place + 1) % len(ordered)] for place, image in enumerate(ordered)}
    size_px = round_to_patches(recipe.training_size_px, encoder.patch_size_px)
    rois, seconds = rois_of(recipe), [following[image.key] for image in chosen]
    of_images = roi_of_each(rois, chosen)
    each = [None] * len(chosen) if of_images is None else of_images
    pixels = NormalPixels(chosen, size_px, rois=of_images)
    others = NormalPixels(seconds, size_px, rois=roi_of_each(rois, seconds))
    as_they_are = pixels if rois is None else NormalPixels(chosen, size_px)
    attention = cache_attention(encoder, pixels, size_px, "cpu")  # (n, r, c)
    return [
        GalleryImage(
            image.key,
            as_they_are[index],
            attention[index],
            masks_of(attention[index], recipe, image.key),
            defects_on(pixels[index], attention[index], others[index], recipe, image.key, each[index]),
            training_defects(pixels[index], attention[index], others[index], recipe, image.key, each[index]),
            pixels.inside(index),
        )
        for index, image in enumerate(chosen)
    ]


def masks_of(attention: Float[np.ndarray, "r c"], recipe: Recipe, key: str) -> dict[str, Bool[np.ndarray, "r c"]]:
    """The mask of each strategy at the recipe's ratio; True = dropped."""
    ratio, grid = recipe.pretrain.masking.drop_ratio, (attention.shape[0], attention.shape[1])
    cls_attention = torch.from_numpy(attention.reshape(1, -1))  # (1, r c)
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
    roi: RegionOfInterest | None = None,
) -> dict[str, GalleryDefect]:
    """One defect by each simulator, in the region of interest."""
    names = simulator_names()
    return {name: _defect(name, image, attention, second, recipe, (name, key), roi) for name in names}


def training_defects(
    image: UInt8[np.ndarray, "s s 3"],
    attention: Float[np.ndarray, "r c"],
    second: UInt8[np.ndarray, "s s 3"],
    recipe: Recipe,
    key: str,
    roi: RegionOfInterest | None = None,
) -> tuple[GalleryDefect, ...]:
    """Some of the defects that the recipe will train with; none for a recipe that trains without."""
    if recipe.method == "memory":
        return ()
    name, draws = recipe.simulation.simulator, range(TRAINING_DEFECTS)
    return tuple(_defect(name, image, attention, second, recipe, ("training", key, number), roi) for number in draws)


def _defect(
    simulator: str,
    image: UInt8[np.ndarray, "s s 3"],
    attention: Float[np.ndarray, "r c"],
    second: UInt8[np.ndarray, "s s 3"],
    recipe: Recipe,
    draw: tuple[str | int, ...],
    roi: RegionOfInterest | None,
) -> GalleryDefect:
    """A defect by one simulator; ``draw`` tells the random numbers of one from those of another."""
    simulate = simulator_by_name(simulator, recipe.simulation)
    if roi is not None:
        attention = attention * roi.patches((attention.shape[0], attention.shape[1]))
    anomaly = simulate(image, numpy_generator(recipe.seed, "gallery", *draw), attention, second)
    if roi is not None:
        anomaly = anomaly_inside(image, anomaly.image, anomaly.footprint & roi.at(*image.shape[:2]))
    return GalleryDefect(anomaly.image, anomaly.footprint)

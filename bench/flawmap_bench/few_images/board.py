"""A board for curves over the number of good images: draws of good images, and test images that are ready to score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.sample import LabelledImage, NormalImage
from flawmap.memory.appearance import block_indices
from flawmap.metrics.pixel_pool import PixelPool, count_pixels
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import numpy_generator
from flawmap.scorer import upsample_map
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder
from flawmap_bench.boards.all_boards.find import FoundBoard
from flawmap_bench.boards.method_scores import counts_pixels
from flawmap_bench.few_images.cached_encoder import CachedEncoder


@dataclass(frozen=True)
class FewImagesBoard:
    """A board.

    Attributes:
        name: for tables.
        encoder: of all methods.
        good: all good images for training.
        test: (1, 3, s, s) each, normalised.
        is_anomalous: of each.
        truths: (s, s), by the number of the test image; those that count for pixel measures.
    """

    name: str
    encoder: CachedEncoder
    good: tuple[NormalImage, ...]
    test: list[Float[Tensor, "1 3 s s"]]
    is_anomalous: Bool[np.ndarray, "t"]
    truths: dict[int, Bool[np.ndarray, "s s"]]

    def drawn(self, draw: int, number: int | None) -> tuple[NormalImage, ...]:
        """So many good images, or all; a smaller number of the same draw gives some of the same images."""
        if number is None:
            return self.good
        order = numpy_generator(draw, "few images").permutation(len(self.good))[:number]
        return tuple(self.good[int(place)] for place in order)

    def aupro(self, maps: Float[Tensor, "t r c"]) -> float | None:
        """AUPRO to 30 % false positives at the size of the model's input; None without masks."""
        if not any(mask.any() for mask in self.truths.values()):
            return None
        pool = PixelPool()
        for number, mask in self.truths.items():
            pool.add(count_pixels(upsample_map(maps[number : number + 1], *mask.shape)[0].numpy(), mask))
        return pool.values()["aupro_30"]


def read_board(found: FoundBoard, recipe: Recipe, most_test: int, cache: Path) -> FewImagesBoard:
    """Read a board; of more than ``most_test`` test images, a random sample of each class is kept, by a fixed seed.

    Args:
        found: where it lies.
        recipe: how data is read, and the encoder.
        most_test: as many good and anomalous test images as their shares of all of them.
        cache: a folder for what the encoder gives.
    """
    encoder, _ = load_encoder(recipe.model, seed=recipe.seed)
    blocks = block_indices(encoder, recipe.memory.blocks)
    cached = CachedEncoder(encoder.eval().requires_grad_(False), blocks, cache).eval().requires_grad_(False)
    good = open_training_data(found.location, recipe.data).images
    data = open_test_data(found.location, recipe.data)
    samples = [data.samples[int(number)] for number in _sampled(data.samples, most_test)]
    size_px, images, truths = recipe.data.image_size_px, [], {}
    for number, sample in enumerate(samples):
        pixels = read_image(sample.path)
        images.append(normalise(channels_first(resize_image(pixels, size_px, size_px))[None]))
        if counts_pixels(sample, data.protocol.pixel_pool):
            truth = read_truth(sample, *pixels.shape[:2])
            if truth is not None:
                truths[number] = _resized(truth, size_px)
    is_anomalous = np.array([sample.is_anomalous for sample in samples], bool)
    good = tuple(replace(image, group=None) for image in good)  # a draw of a few has few groups
    return FewImagesBoard(found.name, cached, good, images, is_anomalous, truths)


def _sampled(samples: Sequence[LabelledImage], most: int) -> Int[np.ndarray, "t"]:
    is_anomalous, generator = np.array([sample.is_anomalous for sample in samples]), numpy_generator(0, "test images")
    share = min(1.0, most / len(samples))
    kept = [
        generator.permutation(of_class)[: round(share * len(of_class))]
        for of_class in (np.flatnonzero(~is_anomalous), np.flatnonzero(is_anomalous))
    ]
    return np.sort(np.concatenate(kept))


def _resized(truth: Bool[np.ndarray, "h w"], size_px: int) -> Bool[np.ndarray, "s s"]:
    """A pixel is anomalous where at least half of what it shows is."""
    return cv2.resize(truth.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_AREA) >= 0.5


def images_of(normals: Sequence[NormalImage], size_px: int) -> list[Float[Tensor, "1 3 s s"]]:
    """Good images, each (1, 3, s, s), normalised."""
    squares = (resize_image(read_image(image.path), size_px, size_px) for image in normals)
    return [normalise(torch.stack([channels_first(square)])) for square in squares]

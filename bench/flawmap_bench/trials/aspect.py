"""Does it help to keep the aspect of an image? Long images squashed to a square, beside a grid of the same area.

    python -m flawmap_bench.trials.aspect data/transistor data/toothbrush --columns 0.3 0.7 --seeds 0 1 2

``--columns`` cuts all images and masks to these shares of their width, which makes long images of square ones. Scores
are those of the recipe's memory alone, without the expectation of similar images. Means over the seeds of the memory's
choice; test labels are for reporting.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from flawmap.check import read_sound_data
from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.open_data import open_test_data
from flawmap.memory.appearance import block_indices
from flawmap.memory.coreset import greedy_coreset
from flawmap.memory.patch_memory import Lookup, PatchMemory
from flawmap.memory.scorer import smoothed
from flawmap.metrics.ranking import auroc
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder
from flawmap_bench.trials.measures import PIXEL_MEASURES, Truths

IMAGE_AUROC = "image AUROC"
MEASURES = (IMAGE_AUROC, *PIXEL_MEASURES)

Grid = tuple[int, int]


@dataclass(frozen=True)
class Columns:
    """The part of every image that is looked at: shares of its width."""

    left: float = 0.0
    right: float = 1.0

    def of(self, image: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "h v *c"]:
        """The part of an image or a mask."""
        width = image.shape[1]
        return np.ascontiguousarray(image[:, round(self.left * width) : round(self.right * width)])


def grid_of_aspect(height_px: int, width_px: int, patches: int) -> Grid:
    """Rows and columns of about so many patches, in the aspect of the image.

    Example:
        >>> grid_of_aspect(1000, 400, 256)
        (25, 10)
    """
    return round((patches * height_px / width_px) ** 0.5), round((patches * width_px / height_px) ** 0.5)


def encoded(
    frozen: FrozenEncoder, images: Sequence[np.ndarray], recipe: Recipe, grid: Grid
) -> Float[Tensor, "n p l d"]:
    """Tokens of images that are resized to a grid of patches, in float16."""
    blocks = block_indices(frozen.encoder, recipe.memory.blocks)
    height_px, width_px = (side * frozen.encoder.patch_size_px for side in grid)
    tokens = []
    for image in images:
        pixels = normalise(channels_first(resize_image(image, height_px, width_px))[None])  # (1, 3, h, w)
        tokens.append(frozen.tokens_of(pixels, blocks)[0].half())
    return torch.stack(tokens)


@torch.no_grad()
def memory_evidence(
    good: Float[Tensor, "i p l d"], test: Float[Tensor, "j p l d"], recipe: Recipe, seed: int
) -> Float[Tensor, "j p"]:
    """What the memory of all good tokens says about test images: standardised distances, mean over the blocks."""
    num_images, num_patches, num_blocks, dim = good.shape
    candidates = good.flatten(0, 1)  # (i p, l, d)
    size = min(recipe.memory.tokens, len(candidates))
    chosen = [
        greedy_coreset(candidates[:, block], size, torch.Generator().manual_seed(seed), recipe.memory.projection_dim)
        for block in range(num_blocks)
    ]
    memory = PatchMemory(num_blocks, size, dim)
    sources = torch.arange(num_images).repeat_interleave(num_patches)
    memory.fill(candidates, sources, torch.stack(chosen))
    memory.fit_spacing(recipe.memory.spacing_neighbours)
    of_others = [memory.lookup(tokens[None].float(), torch.tensor([image])) for image, tokens in enumerate(good)]
    distances, indices = (torch.cat([getattr(of, name) for of in of_others]) for name in ("distances", "indices"))
    memory.fit_scale(Lookup(distances, indices))
    return torch.cat([memory.standardised(memory.nearest(tokens[None].float())) for tokens in test])


def compare(location: str, columns: Columns, seeds: Sequence[int]) -> list[str]:
    """A row of the table for the square, and one for the aspect of the images."""
    recipe = load_recipe("standard", ["calibration.folds=0"])
    good = [columns.of(read_image(image.path)) for image in read_sound_data(location, recipe).checked.data.images]
    data = open_test_data(location, recipe.data)
    test = [columns.of(read_image(sample.path)) for sample in data.samples]
    masks = {number: columns.of(mask) for number, mask in Truths.of(data).masks.items()}
    labels = np.array([bool(masks[n].any()) if n in masks else s.is_anomalous for n, s in enumerate(data.samples)])
    encoder, _ = load_encoder(recipe.model, seed=0)
    frozen = FrozenEncoder(encoder.eval().requires_grad_(False))
    side = recipe.data.image_size_px // encoder.patch_size_px
    rows = []
    height_px, width_px = good[0].shape[:2]
    for name, grid in (("square", (side, side)), ("aspect kept", grid_of_aspect(height_px, width_px, side**2))):
        tokens, of_test = encoded(frozen, good, recipe, grid), encoded(frozen, test, recipe, grid)
        found = [measures_of(memory_evidence(tokens, of_test, recipe, s), grid, labels, masks, recipe) for s in seeds]
        mean = {measure: float(np.mean([values[measure] for values in found])) for measure in found[0]}
        cells = [data.name, f"{height_px} x {width_px}", f"{name}, {grid[0]} x {grid[1]}"]
        values = (f"{100 * mean[measure]:.1f}" if measure in mean else "–" for measure in MEASURES)
        rows.append(" | ".join([*cells, *values]))
    return rows


def measures_of(
    evidence: Float[Tensor, "j p"], grid: Grid, labels: np.ndarray, masks: dict[int, np.ndarray], recipe: Recipe
) -> dict[str, float]:
    """Image AUROC where there are images of both kinds, and the measures of pixels."""
    highest = max(1, round(recipe.memory.image_share * evidence.shape[1]))
    scores = evidence.topk(highest, dim=1).values.mean(dim=1).numpy()
    of_images = auroc(scores, labels)
    image = {} if of_images is None else {IMAGE_AUROC: of_images}
    return image | Truths(masks).measures(smoothed(evidence.unflatten(1, grid)))


def main() -> None:
    """Compare both on every board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boards", nargs="+", metavar="BOARD", help="a data location with images of one size")
    parser.add_argument("--columns", nargs=2, type=float, default=(0.0, 1.0), metavar=("LEFT", "RIGHT"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    print(
        "| board | height x width | grid | image AUROC, where there are good test images | "
        + " | ".join(PIXEL_MEASURES)
    )
    for board in arguments.boards:
        for row in compare(board, Columns(*arguments.columns), arguments.seeds):
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()

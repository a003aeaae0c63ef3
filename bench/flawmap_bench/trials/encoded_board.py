"""The images of a board after the frozen encoder, kept on disk, so that no variant encodes them again.

python -m flawmap_bench.trials.encoded_board mtd nih:chest_xray elpv --cache /tmp/trials
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flawmap.check import read_sound_data
from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.open_data import open_test_data
from flawmap.data.sample import LabelledImage, NormalImage, TestData, content_hash
from flawmap.engine.progress import say
from flawmap.engine.tensor_files import read_tensors, write_tensors
from flawmap.memory.appearance import block_indices
from flawmap.memory.good_images import BATCH_SIZE
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.reproducibility import stable_hash
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder

DEFAULT_RECIPE = "standard"


@dataclass(frozen=True)
class EncodedImages:
    """What the encoder gives for n images.

    Attributes:
        tokens: (n, p, l, d) float16, patch tokens of the recipe's l blocks, each normed; not relative to the image.
        cls: (n, b, d) [CLS] tokens after each of the b blocks as they come; the last one after the final norm.
        means: (n, b - 1, d) mean of the normed patch tokens after each block but the last.
        attention: (n, r, c) [CLS] attention of the last block, mean over heads.
    """

    tokens: Float[Tensor, "n p l d"]
    cls: Float[Tensor, "n b d"]
    means: Float[Tensor, "n e d"]
    attention: Float[Tensor, "n r c"]


@dataclass(frozen=True)
class Board:
    """A data set for development, its recipe, and its images after the encoder.

    Attributes:
        name: of the location and the recipe, for tables.
        good: all good images for training, those that will be held out included.
        encoded_good, encoded_test: in the order of ``good`` and of ``test.samples``.
    """

    name: str
    recipe: Recipe
    encoder: Encoder
    good: tuple[NormalImage, ...]
    test: TestData
    encoded_good: EncodedImages
    encoded_test: EncodedImages


def open_board(location_and_recipe: str, cache: Path, overrides: Sequence[str] = ()) -> Board:
    """Read a board, and encode what ``cache`` does not hold yet.

    Args:
        location_and_recipe: a data location, or ``LOCATION:RECIPE``.
        cache: folder for encoded images; 0.8 MB each with the recipe ``standard``.
        overrides: changes of the recipe.

    Raises:
        UserError: no such data or recipe, or an image cannot be read.
    """
    location, _, recipe_name = location_and_recipe.rpartition(":")
    if not location:
        location, recipe_name = location_and_recipe, DEFAULT_RECIPE
    recipe = load_recipe(recipe_name, overrides)
    encoder, _ = load_encoder(recipe.model, seed=recipe.seed)
    encoder.eval().requires_grad_(False)
    good = read_sound_data(location, recipe).checked.data.images
    test = open_test_data(location, recipe.data)
    name = f"{test.name}, {recipe_name}"
    encoded = [
        _encoded(images, f"{test.name}-{side}", encoder, recipe, cache)
        for side, images in (("good", good), ("test", test.samples))
    ]
    return Board(name, recipe, encoder, good, test, *encoded)


def _encoded(
    images: Sequence[NormalImage | LabelledImage], name: str, encoder: Encoder, recipe: Recipe, cache: Path
) -> EncodedImages:
    content = content_hash([NormalImage(image.key, image.path) for image in images])
    key = stable_hash([content, recipe.memory.blocks, recipe.data.image_size_px, recipe.model.weights])
    path = cache / f"{name}-{key[:12]}.safetensors"
    if not path.is_file():
        say("encoder", f"{len(images)} images: {name}")
        cache.mkdir(parents=True, exist_ok=True)
        size_px, blocks = recipe.data.image_size_px, block_indices(encoder, recipe.memory.blocks)
        parts = [
            encode_squares(encoder, [resize_image(read_image(image.path), size_px, size_px) for image in batch], blocks)
            for batch in (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
        ]
        joined = {field: torch.cat([getattr(part, field) for part in parts]) for field in vars(parts[0])}
        write_tensors(path, joined)
    return EncodedImages(**read_tensors(path))


@torch.no_grad()
def encode_squares(encoder: Encoder, squares: Sequence, blocks: Sequence[int]) -> EncodedImages:
    """Encode images.

    Args:
        encoder: in evaluation mode, computed by torch.
        squares: uint8 (s, s, 3), s a multiple of the patch size.
        blocks: numbers of the blocks whose tokens are kept, 0 = first.
    """
    images = normalise(torch.stack([channels_first(square) for square in squares]))  # (n, 3, s, s)
    cls: list[Tensor] = []
    before_last = encoder.vit.blocks[:-1]
    hooks = [block.register_forward_hook(lambda *call: cls.append(call[-1][:, 0])) for block in before_last]
    try:
        output = encoder(images, blocks=range(len(before_last)))
    finally:
        for hook in hooks:
            hook.remove()
    normed = [F.layer_norm(output.block_tokens[n], (encoder.embed_dim,)) for n in range(len(before_last))]
    return EncodedImages(
        tokens=torch.stack([normed[block] for block in blocks], dim=2).half(),  # (n, p, l, d)
        cls=torch.stack([*cls, output.cls], dim=1),
        means=torch.stack([tokens.mean(dim=1) for tokens in normed], dim=1),
        attention=mean_cls_attention(output).unflatten(1, encoder.grid(*images.shape[-2:])).half(),
    )


def main() -> None:
    """Encode boards, so that the trials need not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_board_arguments(parser)
    arguments = parser.parse_args()
    for name in arguments.boards:
        open_board(name, arguments.cache, arguments.set)


def add_board_arguments(parser: argparse.ArgumentParser) -> None:
    """The boards and where their encoded images are kept."""
    parser.add_argument("boards", nargs="+", metavar="BOARD", help="a data location, or LOCATION:RECIPE")
    parser.add_argument("--cache", type=Path, required=True, help="folder for encoded images, 0.8 MB each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")


if __name__ == "__main__":
    main()

"""Good images after their one pass through the encoder; everything that is fitted later reads this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.stage import StageContext
from flawmap.errors import UserError
from flawmap.memory.appearance import AppearanceAndTokens
from flawmap.memory.candidates import Candidates, Shares
from flawmap.memory.shifts import Shift
from flawmap.recipe.settings import Recipe
from flawmap.vit.encoder import mean_cls_attention
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import NormalImageSource, normal_batches

BATCH_SIZE = 8  # images encoded at once on a processor, where larger batches gain nothing


@dataclass(frozen=True)
class GoodImages:
    """What the encoder gives for good images. Tokens are float16, of l blocks and p = r c patches.

    It is one file of the run, ``checkpoints/encoding.safetensors``, which is mapped into memory where it is read.

    Attributes:
        attention: (i, r, c) float16, [CLS] attention of each of the i images, mean over heads; it places the simulated
            defects.
        references: (k,) numbers of the images whose tokens are all kept, evenly spread over all. From them the scale of
            distances and the expectation are learned, and the head learns what is normal.
        reference_appearances: (k, d) float32, by which like-looking images are found.
        reference_tokens: (k, p, l, d) all their tokens.
        candidates: (n, l, d) tokens that the memory is chosen from, equally many of each image; where there is room
            also tokens of shifted images, see :mod:`flawmap.memory.shifts`.
        sources: (n,) int32, number of the image that a candidate comes from. Where the images were encoded in shards,
            (n, l): the candidates are then a :class:`flawmap.memory.shard_cores.Core`.
        images: (i,) int32, number of the image that each is of: its own, or, of tiles, that of the image they lie in.
        originals_px: (i, 2) int32, height and width of the images before they were resized; of tiles: of their images.
        inside: (i, p), the patches in the region of interest: tokens of others are not candidates, and do not count
            among the references' either. None: all.
        views: (n,) int32, number of the view in :data:`flawmap.memory.views.VIEWS` that a candidate is of; -1 for the
            images themselves, and shifted ones. Views come last. None: there are only those.
    """

    attention: Float[Tensor, "i r c"]
    references: Int[Tensor, "k"]
    reference_appearances: Float[Tensor, "k d"]
    reference_tokens: Float[Tensor, "k p l d"]
    candidates: Float[Tensor, "n l d"]
    sources: Int[Tensor, "n ..."]
    images: Int[Tensor, "i"]
    originals_px: Int[Tensor, "i 2"]
    inside: Bool[Tensor, "i p"] | None = None
    views: Int[Tensor, "n"] | None = None

    @property
    def is_of_shards(self) -> bool:
        """Whether the candidates were chosen shard by shard."""
        return self.sources.ndim == 2

    @property
    def references_inside(self) -> Bool[Tensor, "k p"] | None:
        """The patches of the references that count; None: all."""
        return None if self.inside is None else self.inside[self.references]

    @property
    def numbers_of_views(self) -> tuple[int, ...]:
        """Of the views among the candidates, ascending."""
        return () if self.views is None else tuple(number for number in self.views.unique().tolist() if number >= 0)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored. Where the references' tokens are the candidates, they are stored once."""
        stored = {name: tensor for name, tensor in vars(self).items() if tensor is not None}
        if self.candidates.data_ptr() == self.reference_tokens.data_ptr():
            del stored["candidates"]
        return stored

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "GoodImages":
        """From what :meth:`tensors` gave."""
        candidates = tensors.get("candidates", tensors["reference_tokens"].flatten(0, 1))
        return cls(**{**tensors, "candidates": candidates})


@dataclass(frozen=True)
class _Encoded:
    """A batch of images after the encoder, on the host."""

    attention: Float[Tensor, "b n"]
    appearances: Float[Tensor, "b d"]
    tokens: Float[Tensor, "b n l d"]


def _encoded(
    frozen: FrozenEncoder,
    taken: AppearanceAndTokens,
    images: Float[Tensor, "b 3 s s"],
    inside: Bool[Tensor, "b n"] | None,
    at_once: int,
) -> _Encoded:
    """Attention and tokens in float16, appearances in float32; ``at_once`` images share a pass."""
    parts: list[list[Tensor]] = []
    for some, mask in zip(images.split(at_once), _split(inside, images, at_once), strict=True):
        output = frozen.encode(some, taken.wanted)
        appearances, tokens = taken.in_output(output, mask)
        parts.append([mean_cls_attention(output).half().cpu(), appearances.cpu(), tokens.half().cpu()])
    kinds = parts[0] if len(parts) == 1 else [torch.cat(of_kind) for of_kind in zip(*parts, strict=True)]
    return _Encoded(*kinds)


def _shifted_tokens(
    frozen: FrozenEncoder,
    taken: AppearanceAndTokens,
    images: Float[Tensor, "b 3 s s"],
    shifts: tuple[Shift, ...],
    inside: Bool[Tensor, "b n"] | None,
    at_once: int,
) -> Float[Tensor, "b m l d"]:
    """Tokens of all shifts in float16, on the host; ``at_once`` images share a pass."""
    encoder, parts = frozen.encoder, []
    grid = encoder.grid(images.shape[-2], images.shape[-1])
    for some, mask in zip(images.split(at_once), _split(inside, images, at_once), strict=True):
        of_shifts = []
        for shift in shifts:
            counted = None if mask is None else shift.counted(mask, grid)
            tokens = taken.tokens_of(frozen, shift.images(some, encoder.patch_size_px), counted)
            of_shifts.append(shift.inside(tokens, grid))
        parts.append(torch.cat(of_shifts, dim=1).half().cpu())
    return torch.cat(parts)


def _split(
    inside: Bool[Tensor, "b n"] | None, images: Float[Tensor, "b 3 s s"], size: int
) -> Sequence[Bool[Tensor, "_ n"] | None]:
    """The patches that count in each part of a batch, where its images lie."""
    return [None] * len(images.split(size)) if inside is None else inside.to(images.device).split(size)


@torch.no_grad()
def encode_good_images(
    frozen: FrozenEncoder,
    pixels: NormalImageSource,
    recipe: Recipe,
    context: StageContext,
    shares: Shares | None = None,
    inside: Bool[Tensor, "i p"] | None = None,
) -> GoodImages:
    """Encode every image once; computed in float32 as in detection, stored in float16.

    Args:
        frozen: the encoder, on the device of the context.
        pixels: good images.
        recipe: says which blocks' tokens are needed, and how many candidates and reference images there are.
        context: device, image size and seed.
        shares: other candidates and references than the recipe says.
        inside: the patches in the region of interest, at least one of each image; None: all.

    Raises:
        UserError: a token is not finite; everything that is fitted to it would be NaN as well.
    """
    encoder = frozen.encoder
    taken = AppearanceAndTokens(encoder, recipe)
    rows, columns = grid = encoder.grid(context.size_px, context.size_px)
    num_images, blocks_and_dim = len(pixels), (len(taken.blocks), encoder.embed_dim)
    shares = shares or Shares.of(num_images, grid, recipe)
    row_of = {number: row for row, number in enumerate(shares.references)}
    reference_tokens = torch.empty(len(row_of), rows * columns, *blocks_and_dim, dtype=torch.float16)
    reference_appearances = torch.empty(len(row_of), encoder.embed_dim)
    candidates = Candidates(num_images, grid, shares, blocks_and_dim, context.seed, inside)
    attention, device = reference_tokens.new_empty(num_images, rows, columns), context.compute.device
    at_once = ImagesAtOnce.on(device, encoder.bytes_per_image(context.size_px, len(taken.wanted)), BATCH_SIZE)
    for numbers, images in normal_batches(pixels, context.size_px, at_once.size, device):
        masks = None if inside is None else inside[numbers.start : numbers.stop]
        batch = at_once.run(partial(_encoded, frozen, taken, images, masks))
        attention[numbers.start : numbers.stop] = batch.attention.reshape(-1, rows, columns)  # (b, r, c)
        for number, image_tokens, appearance in zip(numbers, batch.tokens, batch.appearances, strict=True):
            if not (image_tokens.isfinite().all() and appearance.isfinite().all()):
                problem = f"the encoder gives values that are not finite (good image {number + 1} of {num_images})"
                raise UserError(problem, "model.weights", "copy or download the weights again, or choose others")
            if (row := row_of.get(number)) is not None:
                reference_tokens[row], reference_appearances[row] = image_tokens, appearance
            candidates.take(number, image_tokens)
        if shares.shifts:
            shifted = at_once.run(partial(_shifted_tokens, frozen, taken, images, shares.shifts, masks))
            candidates.take_shifted(numbers, shifted)
    return GoodImages(
        attention=attention,
        references=torch.tensor(shares.references),
        reference_appearances=reference_appearances,
        reference_tokens=reference_tokens,
        candidates=candidates.tokens(reference_tokens),  # (n, l, d)
        sources=candidates.sources,
        images=torch.arange(num_images, dtype=torch.int32),
        originals_px=torch.zeros(num_images, 2, dtype=torch.int32),  # fit.py knows them
        inside=inside,
    )

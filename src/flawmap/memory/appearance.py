"""What a method on tokens takes from the encoder: the memory's tokens, and by what like-looking images are found."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from flawmap.errors import UserError
from flawmap.memory.inside import mean_inside
from flawmap.recipe.settings import Recipe
from flawmap.vit.encoder import Encoder, EncoderOutput
from flawmap.vit.frozen_encoder import FrozenEncoder


class AppearanceAndTokens:
    """Takes an image's appearance and its tokens from the same pass.

    The appearance is the last [CLS] token, or the mean of the normed patch tokens five sixths of the way through the
    encoder. With the mean, detection does not compute the blocks after it; training does, for the [CLS] attention.

    Args:
        encoder: frozen.
        recipe: ``memory`` says which tokens, ``expectation.appearance`` says which appearance.

    Attributes:
        blocks: numbers of the l blocks whose tokens are taken, 0 = first.
        mean_of: number of the block whose mean token is the appearance; None for the last [CLS] token.
        wanted: numbers of all blocks whose tokens are asked of the encoder, ascending.

    Raises:
        UserError: a block that the encoder does not have.
    """

    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        self._encoder, self._relative = encoder, recipe.memory.relative
        self.blocks: tuple[int, ...] = block_indices(encoder, recipe.memory.blocks)
        is_mean = recipe.expectation.appearance == "mean_token"
        self.mean_of: int | None = appearance_block(len(encoder.vit.blocks)) if is_mean else None
        appearance_from = () if self.mean_of is None else (self.mean_of,)
        self.wanted: tuple[int, ...] = tuple(sorted({*self.blocks, *appearance_from}))

    def of_images(
        self, frozen: FrozenEncoder, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n l d"]]:
        """Appearance and tokens of normalised images, by no more blocks than are needed.

        Args:
            frozen: the encoder.
            images: normalised.
            inside: the patches that count in means over an image; None: all.
        """
        if self.mean_of is None:
            cls, tokens = frozen.cls_and_tokens_of(images, self.blocks, self._relative and inside is None)
            return cls, self._relative_inside(tokens, inside)
        return self._with_mean(frozen.tokens_of(images, self.wanted), self.mean_of, inside)

    def in_output(
        self, output: EncoderOutput, inside: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n l d"]]:
        """The same from a pass that was asked for the blocks ``wanted``."""
        if self.mean_of is None:
            tokens = self._encoder.tokens_in(output, self.blocks, self._relative and inside is None)
            return output.cls.float(), self._relative_inside(tokens, inside)
        return self._with_mean(self._encoder.tokens_in(output, self.wanted), self.mean_of, inside)

    def tokens_of(
        self, frozen: FrozenEncoder, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n l d"]:
        """The tokens alone; the blocks after them are not computed."""
        tokens = frozen.tokens_of(images, self.blocks, self._relative and inside is None)
        return self._relative_inside(tokens, inside)

    def _with_mean(
        self, tokens: Float[Tensor, "b n w d"], mean_of: int, inside: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n l d"]]:
        appearance = mean_inside(tokens[:, :, self.wanted.index(mean_of)], inside)
        if self.blocks != self.wanted:
            tokens = tokens[:, :, [self.wanted.index(block) for block in self.blocks]]
        if self._relative and inside is None:
            tokens = tokens - tokens.mean(dim=1, keepdim=True)
        return appearance, self._relative_inside(tokens, inside)

    def _relative_inside(
        self, tokens: Float[Tensor, "b n l d"], inside: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n l d"]:
        """Less the mean token inside, where tokens are relative; as they are where all patches count."""
        return tokens if inside is None or not self._relative else tokens - mean_inside(tokens, inside)[:, None]


def appearance_block(num_blocks: int) -> int:
    """Number of the block whose mean token is an image's appearance, 0 = first: the tenth of twelve."""
    return max(0, round(num_blocks * 5 / 6) - 1)


def block_indices(encoder: Encoder, blocks: Sequence[int]) -> tuple[int, ...]:
    """Block numbers of a recipe, which count from 1, as indices that count from 0.

    Raises:
        UserError: the encoder has no such block.
    """
    num_blocks = len(encoder.vit.blocks)
    if max(blocks) > num_blocks:
        raise UserError(
            f"memory.blocks is {list(blocks)}, but the encoder has {num_blocks} blocks",
            "memory.blocks",
            f"numbers from 1 to {num_blocks}",
        )
    return tuple(block - 1 for block in blocks)

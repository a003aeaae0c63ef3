"""The ViT encoder f: a timm VisionTransformer with access to its attention and to the tokens of its blocks.

Shapes in comments: b images, n patches (k of them kept), t tokens (prefix and patches), d dimensions of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from flawmap.errors import UserError
from flawmap.vit.positions import resize_positions


@dataclass(frozen=True)
class EncoderOutput:
    """What one forward pass gives.

    Attributes:
        cls: (b, d) the [CLS] token after the final norm.
        cls_attention: (b, heads, n) float32, the last block's softmax row of the [CLS] token over the patches. The
            columns of [CLS] and registers are left out without renormalising, so that rows sum to at most 1.
        patch_tokens: (b, n, d) patch tokens after the final norm, or None where they were not asked for.
        block_tokens: patch tokens (b, n, d) after the blocks asked for, by block number (0 = first), not normed.
    """

    cls: Float[Tensor, "b d"]
    cls_attention: Float[Tensor, "b heads n"]
    patch_tokens: Float[Tensor, "b n d"] | None
    block_tokens: dict[int, Tensor]


class Encoder(nn.Module):
    """A timm ViT that gives the [CLS] attention (Equation 2) and block tokens, and can drop or mask patches.

    It takes images of any size that is a multiple of the patch size.

    Args:
        vit: a timm VisionTransformer with a [CLS] token and absolute positions (DINO; DINOv2, also with registers).

    Raises:
        UserError: the model is built in another way.
    """

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        last = vit.blocks[-1]
        if vit.pos_embed is None or vit.cls_token is None or not isinstance(last, Block):
            problem = f"{type(vit).__name__} has no [CLS] token with absolute positions and plain blocks"
            remedy = "choose a ViT such as vit_small_patch16_224.dino or vit_small_patch14_dinov2"
            raise UserError(problem, "model.architecture", remedy)
        self.vit = vit
        # patch positions by grid, resized in advance for an exported graph; empty in training
        self.stored_positions: dict[tuple[int, int], Tensor] = {}

    @property
    def patch_size_px(self) -> int:
        """Side of a patch, s."""
        return self.vit.patch_embed.patch_size[0]

    @property
    def embed_dim(self) -> int:
        """Width of a token, d."""
        return self.vit.embed_dim

    @property
    def num_heads(self) -> int:
        """Heads of the last block, L."""
        return self._last_attention.num_heads

    @property
    def _last_attention(self) -> Attention:
        block = self.vit.blocks[-1]
        assert isinstance(block, Block) and isinstance(block.attn, Attention)
        return block.attn

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Rows and columns of an image's patches. Raises ValueError where a side is not a multiple of their size."""
        s = self.patch_size_px
        if height_px % s or width_px % s:
            raise ValueError(f"image {height_px}x{width_px} px is not a multiple of the patch size {s} px")
        return height_px // s, width_px // s

    def bytes_per_image(self, size_px: int, kept_blocks: int = 0) -> int:
        """Memory of an image in a float32 pass without gradients, roughly and rather too much.

        A block's MLP needs a token's input, its normed input and its hidden layer before and after GELU; attention
        needs less, and a row of weights for each token where no fused kernel computes it.

        Args:
            size_px: side of the square.
            kept_blocks: whose tokens are wanted: as they come, normed and joined.
        """
        rows, columns = self.grid(size_px, size_px)
        tokens, dim = rows * columns + self.vit.num_prefix_tokens, self.embed_dim
        hidden = max(parameter.shape[0] for parameter in self._last_block_weights)
        widths = 3 * dim + 2 * hidden + 3 * kept_blocks * dim + 2 * self.num_heads * tokens
        return 4 * (tokens * widths + 3 * size_px**2)

    @property
    def _last_block_weights(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.vit.blocks[-1].parameters() if parameter.ndim == 2]

    def patch_positions(self, grid: tuple[int, int]) -> tuple[Float[Tensor, "1 p d"] | None, Float[Tensor, "1 n d"]]:
        """Positions of the p prefix tokens (None where they have none), and of the patches of a grid."""
        positions, native = self.vit.pos_embed, self.vit.patch_embed.grid_size
        assert positions is not None
        num_prefix = positions.shape[1] - native[0] * native[1]
        prefix = positions[:, :num_prefix] if num_prefix else None
        stored = self.stored_positions.get(grid)
        return prefix, resize_positions(positions[:, num_prefix:], native, grid) if stored is None else stored

    def embed(
        self,
        images: Float[Tensor, "b 3 h w"],
        keep: Int[Tensor, "b k"] | None,
        mask: Bool[Tensor, "b n"] | None = None,
        mask_token: Float[Tensor, "d"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Prefix tokens and patch tokens with their positions; see :meth:`forward` for the arguments."""
        if (mask is None) != (mask_token is None):
            raise ValueError("mask and mask_token go together: give both or neither")
        vit = self.vit
        assert vit.cls_token is not None
        grid = self.grid(images.shape[-2], images.shape[-1])
        patches = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (b, n, d)
        if mask is not None and mask_token is not None:
            patches = torch.where(mask[..., None], mask_token.to(patches.dtype), patches)
        prefix_positions, patch_positions = self.patch_positions(grid)
        patches = patches + patch_positions
        if keep is not None:  # after positions were added, so that a kept patch keeps its own
            patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))  # (b, k, d)
        prefix: list[Tensor] = [vit.cls_token] if vit.reg_token is None else [vit.cls_token, vit.reg_token]
        prefix_tokens = torch.cat(prefix, dim=1)  # (1, p, d)
        if prefix_positions is not None:
            prefix_tokens = prefix_tokens + prefix_positions
        prefix_tokens = prefix_tokens.expand(len(images), -1, -1).to(patches.dtype)
        return vit.norm_pre(torch.cat([prefix_tokens, patches], dim=1))  # (b, t, d)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        keep: Int[Tensor, "b k"] | None = None,
        blocks: Sequence[int] = (),
        patch_tokens: bool = False,
        mask: Bool[Tensor, "b n"] | None = None,
        mask_token: Float[Tensor, "d"] | None = None,
    ) -> EncoderOutput:
        """Encode normalised images.

        Args:
            images: float, normalised with the encoder's mean and deviation; sides multiples of the patch size.
            keep: numbers of the patches to keep, in row-major order. The others are dropped before the first block
                (Equation 4) and cost nothing. None keeps all.
            blocks: numbers of the blocks whose patch tokens are wanted; negative numbers count from the end.
            patch_tokens: also give the last block's patch tokens. Without them the last block computes query and MLP
                for the [CLS] token alone, which is all that both stages of the paper need.
            mask: True where a patch is hidden (iBOT): ``mask_token`` takes its place and gets its position. It covers
                all n patches in row-major order, before ``keep`` selects.
            mask_token: goes with ``mask``.

        Raises:
            ValueError: one of ``mask`` and ``mask_token`` without the other, or a size that is not a multiple of the
                patch size.
        """
        num_blocks, num_prefix = len(self.vit.blocks), self.vit.num_prefix_tokens
        wanted = {block % num_blocks for block in blocks}
        all_tokens = patch_tokens or num_blocks - 1 in wanted
        x = self.embed(images, keep, mask, mask_token)  # (b, t, d)
        block_tokens: dict[int, Tensor] = {}
        for number, block in enumerate(self.vit.blocks[:-1]):
            x = block(x)
            if number in wanted:
                block_tokens[number] = x[:, num_prefix:]
        x, cls_attention = self._last_block(x, all_tokens)
        if num_blocks - 1 in wanted:
            block_tokens[num_blocks - 1] = x[:, num_prefix:]
        x = self.vit.norm(x)
        return EncoderOutput(
            cls=x[:, 0],
            cls_attention=cls_attention[..., num_prefix:],
            patch_tokens=x[:, num_prefix:] if patch_tokens else None,
            block_tokens=block_tokens,
        )

    def tokens_of(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int], relative: bool = False
    ) -> Float[Tensor, "b n l d"]:
        """Patch tokens after l chosen blocks, each normed to mean 0 and variance 1 over its d entries, float32.

        The model's learned final norm belongs to the last block alone; a norm without parameters puts all blocks on
        one scale. Blocks after the last chosen one are not computed.

        Args:
            images: normalised; sides multiples of the patch size.
            blocks: numbers of the blocks, 0 = first, ascending.
            relative: subtract the image's mean token from each of its tokens, so that what all of an image has in
                common (exposure, the device it was taken with) does not count.
        """
        x = self.embed(images, None)
        tokens = []
        for number, block in enumerate(self.vit.blocks[: max(blocks) + 1]):
            x = block(x)
            if number in blocks:
                tokens.append(x[:, self.vit.num_prefix_tokens :])
        return self.normed(tokens, relative)

    def cls_and_tokens_of(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int], relative: bool = False
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n l d"]]:
        """The final [CLS] token, and the tokens as by :meth:`tokens_of`, in one pass through all blocks."""
        output = self(images, blocks=blocks)
        return output.cls.float(), self.tokens_in(output, blocks, relative)

    def tokens_in(
        self, output: EncoderOutput, blocks: Sequence[int], relative: bool = False
    ) -> Float[Tensor, "b n l d"]:
        """The tokens as by :meth:`tokens_of`, from the output of a pass that was asked for these blocks."""
        return self.normed([output.block_tokens[block] for block in blocks], relative)

    def normed(self, block_tokens: Sequence[Float[Tensor, "b n d"]], relative: bool) -> Float[Tensor, "b n l d"]:
        """The tokens of blocks as by :meth:`tokens_of`, from the tokens as the blocks give them."""
        normed = [F.layer_norm(tokens.float(), (self.embed_dim,)) for tokens in block_tokens]  # each (b, n, d)
        stacked = torch.stack(normed, dim=2)  # (b, n, l, d)
        return stacked - stacked.mean(dim=1, keepdim=True) if relative else stacked

    def _last_block(self, x: Tensor, all_tokens: bool) -> tuple[Tensor, Float[Tensor, "b heads t"]]:
        """Run the last block; also give its [CLS] attention row A = softmax(q_cls K^T / sqrt(d')), Equation 2."""
        block = self.vit.blocks[-1]
        assert isinstance(block, Block)
        attention = self._last_attention
        normed = block.norm1(x)
        b, t, _ = normed.shape
        qkv = attention.qkv(normed).reshape(b, t, 3, attention.num_heads, attention.head_dim)  # d' = head_dim
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (b, heads, t, d')
        q, k = attention.q_norm(q), attention.k_norm(k)
        with torch.autocast(x.device.type, enabled=False):
            logits = q[:, :, :1].float() @ k.float().transpose(-2, -1) * attention.scale  # (b, heads, 1, t)
            cls_row = logits.softmax(dim=-1)
        # the fused kernel computes all tokens; for [CLS] alone its row is enough
        mixed = F.scaled_dot_product_attention(q, k, v) if all_tokens else cls_row.to(v.dtype) @ v
        mixed = attention.norm(mixed.transpose(1, 2).flatten(2))  # (b, t or 1, d)
        if not all_tokens:
            x, normed = x[:, :1], normed[:, :1]
        if attention.gate is not None:
            mixed = mixed * attention.gate(normed).sigmoid()
        x = x + block.drop_path1(block.ls1(attention.proj(mixed)))
        x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return x, cls_row[:, :, 0]


def mean_cls_attention(output: EncoderOutput) -> Float[Tensor, "b n"]:
    """The paper's A^[CLS]: the last block's [CLS] attention, averaged over the heads."""
    return output.cls_attention.mean(dim=1)

"""A frozen encoder that encodes no image twice: what it gives is kept on disk, by the pixels."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.engine.tensor_files import read_tensors, write_tensors
from flawmap.vit.encoder import Encoder, EncoderOutput
from flawmap.vit.frozen_encoder import FrozenEncoder


class CachedEncoder(Encoder):
    """Gives what an encoder gives, rounded to float16 and with tokens that are normed already.

    Args:
        encoder: in evaluation mode; it computes what is not there yet.
        blocks: numbers of the blocks whose tokens are kept, beside those after the final norm.
        folder: for one file per image, 1.2 MB each for ViT-S/14 at 224 px and five blocks.
    """

    def __init__(self, encoder: Encoder, blocks: Sequence[int], folder: Path) -> None:
        super().__init__(encoder.vit)
        self.blocks, self._folder, self._frozen = tuple(blocks), folder, FrozenEncoder(encoder)
        folder.mkdir(parents=True, exist_ok=True)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], *_: Any, blocks: Sequence[int] = (), **__: Any
    ) -> EncoderOutput:
        """See :class:`Encoder`; all patches are kept, and tokens of blocks are normed."""
        kept = [self._kept(image) for image in images]
        return EncoderOutput(
            cls=torch.stack([of_image["cls"] for of_image in kept]),
            cls_attention=torch.stack([of_image["attention"].float()[None] for of_image in kept]),
            patch_tokens=torch.stack([of_image["last"].float() for of_image in kept]),
            block_tokens={
                block: torch.stack([of_image[f"block_{block}"].float() for of_image in kept]) for block in blocks
            },
        )

    def tokens_of(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int], relative: bool = False
    ) -> Float[Tensor, "b n l d"]:
        """See :class:`Encoder`."""
        return self.tokens_in(self(images, blocks=blocks), blocks, relative)

    @torch.no_grad()
    def _kept(self, image: Float[Tensor, "3 h w"]) -> dict[str, Tensor]:
        pixels = image.contiguous().numpy()
        path = self._folder / f"{hashlib.sha256(pixels.tobytes()).hexdigest()[:32]}.safetensors"
        if not path.is_file():
            last = len(self.vit.blocks) - 1
            output = self._frozen.encode(image[None], sorted({*self.blocks, last}))
            attention = output.cls_attention.mean(dim=1)
            normed = {f"block_{n}": self.normed([output.block_tokens[n]], False)[0, :, 0].half() for n in self.blocks}
            of_last = self.vit.norm(output.block_tokens[last])[0].half()
            rest = {"cls": output.cls[0], "attention": attention[0].half(), "last": of_last}
            write_tensors(path, {**normed, **rest})
        return read_tensors(path)

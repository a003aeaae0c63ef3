"""The [CLS] attention of the frozen guide on every good image, computed once."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import NormalImageSource, normal_batches

BATCH_SIZE = 16  # on a processor


@torch.no_grad()
def cache_attention(guide: Encoder, pixels: NormalImageSource, size_px: int, device: str) -> Float[np.ndarray, "n r c"]:
    """A^[CLS] of each whole image, resized to ``size_px``, on the patch grid.

    Args:
        guide: frozen encoder, after pre-training.
        pixels: the good images.
        size_px: a multiple of the patch size.
        device: torch's name of it. The precision is always fp32, because the attention decides where defects go.
    """
    guide = guide.eval().to(device)
    rows, columns = guide.grid(size_px, size_px)
    maps, at_once = [], ImagesAtOnce.on(device, guide.bytes_per_image(size_px), BATCH_SIZE)

    def attention_of(images: Float[Tensor, "b 3 s s"], size: int) -> Float[Tensor, "b n"]:
        return torch.cat([mean_cls_attention(guide(some)) for some in images.split(size)])

    for _, images in normal_batches(pixels, size_px, at_once.size, device):
        attention = at_once.run(partial(attention_of, images))
        maps.append(attention.reshape(-1, rows, columns).cpu().numpy())
    return np.concatenate(maps)

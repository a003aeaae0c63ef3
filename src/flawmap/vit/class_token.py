"""The [CLS] feature of one image before any head, and its attention to the patches."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from flawmap.data.images.resize import resize_image
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.inputs import channels_first, normalise


@dataclass(frozen=True)
class ClassToken:
    """The [CLS] token of one image.

    Attributes:
        feature: after the encoder's last norm and before any projection or detection head (the paper's Figure 5).
        attention: A^[CLS] of the last block, averaged over the heads, on the patch grid; sums to at most 1.
    """

    feature: Float[np.ndarray, "d"]
    attention: Float[np.ndarray, "r c"]


@torch.no_grad()
def class_token(encoder: Encoder, image: UInt8[np.ndarray, "h w 3"], size_px: int) -> ClassToken:
    """Encode one image in fp32.

    Args:
        encoder: in evaluation mode.
        image: of any size; it is resized to a square.
        size_px: side of the square, a multiple of the patch size.
    """
    device = next(encoder.parameters()).device
    square = channels_first(resize_image(image, size_px, size_px))[None].to(device)  # (1, 3, s, s)
    with torch.autocast(device.type, enabled=False):
        output = encoder(normalise(square))
    attention = mean_cls_attention(output)[0].reshape(encoder.grid(size_px, size_px))
    return ClassToken(output.cls[0].cpu().numpy(), attention.cpu().numpy())

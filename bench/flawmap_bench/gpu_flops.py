"""How much a ViT computes, by a closed form, and how much a device can: its peak, measured with large products.

A multiplication and an addition are two operations. Norms, activations and softmax are left out: they are a few in a
hundred, and the peak is that of matrix products.
"""

import time
from collections.abc import Callable

import torch
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block

from flawmap.vit.encoder import Encoder

PEAK_SECONDS = 2.0  # of products for each type


def encoder_flops(encoder: Encoder, size_px: int, kept: int | None = None, all_tokens: bool = False) -> int:
    """Operations of a forward pass on one image.

    Args:
        encoder: gives the depth and widths.
        size_px: side of the image.
        kept: patches that are left after dropping; None for all.
        all_tokens: whether the last block is computed for all tokens, and not for [CLS] alone.
    """
    rows, columns = encoder.grid(size_px, size_px)
    patches, d, p = rows * columns, encoder.embed_dim, encoder.patch_size_px
    t = (patches if kept is None else kept) + encoder.vit.num_prefix_tokens
    block = encoder.vit.blocks[0]
    assert isinstance(block, Block) and isinstance(block.mlp, Mlp)
    hidden = block.mlp.fc1.out_features
    assert isinstance(hidden, int)
    qkv, attention_row = 2 * t * d * 3 * d, 4 * t * d  # of one query: with all keys, and of its weights with all values
    rest = 2 * d * d + 4 * d * hidden  # of one token: projection and MLP
    whole = qkv + t * attention_row + t * rest
    # [CLS] attention is given out, so that its row of weights is computed beside the fused kernel
    last = whole + 2 * t * d if all_tokens else qkv + attention_row + rest
    return 2 * patches * 3 * p * p * d + (len(encoder.vit.blocks) - 1) * whole + last


def step_flops(
    encoder: Encoder, sizes_px: tuple[int, int], num_locals: int, kept: tuple[int, int] | None, masks_locals: bool
) -> int:
    """Operations for one image of a step of the paper's stage 1; a backward pass counts twice a forward pass.

    Args:
        encoder: the student's and the teacher's.
        sizes_px: sides of the global and the local views.
        num_locals: local views.
        kept: patches of a global and of a local view that the student sees; None where nothing is dropped.
        masks_locals: whether patches of local views are dropped, too.
    """
    global_px, local_px = sizes_px
    whole, whole_local = (encoder_flops(encoder, side) for side in sizes_px)
    if kept is None:
        return whole + 3 * (whole + num_locals * whole_local)
    of_global = encoder_flops(encoder, global_px, kept[0])
    of_local = encoder_flops(encoder, local_px, kept[1] if masks_locals else None)
    attention = whole + (num_locals * whole_local if masks_locals else 0)  # that decides what is dropped
    return whole + attention + 3 * (of_global + num_locals * of_local)


def measured_peak(device: str, dtype: torch.dtype, side: int, at_least_s: float = PEAK_SECONDS) -> float:
    """Operations per second of a product of two square matrices, of the fastest repetition."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    fastest, until = float("inf"), time.perf_counter() + at_least_s
    while fastest == float("inf") or time.perf_counter() < until:
        fastest = min(fastest, seconds_of(lambda: a @ b, device))
    return 2 * side**3 / fastest


def seconds_of(work: Callable[[], object], device: str) -> float:
    """How long ``work`` takes, until the device has finished."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: str) -> None:
    """Wait for all that an accelerator has to compute."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()

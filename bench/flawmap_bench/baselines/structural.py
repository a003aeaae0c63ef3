"""Structural differences of two images: gradient magnitude similarity over several scales (MSGMS), and SSIM."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GMS_CONSTANT = 0.0026  # set for values in [0, 1]
SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
MEAN_FILTER_PX = 21


P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Differences of squares need float32: in the bf16 of autocast a variance can come out negative."""

    @wraps(function)
    def computed(*arguments: P.args, **named: P.kwargs) -> R:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return function(*(a.float() if isinstance(a, Tensor) else a for a in arguments), **named)  # pyright: ignore

    return computed


@in_float32
def msgms_difference(
    first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"], scales: int, per_channel: bool = False
) -> Float[Tensor, "b h w"]:
    """1 - GMS, the mean over ``scales`` halvings of the size, each resized back to the full one bilinearly.

    GMS = (2 g h + c) / (g^2 + h^2 + c), with g and h the Prewitt gradient magnitudes after a 3 x 3 median, of the
    channels' mean (RIAD), or of each channel and then averaged (InTra), so that a change of colour alone counts. Zero
    where the images agree. Both images in [0, 1].
    """
    size, channels = first.shape[-2:], first.shape[1]
    if per_channel:
        a, b = first.flatten(0, 1)[:, None], second.flatten(0, 1)[:, None]
    else:
        a, b = first.mean(dim=1, keepdim=True), second.mean(dim=1, keepdim=True)
    total = torch.zeros_like(a)
    for scale in range(scales):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        g, h = _gradient_magnitude(a), _gradient_magnitude(b)
        difference = 1 - (2 * g * h + GMS_CONSTANT) / (g.square() + h.square() + GMS_CONSTANT)
        total = total + F.interpolate(difference, size=size, mode="bilinear", align_corners=False)
    mean = total[:, 0] / scales
    return mean.unflatten(0, (-1, channels)).mean(dim=1) if per_channel else mean


@in_float32
def ssim_difference(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """1 - SSIM, the mean over channels and pixels; Gaussian window of 11 px; both images in [0, 1]."""
    channels = first.shape[1]
    offsets = torch.arange(SSIM_WINDOW_PX, device=first.device) - SSIM_WINDOW_PX // 2
    weights = torch.exp(-offsets.float().square() / (2 * SSIM_SIGMA_PX**2))
    weights = weights / weights.sum()
    window = (weights[:, None] * weights).expand(channels, 1, -1, -1)

    def mean_of(x: Tensor) -> Tensor:
        return F.conv2d(x, window, padding=SSIM_WINDOW_PX // 2, groups=channels)

    a, b = mean_of(first), mean_of(second)
    variance_a, variance_b = mean_of(first.square()) - a.square(), mean_of(second.square()) - b.square()
    covariance = mean_of(first * second) - a * b
    structure = (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)
    return 1 - ((2 * a * b + SSIM_C1) / (a.square() + b.square() + SSIM_C1) * structure).mean()


def mean_filtered(values: Float[Tensor, "b h w"], side_px: int = MEAN_FILTER_PX) -> Float[Tensor, "b h w"]:
    """The mean over a square of odd side, of the part of it inside the image."""
    return F.avg_pool2d(values[:, None], side_px, stride=1, padding=side_px // 2, count_include_pad=False)[:, 0]


def _gradient_magnitude(gray: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    median = F.unfold(padded, 3).median(dim=1, keepdim=True).values.unflatten(2, gray.shape[-2:])
    step = torch.tensor([1.0, 0.0, -1.0], device=gray.device, dtype=median.dtype) / 3
    along = step.expand(3, 3)
    kernels = torch.stack([along, along.T])[:, None]
    gradients = F.conv2d(F.pad(median, (1, 1, 1, 1), mode="replicate"), kernels)
    return (gradients.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()  # a root of 0 has no gradient

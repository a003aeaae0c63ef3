"""The convolutional encoder-decoder of RIAD and DRAEM, with or without skip connections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class UNet(nn.Module):
    """Two convolutions per level, half the size from level to level, and back.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, which has no activation.
        channels: of each level, the finest first.
        has_skips: whether each level of the decoder also takes the output of the encoder's level.
    """

    def __init__(self, inputs: int, outputs: int, channels: Sequence[int], has_skips: bool) -> None:
        super().__init__()
        self.has_skips, self.factor = has_skips, 2 ** (len(channels) - 1)
        before = (inputs, *channels[:-1])
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip(before, channels, strict=True))
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(_convolution(a, b) for a, b in pairs)
        self.merge = nn.ModuleList(_convolutions(2 * b if has_skips else b, b) for _, b in pairs)
        self.head = nn.Conv2d(channels[0], outputs, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """Height and width must be multiples of ``factor``."""
        seen = []
        for number, level in enumerate(self.down):
            x = level(x if number == 0 else F.max_pool2d(x, 2))
            seen.append(x)
        for up, merge, skip in zip(self.up, self.merge, seen[-2::-1], strict=True):
            x = up(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True))
            x = merge(torch.cat([x, skip], dim=1) if self.has_skips else x)
        return self.head(x)


def scaled(channels: Sequence[int], width: float) -> tuple[int, ...]:
    """Each number of channels times ``width``, at least 4."""
    return tuple(max(4, round(width * count)) for count in channels)


def size_for(size_px: int, factor: int) -> int:
    """The multiple of ``factor`` nearest to a size."""
    return max(factor, round(size_px / factor) * factor)


def _convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_convolution(before, after), _convolution(after, after))

"""Residual networks that the simulation baselines train from scratch: a classifier, and encoder-decoders."""

from itertools import pairwise

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ResNet18(nn.Module):
    """timm's ResNet-18, untrained, giving its stages.

    Args:
        width: share of the published channels, 64 to 512 after the stem's 64.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = tuple(round(width * count) for count in (64, 128, 256, 512))
        self.net = timm.create_model("resnet18", pretrained=False, features_only=True, channels=channels)
        self.channels = (64, *channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's size with 64, 64, 128, 256 and 512 channels."""
        return self.net(images)


class ResNetEncoderDecoder(nn.Module):
    """NSA's network: a ResNet-18 and a mirrored decoder back to the image's size; one logit per pixel.

    Args:
        width: as of :class:`ResNet18`.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = ResNet18(width)
        decoded = [max(4, round(width * count)) for count in (256, 128, 64, 64, 32)]
        channels = (self.encoder.channels[-1], *decoded)
        self.decoder = nn.Sequential(*(_Up(before, after) for before, after in pairwise(channels)))
        self.head = nn.Conv2d(decoded[-1], 1, 3, padding=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Logits."""
        logits = self.head(self.decoder(self.encoder(images)[-1]))
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


class WideEncoderDecoder(nn.Module):
    """FPI's and PII's network: residual blocks of depth 10 n + 6 with n = 1 and width 4; one logit per pixel.

    Five blocks go down to 1/16 of the size, four go up again; the last has one channel, the logit. So each pixel is
    judged from a square of nearly 180 pixels around it, which covers a whole foreign patch with its edges.

    Args:
        width: share of the publication's channels.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        first, *down = (max(4, round(width * count)) for count in (16, 64, 128, 256, 256, 256))
        up = [max(4, round(width * count)) for count in (128, 64, 16)]
        self.stem = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.encoder = nn.Sequential(
            *(_Residual(a, b, 1 if number == 0 else 2) for number, (a, b) in enumerate(pairwise([first, *down])))
        )
        self.decoder = nn.Sequential(*(_Residual(a, b, 2, goes_up=True) for a, b in pairwise([down[-1], *up, 1])))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Logits."""
        logits = self.decoder(self.encoder(self.stem(images)))
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


class _Up(nn.Module):
    """Twice the size, then a convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(F.interpolate(x, scale_factor=2.0, mode="nearest"))))


class _Residual(nn.Module):
    """A block with norm and activation before each convolution (Zagoruyko and Komodakis 2016).

    Args:
        before: channels of the input; if they equal ``after``, the shortcut has no weights.
        after: channels of the output.
        factor: by which the size shrinks, or grows if ``goes_up``.
        goes_up: whether the block enlarges.
    """

    def __init__(self, before: int, after: int, factor: int, goes_up: bool = False) -> None:
        super().__init__()
        stride = 1 if goes_up else factor
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.convolution1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.convolution2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.grow = nn.Upsample(scale_factor=factor) if goes_up else nn.Identity()
        self.shortcut = None if before == after else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        self.shrink = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        shortcut = self.shrink(x) if self.shortcut is None else self.shortcut(activated)
        within = self.grow(self.convolution1(activated))
        return self.grow(shortcut) + self.convolution2(F.relu(self.norm2(within)))


def standardised(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Each image minus its own mean, divided by its own deviation."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) / torch.sqrt(images.var(dim=(1, 2, 3), keepdim=True) + 1e-6)

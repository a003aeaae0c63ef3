"""Views of good images: turned, mirrored, zoomed or lit otherwise, so that few images show more of what is good."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flawmap.memory.shifts import Shift
from flawmap.vit.inputs import normalise, unnormalised

FEW = 20  # with so many images or more, none of them is turned, mirrored, zoomed or lit otherwise
SQUARE = 1.25  # longer side over shorter side of images that may be turned: others are squashed by the resize
POINTS = 8  # per side of a patch, at which a view is asked where it sees its image


@dataclass(frozen=True)
class View:
    """An image seen otherwise; the default is the image itself.

    Attributes:
        turn_deg: the image turns by this angle, counterclockwise.
        mirrored: left and right change places first.
        zoom: the image appears so many times as large.
        gain: factor of all values.
        gamma: exponent of all values, which are in [0, 1].
    """

    turn_deg: float = 0.0
    mirrored: bool = False
    zoom: float = 1.0
    gain: float = 1.0
    gamma: float = 1.0

    def images(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """Normalised images as this view shows them; beyond the border, the border is repeated."""
        if self.mirrored:
            images = images.flip(-1)
        if self.turn_deg % 90 == 0 and self.zoom == 1:  # exactly, without another interpolation
            images = images.rot90(int(self.turn_deg // 90), dims=(-2, -1))
        else:
            size = list(images.shape)
            points = self._sampled_at(size).to(images)
            images = F.grid_sample(images, points, mode="bicubic", padding_mode="border", align_corners=False)
        if self.gain == 1 and self.gamma == 1:
            return images
        return normalise(255 * (self.gain * unnormalised(images).clamp(0, 1) ** self.gamma).clamp(0, 1))

    def counted(self, inside: Bool[Tensor, "b n"], grid: tuple[int, int]) -> Bool[Tensor, "b n"]:
        """The patches of the view that count: those that see nothing but patches of the image that count.

        Args:
            inside: the patches of the image that count.
            grid: their rows and columns, as many of each.
        """
        rows, columns = grid
        pixels = inside.unflatten(1, grid)[:, None].float()  # (b, 1, r, c)
        pixels = pixels.repeat_interleave(POINTS, dim=2).repeat_interleave(POINTS, dim=3)
        pixels = pixels.flip(-1) if self.mirrored else pixels
        points = self._sampled_at(list(pixels.shape)).to(pixels)
        # each point is moved into its pixel's middle, so that rounding decides nothing
        seen = F.grid_sample(pixels, points * (1 - 1e-4), mode="nearest", padding_mode="zeros", align_corners=False)
        return (F.avg_pool2d(seen, POINTS) > 1 - 1e-6).reshape(len(inside), rows * columns)

    def _sampled_at(self, size: list[int]) -> Float[Tensor, "b h w 2"]:
        angle = math.radians(self.turn_deg)
        cosine, sine = math.cos(angle) / self.zoom, math.sin(angle) / self.zoom
        matrix = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
        return F.affine_grid(matrix.expand(size[0], 2, 3), size, align_corners=False)


KINDS: dict[str, tuple[View, ...]] = {
    "tilted": tuple(View(turn_deg=angle) for angle in (-10.0, -5.0, 5.0, 10.0)),
    "zoomed": (View(zoom=0.9), View(zoom=1.1)),
    "lit otherwise": (View(gain=0.85), View(gain=1.15), View(gamma=0.8), View(gamma=1.25)),
    "mirrored": (View(mirrored=True), View(mirrored=True, turn_deg=180.0)),
    "turned": tuple(View(turn_deg=45.0 * eighths) for eighths in range(1, 8)),
}
SAFE = ("tilted", "zoomed", "lit otherwise")  # where good images cannot tell what helps
VIEWS = tuple(view for views in KINDS.values() for view in views)  # by number
KIND_OF_VIEW = tuple(kind for kind, views in KINDS.items() for _ in views)


def possible_kinds(originals_px: Int[Tensor, "i 2"]) -> tuple[str, ...]:
    """All kinds, but turned images only where all are nearly square: a turned part would be squashed another way."""
    sides = originals_px.float()
    are_square = bool((sides.amax(dim=1) <= SQUARE * sides.amin(dim=1)).all())
    return tuple(kind for kind in KINDS if are_square or kind != "turned")


def views_within(
    limit: int, num_images: int, grid: tuple[int, int], shifts: Sequence[Shift], numbers: Sequence[int]
) -> tuple[int, ...]:
    """The first views, as many as leave room for all tokens of all images among so many candidates.

    Args:
        limit: largest number of candidates.
        num_images: that give candidates.
        grid: rows and columns of patches.
        shifts: of each image, whose tokens are candidates as well.
        numbers: of the views that are wanted.
    """
    per_view = num_images * grid[0] * grid[1]
    of_shifts = num_images * sum(rows * columns for rows, columns in (shift.grid(*grid) for shift in shifts))
    return tuple(numbers[: max(0, limit - per_view - of_shifts) // per_view])


def views_of(kinds: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the views of some kinds, in :data:`VIEWS`."""
    return tuple(number for number, kind in enumerate(KIND_OF_VIEW) if kind in kinds)

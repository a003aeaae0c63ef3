"""Good images shifted by half a patch, so that the memory knows their parts at more than one place in a patch.

Where patches begin on a part is chance. A thin edge gives other tokens when it lies elsewhere in its patch, and a few
hundred images do not show every edge at every place. Shifted images give the memory more to choose from; detection
costs the same.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Shift:
    """Moves images up, left, or both by half a patch.

    Attributes:
        down: the patch grid moves down on the image.
        right: it moves to the right.
    """

    down: bool
    right: bool

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """How many rows and columns of patches still lie within the image."""
        return rows - self.down, columns - self.right

    def images(self, images: Float[Tensor, "b 3 h w"], patch_size_px: int) -> Float[Tensor, "b 3 h w"]:
        """The images as the shifted grid sees them; beyond the border, the border is repeated."""
        down_px, right_px = patch_size_px // 2 * self.down, patch_size_px // 2 * self.right
        padded = F.pad(images, (0, right_px, 0, down_px), mode="replicate")
        return padded[..., down_px:, right_px:]

    def counted(self, inside: Bool[Tensor, "b n"], grid: tuple[int, int]) -> Bool[Tensor, "b n"]:
        """The patches of the shifted grid that count: those that touch no patch outside of the region of interest.

        Args:
            inside: the patches of the grid that count.
            grid: its rows and columns.
        """
        on_grid = inside.unflatten(1, grid)  # (b, r, c)
        kept_rows, kept_columns = self.grid(*grid)
        counted = on_grid[:, self.down :, self.right :] & on_grid[:, :kept_rows, :kept_columns]
        counted = counted & on_grid[:, self.down :, :kept_columns] & on_grid[:, :kept_rows, self.right :]
        # beyond the border, where it is repeated, a patch counts as the one beside it
        return (F.pad(counted.float(), (0, self.right, 0, self.down), mode="replicate") > 0).flatten(1)

    def inside(self, tokens: Shaped[Tensor, "b n *d"], grid: tuple[int, int]) -> Shaped[Tensor, "b m *d"]:
        """Tokens of the patches that lie within the image, or whatever else each patch has."""
        kept_rows, kept_columns = self.grid(*grid)
        on_grid = tokens.unflatten(1, grid)  # (b, r, c, l, d)
        return on_grid[:, :kept_rows, :kept_columns].flatten(1, 2)


# The first is worth most: in both directions at once.
SHIFTS = (Shift(down=True, right=True), Shift(down=True, right=False), Shift(down=False, right=True))


def shifts_within(limit: int, num_images: int, grid: tuple[int, int], at_most: int) -> tuple[Shift, ...]:
    """As many shifts as leave room for all tokens of all images among so many candidates.

    Args:
        limit: largest number of candidates.
        num_images: that give candidates.
        grid: rows and columns of patches.
        at_most: largest number of shifts.
    """
    total, fitting = num_images * grid[0] * grid[1], []
    for shift in SHIFTS[:at_most]:
        kept_rows, kept_columns = shift.grid(*grid)
        total += num_images * kept_rows * kept_columns
        if total > limit:
            break
        fitting.append(shift)
    return tuple(fitting)

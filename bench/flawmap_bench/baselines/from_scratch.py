"""What the baselines share that train a network from scratch: steps until the budget is spent."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.engine.compute import Compute
from flawmap.errors import UserError
from flawmap.reproducibility import numpy_generator
from flawmap_bench.method import Budget, MethodSettings

REDUCED_WIDTH = 0.25  # of the publication's channels, without an accelerator


class TrainedFromScratch(ABC):
    """A method whose networks are trained from scratch within the budget.

    Args:
        settings: of the board.
        width: share of the publication's channels; None: by the device.

    Attributes:
        key: name of the random streams.
        learning_rate: of the optimizer at the start.
        read_size_px: side of the square that good images are read at; the board's unless the subclass changes it.
        networks: all that is trained.
        note: see :class:`flawmap_bench.method.Method`.
    """

    key: ClassVar[str]
    learning_rate: float

    def __init__(self, settings: MethodSettings, width: float | None = None) -> None:
        self.settings, self.device = settings, settings.compute.device
        self.width = width or width_factor(self.device)
        self.read_size_px = settings.image_size_px
        self.networks = nn.ModuleList()
        self.note = ""
        torch.manual_seed(settings.seed)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Fill ``networks``, and set what else the method needs; torch has been seeded."""

    @abstractmethod
    def loss_of_step(self, pixels: NormalPixels, step: int) -> Float[Tensor, ""]:
        """The loss of a step, by its number."""

    @abstractmethod
    def remarks(self, steps: int) -> Sequence[str]:
        """Parts of the note, after so many steps; empty ones are left out."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, with its full learning rate."""
        return torch.optim.Adam(self.networks.parameters(), lr=self.learning_rate)

    def rate_at(self, share: float) -> float:
        """Factor of the learning rates, by the spent share of the budget."""
        return 1.0

    def after_training(self, pixels: NormalPixels) -> None:
        """What else is learned from the good images, with trained networks."""
        return

    def fit(self, images: Sequence[NormalImage]) -> None:
        """Train within the budget."""
        budget = Budget(self.settings.budget_seconds, self.settings.max_steps)
        pixels = NormalPixels(images, self.read_size_px)
        self.networks.train()
        steps = train_until_spent(
            budget,
            self.optimizer(),
            lambda step: self.loss_of_step(pixels, step),
            self.rate_at,
            self.settings.compute,
        )
        self.networks.eval()
        self.after_training(pixels)
        self.note = "; ".join(part for part in self.remarks(steps) if part)

    def num_parameters(self) -> int:
        """Of all networks."""
        return sum(parameter.numel() for parameter in self.networks.parameters())

    def generator(self, step: int) -> np.random.Generator:
        """The random stream of a step."""
        return numpy_generator(self.settings.seed, self.key, step)

    def drawn_images(self, pixels: NormalPixels, count: int, step: int) -> UInt8[np.ndarray, "b s s 3"]:
        """The images of a step, see :func:`drawn_images`."""
        return drawn_images(pixels, count, self.settings.seed, self.key, step)


def train_until_spent(
    budget: Budget,
    optimizer: torch.optim.Optimizer,
    loss_of_step: Callable[[int], Tensor],
    rate_at: Callable[[float], float],
    compute: Compute,
) -> int:
    """Optimise until the budget is spent, at least one step.

    Args:
        budget: running already.
        optimizer: with its full learning rates.
        loss_of_step: the loss of a step, by its number; called under autocast where ``compute`` says bf16.
        rate_at: factor of the learning rates, by the spent share of the budget.
        compute: device and precision.

    Returns:
        the number of steps done.

    Raises:
        UserError: the loss is not finite.
    """
    full_rates = [group["lr"] for group in optimizer.param_groups]
    step = 0
    while (share := budget.share(step)) < 1.0 or step == 0:
        for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
            group["lr"] = rate * rate_at(share)
        with torch.autocast(compute.device, torch.bfloat16, enabled=compute.precision == "bf16"):
            loss = loss_of_step(step)
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {step}", "", "try another seed or a larger image size")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    return step


def cosine_rate(share: float) -> float:
    """From 1 to 0 on half a cosine."""
    return float(0.5 * (1 + np.cos(np.pi * share)))


def drawn_images(pixels: NormalPixels, count: int, seed: int, *key: int | str) -> UInt8[np.ndarray, "b s s 3"]:
    """``count`` different images (with repeats only where there are fewer), determined by (seed, key)."""
    generator = numpy_generator(seed, "draw", *key)
    chosen = generator.choice(len(pixels), count, replace=count > len(pixels))
    return np.stack([pixels[int(index)] for index in chosen])


def as_tensor(images: Sequence[np.ndarray] | np.ndarray, device: str) -> Float[Tensor, "b 3 h w"]:
    """uint8 (b, h, w, 3) as floats in [0, 1], channels first."""
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(list(images))))
    return stacked.to(device).permute(0, 3, 1, 2).float() / 255


def width_factor(device: str) -> float:
    """Share of the publications' channels: all with an accelerator, a quarter on a processor (the board says so)."""
    return REDUCED_WIDTH if device == "cpu" else 1.0


def width_note(factor: float) -> str:
    """A reduced width in words; empty where nothing is reduced."""
    return "" if factor == 1.0 else f"{100 * factor:.3g} % of the channels"


def publication_note(done: int, published: int) -> str:
    """The publication's number, where another one was used here; empty where they are equal."""
    return "" if done == published else f" (publication: {published})"

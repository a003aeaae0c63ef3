"""The interface of every simulator, what a simulator returns, and the rule that all of them keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from flawmap.simulators.blending import paste


@dataclass(frozen=True)
class SimulatedAnomaly:
    """A good image with a simulated defect.

    Attributes:
        image: equal to the good image outside ``footprint``.
        footprint: True where something was pasted: the segmentation target.
        soft_target: the simulator's own label per pixel in [0, 1]; the footprint itself for hard pasting.
        label: 1, or 0 where nothing changed.
    """

    image: UInt8[np.ndarray, "h w 3"]
    footprint: Bool[np.ndarray, "h w"]
    soft_target: Float[np.ndarray, "h w"]
    label: int


class Simulator:
    """Simulates a defect on a good image of any size from 32 px on, square or not.

    A simulator is a subclass whose ``simulate`` takes an image, a generator and, by name, what is listed in ``needs``.

    Attributes:
        needs: which of ``attention`` and ``second`` must be given.
    """

    needs: ClassVar[tuple[Literal["attention", "second"], ...]] = ()
    simulate: Callable[..., SimulatedAnomaly]

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: Float[np.ndarray, "r c"] | None = None,
        second: UInt8[np.ndarray, "h w 3"] | None = None,
    ) -> SimulatedAnomaly:
        """Simulate one defect.

        Args:
            image: a good image; it is not changed.
            generator: the only source of randomness.
            attention: A^[CLS] >= 0 of ``image`` at any resolution, for simulators that follow it.
            second: another good image of the same size, for simulators that cut their patches from one.

        Raises:
            ValueError: something that this simulator needs is None.
        """
        given = {"attention": attention, "second": second}
        if missing := [name for name in self.needs if given[name] is None]:
            raise ValueError(f"{type(self).__name__} needs {' and '.join(missing)}, but got None")
        return self.simulate(image, generator, **{name: given[name] for name in self.needs})


def anomaly_inside(
    image: UInt8[np.ndarray, "h w 3"],
    patched: UInt8[np.ndarray, "h w 3"],
    footprint: Bool[np.ndarray, "h w"],
    soft_target: Float[np.ndarray, "h w"] | None = None,
) -> SimulatedAnomaly:
    """The rule of every simulator: pixels change inside the footprint only, and an unchanged image has no footprint.

    Args:
        image: the good image.
        patched: the image with the defect; pixels outside ``footprint`` are not used.
        footprint: True where something was pasted.
        soft_target: the simulator's own label in [0, 1], not used outside the footprint; None: the footprint.

    Returns:
        the defect with label 1; or, where ``patched`` equals ``image`` all over the footprint, the image as it was
        with label 0, an empty footprint and an empty soft target.
    """
    result = paste(image, patched, footprint)
    if (result == image).all():
        footprint = np.zeros_like(footprint)
    soft = footprint if soft_target is None else np.where(footprint, soft_target, 0)
    return SimulatedAnomaly(result, footprint, soft.astype(np.float32), int(footprint.any()))

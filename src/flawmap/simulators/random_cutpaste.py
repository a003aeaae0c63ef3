"""The control of attention-conditioned cut and paste: the same patches at uniformly random locations."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import simulate_anomaly
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly


@dataclass(frozen=True)
class RandomCutPaste:
    """The control: all as in ours but for the locations, which are uniform. The difference is what attention gives."""

    settings: SimulationSettings = field(default_factory=SimulationSettings)
    needs_attention: ClassVar[bool] = False
    needs_second: ClassVar[bool] = False

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        generator: np.random.Generator,
        attention: object = None,
        second: object = None,
    ) -> SimulatedAnomaly:
        """Simulate one anomaly; see :class:`flawmap.simulators.by_name.Simulator`."""
        return simulate_anomaly(image, np.ones((1, 1), np.float32), generator, self.settings)

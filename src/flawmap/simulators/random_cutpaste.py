"""The control of attention-conditioned cut and paste: the same patches at uniformly random locations."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator


@dataclass(frozen=True)
class RandomCutPaste(Simulator):
    """As AttentionCutPaste but for the locations, which are uniform: the difference is what attention contributes."""

    settings: SimulationSettings = field(default_factory=SimulationSettings)

    def simulate(self, image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> SimulatedAnomaly:
        """Simulate one defect of one or more patches."""
        return AttentionCutPaste(self.settings)(image, generator, attention=np.ones((1, 1), np.float32))

"""What the tests of several objectives of stage 1 compute with."""

import numpy as np
import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def balanced(plan: np.ndarray, iterations: int) -> np.ndarray:
    """Sinkhorn-Knopp in float64: each prototype (column) and then each sample (row) sums to 1."""
    plan = plan.copy()
    for _ in range(iterations):
        for k in range(plan.shape[1]):
            plan[:, k] /= plan[:, k].sum()
        for b in range(plan.shape[0]):
            plan[b] /= plan[b].sum()
    return plan

"""Watches whether stage 1 learns clusters or has collapsed, and records it in the log."""

import math
from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.engine.progress import say
from flawmap.errors import UserError
from flawmap.paper.clusters import entropy, gather_batch, prototypes_used
from flawmap.runs.training_log import COLLAPSED_ENTROPY, WINDOW_STEPS

REMEDY = "--set pretrain.sinkhorn_epsilon=0.005, or pretrain.center_outputs=true, or pretrain.enabled=false"


class CollapseWatch:
    """Records prototype usage, target entropy, score spread and loss against ln K.

    Args:
        num_prototypes: K.
        warmup_steps: a collapse is reported from this step on.
        uniform_loss: the loss of a collapsed model; None stands for ln K.
        stops: a collapse ends the training. Otherwise it is reported (again after a resume) and recorded: for an
            objective that others published and that is run for comparison, the collapse is the result.
    """

    def __init__(
        self,
        num_prototypes: int,
        warmup_steps: int,
        uniform_loss: float | None = None,
        stops: bool = True,
    ) -> None:
        self.uniform = math.log(num_prototypes)
        self._uniform_loss = self.uniform if uniform_loss is None else uniform_loss
        self._num_prototypes, self._warmup_steps = num_prototypes, warmup_steps
        self._stops, self._is_reported = stops, False
        self._entropies: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._recent_favourites: deque[Tensor] = deque(maxlen=WINDOW_STEPS)

    @torch.no_grad()
    def observe(self, step: int, loss: Tensor, targets: Float[Tensor, "b k"], score_spread: Tensor) -> dict[str, float]:
        """Numbers for the log; ``collapsed`` tells whether the targets of the last steps were uniform on average.

        Raises:
            UserError: a collapse after the warm-up, in a watch that stops. The gradient is then close to zero, and
                more steps would not help.
        """
        all_targets = gather_batch(targets)
        self._entropies.append(float(entropy(all_targets)))
        self._recent_favourites.append(all_targets.argmax(dim=-1).cpu())
        mean_entropy = sum(self._entropies) / len(self._entropies)
        collapsed = len(self._entropies) == WINDOW_STEPS and mean_entropy > COLLAPSED_ENTROPY * self.uniform
        if collapsed and step >= self._warmup_steps:
            self._report_collapse(step, mean_entropy)
        return {
            "loss": float(loss.detach()),
            "uniform_loss": self._uniform_loss,
            "target_entropy": self._entropies[-1],
            "score_spread": float(score_spread),
            "collapsed": collapsed,
            "prototypes_used": prototypes_used(all_targets),
            "prototypes_used_recently": int(torch.cat(list(self._recent_favourites)).unique().numel()),
        }

    def state(self) -> dict[str, list]:
        """What a checkpoint keeps, so that a resumed stage judges and logs as an uninterrupted one would."""
        return {"entropies": list(self._entropies), "recent_favourites": list(self._recent_favourites)}

    def load_state(self, state: dict[str, list]) -> None:
        """Continue from :meth:`state`."""
        self._entropies = deque(state["entropies"], maxlen=WINDOW_STEPS)
        self._recent_favourites = deque(state["recent_favourites"], maxlen=WINDOW_STEPS)

    def _report_collapse(self, step: int, mean_entropy: float) -> None:
        problem = (
            f"pre-training has collapsed: the clusters' targets are uniform (entropy {mean_entropy:.3f} of at most "
            f"ln {self._num_prototypes} = {self.uniform:.3f}) over the last {WINDOW_STEPS} steps"
        )
        if self._stops:
            raise UserError(problem, f"stage pretrain, step {step}", REMEDY)
        if not self._is_reported:
            say("collapse", f"{problem}; training continues, because the collapse is this objective's result")
        self._is_reported = True

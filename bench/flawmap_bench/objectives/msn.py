"""MSN (Assran et al. 2022): masked and small views predict the unmasked view's assignment to prototypes.

Embeddings and prototypes have any length; the l2 norm is part of the loss. Everything is computed in logarithms,
because powers of probabilities underflow.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from flawmap.paper.clusters import gather_batch, sinkhorn
from flawmap.paper.patch_masking import kept_patches, random_patch_mask
from flawmap.paper.projection import BOTTLENECK_DIM, HIDDEN_DIM, mlp_layers
from flawmap.paper.self_distillation import Objective, by_view, spread_over_batch
from flawmap.vit.inputs import normalise
from flawmap_bench.objectives.dino import TeacherAndStudent, local_cls

# 1024 in the publication. The entropy term wants the mean prediction of a batch to cover all prototypes, which the
# 11 x 16 anchors of 16 images can for 64, but not for 1024.
NUM_PROTOTYPES = 64
MEAN_ENTROPY_WEIGHT = 1.0  # lambda of the publication, kept: with 64 prototypes the term can reach zero
TEMPERATURE = 0.1
SHARPENING = 0.25
DROP_RATIO = 0.15  # of the global anchor's patches; MSN's for ViT-S
HEAD_NORM = "layer"  # batch norm of the teacher's single view of 16 images would be noise


def msn_log_predictions(
    embeddings: Float[Tensor, "*rows d"], prototypes: Float[Tensor, "k d"], temperature: float = TEMPERATURE
) -> Float[Tensor, "*rows k"]:
    """ln softmax(cos(z, C) / tau), float32 also under autocast.

    Args:
        embeddings: z of any length.
        prototypes: C of any length: the parameter itself, so that it learns.
        temperature: tau in (0, 1).
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        cosines = F.normalize(embeddings.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).t()  # (*rows, k)
        return (cosines / temperature).log_softmax(dim=-1)


@torch.no_grad()
def msn_targets(
    embeddings: Float[Tensor, "b d"],
    prototypes: Float[Tensor, "k d"],
    temperature: float = TEMPERATURE,
    sharpening: float = SHARPENING,
    iterations: int = 3,
) -> Float[Tensor, "b k"]:
    """Sinkhorn(p^(1/T) / sum p^(1/T)) of the teacher's predictions p. No gradient flows through it.

    Unlike SwAV's, this Sinkhorn balances probabilities, not exp(score / epsilon).

    Args:
        embeddings: of the teacher's one unmasked view.
        prototypes: C.
        temperature: tau of p.
        sharpening: T in (0, 1]; 1 leaves p as it is.
        iterations: rounds of normalising prototypes, then samples; 0 leaves the sharpened p.

    Returns:
        float32; every row sums to 1.
    """
    log_sharpened = (msn_log_predictions(embeddings, prototypes, temperature) / sharpening).log_softmax(dim=-1)
    return sinkhorn(log_sharpened, epsilon=1.0, iterations=iterations)  # exp(ln p / 1) = p


def msn_loss(
    targets: Float[Tensor, "b k"],
    anchors: Float[Tensor, "v b d"],
    prototypes: Float[Tensor, "k d"],
    temperature: float = TEMPERATURE,
    mean_entropy_weight: float = MEAN_ENTROPY_WEIGHT,
) -> Float[Tensor, ""]:
    """Mean CE(target, softmax(cos(z, C) / tau)) over all anchors + lambda (ln K - H(mean prediction)).

    No pair is skipped: the anchors are different crops from the target view.

    Args:
        targets: of the teacher's view; no gradient flows into them.
        anchors: z, embeddings of the student's views: the masked global one and the small ones.
        prototypes: C, the parameter itself, so that it learns.
        temperature: tau in (0, 1).
        mean_entropy_weight: lambda.
    """
    log_predictions = msn_log_predictions(anchors, prototypes, temperature)  # (v, b, k)
    cross_entropy = -(targets.detach() * log_predictions).sum(dim=-1).mean()
    return cross_entropy + mean_entropy_weight * mean_entropy_gap(log_predictions)


def mean_entropy_gap(log_predictions: Float[Tensor, "v b k"]) -> Float[Tensor, ""]:
    """ln K - H(p), p the mean prediction over all anchors of all processes: 0 if and only if p is uniform.

    Args:
        log_predictions: ln p of each anchor, normalised.
    """
    own = log_predictions.flatten(0, 1).logsumexp(dim=0) - math.log(log_predictions[..., 0].numel())  # (k,)
    gathered = gather_batch(own.detach()[None])  # (processes, k)
    log_mean = gathered.logsumexp(dim=0) - math.log(len(gathered))
    # The value is that of all processes, the gradient that of this one; averaged over the processes it is the true
    # one. It is ln p dp instead of (ln p + 1) dp, which is the same because p sums to 1.
    mean = own.exp() + (log_mean.exp() - own.exp()).detach()
    return math.log(len(log_mean)) + (mean * log_mean).sum()


class MsnHead(nn.Module):
    """MSN's head: d-2048-2048-256 with GELU and a norm before each of the two, without l2 (the loss has it).

    Args:
        in_dim: width d of the encoder.
        norm: ``batch`` is the publication's. Its statistics are noisy on the teacher's single view of 16 images;
            and since the teacher's EMA covers parameters only, a teacher head with it must run in training mode, on
            the statistics of its own batch. ``layer`` and ``none`` treat each image separately.
    """

    def __init__(self, in_dim: int, norm: Literal["batch", "layer", "none"]) -> None:
        super().__init__()
        kinds = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": lambda _: nn.Identity()}
        first, first_gelu, second, second_gelu, last = mlp_layers(in_dim)
        self.layers = nn.Sequential(
            first, kinds[norm](HIDDEN_DIM), first_gelu, second, kinds[norm](HIDDEN_DIM), second_gelu, last
        )

    def forward(self, cls: Float[Tensor, "b d"]) -> Float[Tensor, "b 256"]:
        """Embeddings z of any length, float32."""
        return self.layers(cls).float()


class MsnPrototypes(nn.Module):
    """MSN's prototypes: ``weight`` (K, 256), uniform in +-1/16 at the start, never renormalised and not decayed.

    The loss takes ``weight`` itself and normalises it; a detached copy would keep its initial values.

    Args:
        num_prototypes: K.
    """

    def __init__(self, num_prototypes: int) -> None:
        super().__init__()
        bound = BOTTLENECK_DIM**-0.5
        self.weight = nn.Parameter(torch.empty(num_prototypes, BOTTLENECK_DIM).uniform_(-bound, bound))


class MsnModule(TeacherAndStudent):
    """The teacher sees one crop whole; the student another one with patches dropped, and the local ones whole.

    MSN drops the same patches of all images of a batch. Here each image has its own mask, as in our random masking;
    every mask drops the same number of patches. Masks are drawn from (seed, step). K is the number of prototypes.
    """

    default_outputs = NUM_PROTOTYPES

    def new_head(self) -> MsnHead:
        """MSN's, which scores nothing itself."""
        return MsnHead(self.student_encoder.embed_dim, HEAD_NORM)

    def add_networks(self) -> None:
        """The prototypes, which teacher and student share."""
        self.prototypes = MsnPrototypes(self.num_outputs)

    def prototypes_of(self) -> list[nn.Parameter]:
        """C, with which teacher and student are compared; it is not renormalised, since the loss normalises it."""
        return list(self.prototypes.parameters())

    @torch.no_grad()
    def kept_of_anchor(self, views: Tensor) -> Int[Tensor, "b k"]:
        """Indices of the patches that the student sees of its global view."""
        rows, columns = self.student_encoder.grid(views.shape[-2], views.shape[-1])
        how = rows * columns, DROP_RATIO
        return kept_patches(self.random_mask(views, lambda count, numbers: random_patch_mask(count, *how, numbers)))

    def loss_of(self, batch: dict[str, Tensor]) -> Objective:
        """Cross-entropy of all anchors with the target + how far their mean prediction is from uniform."""
        prototypes = self.prototypes.weight  # (k, 256)
        with torch.no_grad():
            embeddings = self.teacher_head(self.teacher_encoder(normalise(batch["teacher"])).cls)  # (b, 256)
            scores = msn_log_predictions(embeddings, prototypes) * TEMPERATURE  # (b, k), cosines minus a constant
        targets = msn_targets(embeddings, prototypes)  # (b, k)
        view = normalise(batch["student_global"])
        anchor = self.student_encoder(view, keep=self.kept_of_anchor(view)).cls
        every_cls = torch.cat([anchor, local_cls(self.student_encoder, batch)])  # (v b, d)
        anchors = by_view(self.student_head(every_cls), batch)  # (v, b, 256)
        return Objective(msn_loss(targets, anchors, prototypes), targets, spread_over_batch(scores))

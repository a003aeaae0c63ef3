"""Scorers on the tokens of middle blocks: a memory of normal tokens, a trained head on what differs, and both."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flawmap.memory.expectation import NormalExpectation
from flawmap.memory.patch_memory import Nearest, PatchMemory
from flawmap.memory.residual_head import ResidualHead
from flawmap.scorer import Scorer, ScorerOutput
from flawmap.vit.encoder import Encoder


@dataclass(frozen=True)
class TokenScorerShape:
    """What must be known to build a scorer before its tensors are read.

    Attributes:
        blocks: numbers of the blocks whose tokens are used, 0 = first, ascending.
        memory_tokens: per block.
        hidden: width of the residual head.
        image_share: the image score is the mean over this share of an image's tokens, those with most evidence.
        relative: tokens are taken relative to the mean token of their image.
        reference_images: how many training images tell what a normal image of like appearance shows.
    """

    blocks: tuple[int, ...]
    memory_tokens: int
    hidden: int
    image_share: float
    relative: bool = False
    reference_images: int = 0


class Standardisation(nn.Module):
    """Standard deviations from the mean, both taken from normal images: what puts different scores on one scale."""

    mean: Float[Tensor, ""]
    deviation: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Take mean and deviation over all ``values``."""
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std(correction=0).clamp(min=1e-6))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised values of the same shape."""
        return (values - self.mean) / self.deviation


class TokenScorer(Scorer):
    """An encoder, which stays as it was given, a memory of normal tokens, and kinds of evidence drawn from them.

    Of each kind, what normal images of like appearance show is taken away, and the rest is put in standard deviations
    of normal images; then the kinds are put together, for the image and for the map with weights of their own. The map
    is smoothed over neighbouring patches.

    Args:
        encoder: frozen.
        shape: of memory and head.
    """

    MAP_WEIGHTS: ClassVar[tuple[float, ...]] = (1.0,)  # of the kinds of evidence in the map
    IMAGE_WEIGHTS: ClassVar[tuple[float, ...]] = (1.0,)  # and in the image score

    def __init__(self, encoder: Encoder, shape: TokenScorerShape) -> None:
        super().__init__(encoder)
        self.shape = shape
        self.memory = PatchMemory(len(shape.blocks), shape.memory_tokens, encoder.embed_dim)
        kinds = len(self.MAP_WEIGHTS)
        self.expectation = NormalExpectation(shape.reference_images, encoder.embed_dim, kinds)
        self.map_scales = nn.ModuleList(Standardisation() for _ in range(kinds))
        self.image_scales = nn.ModuleList(Standardisation() for _ in range(kinds))

    @abstractmethod
    def evidence_of(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> tuple[Float[Tensor, "b n"], ...]:
        """The kinds of evidence for an anomaly, per token, not yet standardised."""

    def score(self, images: Float[Tensor, "b 3 h w"]) -> ScorerOutput:
        """The weighted mean of the standardised kinds of evidence per image, and their weighted sum per patch."""
        tops, evidence = self._beyond_expectation(images)
        image = _weighted_sum(self.IMAGE_WEIGHTS, self.image_scales, tops) / sum(self.IMAGE_WEIGHTS)
        tokens = _weighted_sum(self.MAP_WEIGHTS, self.map_scales, evidence)
        rows, columns = self.encoder.grid(images.shape[-2], images.shape[-1])
        return ScorerOutput(image, smoothed(tokens.reshape(-1, rows, columns)))

    @torch.no_grad()
    def fit_expectation(
        self, cls: Float[Tensor, "r d"], batches: Iterable[tuple[Float[Tensor, "b n l d"], Int[Tensor, "b"]]]
    ) -> None:
        """Take from training images what normal images show that are not known yet, each judged by the others alone.

        Their scores beyond what like images score also give the scale of the image score: standard deviations of normal
        images. Where several kinds counted in it, the images that later set its threshold would not weigh them.

        Args:
            cls: of all images.
            batches: their tokens, in the same order, with the images' numbers in the memory's ``sources``.
        """
        tops, means = [], []
        for tokens, numbers in batches:
            evidence = self.evidence_of(tokens, self.memory.nearest(tokens, exclude=numbers))
            tops.append(torch.stack([self.top_mean(one) for one in evidence], dim=1))
            means.append(torch.stack([one.mean(dim=1) for one in evidence], dim=1))
        self.expectation.remember(cls, torch.cat(tops), torch.cat(means))
        expected, _ = self.expectation(cls, exclude=torch.arange(len(cls), device=cls.device))
        beyond = torch.cat(tops) - expected
        for scale, values in zip(self.image_scales, beyond.unbind(dim=1), strict=True):
            scale.fit(values)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def fit_map_scales(self, batches: Iterable[tuple[Float[Tensor, "1 3 h w"], Int[Tensor, "1"] | None]]) -> None:
        """Take from normal images, best ones that no part was fitted to, what their tokens have of each evidence.

        Args:
            batches: one normalised image each, with its number in the memory's ``sources`` if it is in there: its own
                tokens are then left out of the memory.
        """
        of_images = [self._beyond_expectation(image, exclude=number)[1] for image, number in batches]
        for kind, scale in enumerate(self.map_scales):
            scale.fit(torch.cat([evidence[kind] for evidence in of_images]))  # pyright: ignore[reportCallIssue]

    def top_mean(self, evidence: Float[Tensor, "b n"]) -> Float[Tensor, "b"]:
        """Mean over the highest ``image_share`` of an image's tokens, one at least."""
        count = max(1, round(self.shape.image_share * evidence.shape[1]))
        return evidence.topk(count, dim=1).values.mean(dim=1)

    def _beyond_expectation(
        self, images: Float[Tensor, "b 3 h w"], exclude: Int[Tensor, "b"] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Of each kind of evidence, the mean (b,) over the highest and all (b, n), less what is normal for such images.

        Not yet standardised.
        """
        cls, evidence = self._evidence_in(images, exclude)
        expected_tops, expected_means = self.expectation(cls)
        tops = [self.top_mean(one) - expected_tops[:, kind] for kind, one in enumerate(evidence)]
        return tops, [one - expected_means[:, kind, None] for kind, one in enumerate(evidence)]

    def _evidence_in(
        self, images: Float[Tensor, "b 3 h w"], exclude: Int[Tensor, "b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], tuple[Float[Tensor, "b n"], ...]]:
        """The [CLS] token and the kinds of evidence."""
        cls, tokens = self.encoder.cls_and_tokens_of(images, self.shape.blocks, self.shape.relative)
        return cls, self.evidence_of(tokens, self.memory.nearest(tokens, exclude))


class MemoryScorer(TokenScorer):
    """How far tokens are from the nearest normal ones; nothing is trained (PatchCore's and AnomalyDINO's idea)."""

    def evidence_of(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> tuple[Float[Tensor, "b n"], ...]:
        """The blocks' mean distance."""
        return (self.memory.standardised(nearest),)


class ResidualScorer(TokenScorer):
    """A head, trained on simulated anomalies, on tokens and their differences from normal ones."""

    def __init__(self, encoder: Encoder, shape: TokenScorerShape) -> None:
        super().__init__(encoder, shape)
        self.head = ResidualHead(len(shape.blocks), encoder.embed_dim, shape.hidden)

    def evidence_of(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> tuple[Float[Tensor, "b n"], ...]:
        """The head's logits."""
        return (self.head(tokens, nearest),)


class FusedScorer(ResidualScorer):
    """Memory and residual head together: the memory tells whether anything is wrong, the head more of where."""

    MAP_WEIGHTS = (0.25, 1.0)
    IMAGE_WEIGHTS = (1.0, 0.0)  # simulated defects teach what a defect is too narrowly to judge a whole image

    def evidence_of(self, tokens: Float[Tensor, "b n l d"], nearest: Nearest) -> tuple[Float[Tensor, "b n"], ...]:
        """The memory's distance and the head's logits."""
        return self.memory.standardised(nearest), self.head(tokens, nearest)


def smoothed(evidence: Float[Tensor, "b r c"]) -> Float[Tensor, "b r c"]:
    """Weighted mean over 3 x 3 patches, 1-2-1 in each direction; the border is repeated."""
    kernel = evidence.new_tensor([0.25, 0.5, 0.25])
    padded = nn.functional.pad(evidence[:, None], (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])[:, 0]


def _weighted_sum(weights: Sequence[float], scales: nn.ModuleList, evidence: Sequence[Tensor]) -> Tensor:
    of_kinds = zip(weights, scales, evidence, strict=True)
    return torch.stack([weight * scale(one) for weight, scale, one in of_kinds]).sum(dim=0)


TOKEN_SCORERS: dict[str, type[TokenScorer]] = {
    "memory": MemoryScorer,
    "residual": ResidualScorer,
    "fused": FusedScorer,
}

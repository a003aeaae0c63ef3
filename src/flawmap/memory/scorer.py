"""From tokens to an image score and an anomaly map, by a memory of normal tokens, a trained head, or both."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flawmap.memory.appearance import AppearanceAndTokens
from flawmap.memory.expectation import NormalExpectation
from flawmap.memory.inside import mean_inside, smoothed, top_mean
from flawmap.memory.patch_memory import Nearest, PatchMemory
from flawmap.memory.residual_head import ResidualHead
from flawmap.memory.search import bytes_per_query
from flawmap.memory.views import FEW
from flawmap.metrics.unusual_scores import limit_of_usual
from flawmap.recipe.settings import MemorySettings, Recipe
from flawmap.scorer import Scorer, ScorerOutput
from flawmap.vit.encoder import Encoder
from flawmap.vit.frozen_encoder import Backend, FrozenEncoder

COPIES = 10  # of a token while it is compared and the head judges it: normed, nearest, difference, joined and others
LEARNED_FROM_GOOD_IMAGES = ("expectation.", "image_scales.")  # tensors of the stage "expectation"


@dataclass(frozen=True)
class Evidence:
    """The kinds of evidence for an anomaly in some images, beyond what similar good images show; not standardised.

    Attributes:
        image: of each kind, (b,): the mean over the patches with most evidence.
        patches: of each kind, (b, n): one value per patch.
        inside: (b, n), the patches in the region of interest; None: all.
        appearance_distances: (b, p), see :meth:`NormalExpectation.distances`; None where no good image is remembered.
    """

    image: tuple[Float[Tensor, "b"], ...]
    patches: tuple[Float[Tensor, "b n"], ...]
    inside: Bool[Tensor, "b n"] | None = None
    appearance_distances: Float[Tensor, "b p"] | None = None

    def of_each_image(self) -> "list[Evidence]":
        """One for each of the images."""
        rows, inside = [slice(row, row + 1) for row in range(len(self.image[0]))], self.inside
        distances = self.appearance_distances
        return [
            Evidence(
                tuple(kind[row] for kind in self.image),
                tuple(kind[row] for kind in self.patches),
                None if inside is None else inside[row],
                None if distances is None else distances[row],
            )
            for row in rows
        ]

    @classmethod
    def joined(cls, parts: "Sequence[Evidence]") -> "Evidence":
        """All images of some parts."""
        kinds = range(len(parts[0].image))
        return cls(
            tuple(torch.cat([part.image[kind] for part in parts]) for kind in kinds),
            tuple(torch.cat([part.patches[kind] for part in parts]) for kind in kinds),
            _joined([part.inside for part in parts]),
            _joined([part.appearance_distances for part in parts]),
        )

    def values(self, kind: int) -> Float[Tensor, "m"]:
        """Of one kind, the values of all patches that count."""
        return self.patches[kind].flatten() if self.inside is None else self.patches[kind][self.inside]


class Standardisation(nn.Module):
    """Standard deviations from the mean, both taken from good images: it puts different scores on one scale."""

    mean: Float[Tensor, ""]
    deviation: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Take mean and deviation over all ``values``.

        Few values may be alike by chance, and one has no deviation. The evidence is on a scale of ones already, so
        another value is thought of that lies one away from the mean.
        """
        self.mean.copy_(values.mean())
        deviation = values.std(correction=0)
        if (count := values.numel()) < FEW:
            deviation = (deviation.square() + 1 / count).sqrt()
        self.deviation.copy_(deviation.clamp(min=1e-6))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised values of the same shape."""
        return (values - self.mean) / self.deviation


class TokenScorer(Scorer):
    """A frozen encoder, a memory of normal tokens, and the kinds of evidence drawn from them.

    Scoring goes through four steps: tokens of middle blocks; evidence per patch and per image; what similar good
    images show is subtracted; the kinds are standardised and added up, with weights of their own for image and map.

    Args:
        encoder: frozen.
        recipe: the settings of the method.
        memory_tokens: tokens per block that the memory holds.
        reference_images: images that the expectation remembers.
    """

    map_weights: tuple[float, ...]
    image_weights: tuple[float, ...]
    memory: PatchMemory
    expectation: NormalExpectation

    def __init__(self, encoder: Encoder, recipe: Recipe, memory_tokens: int, reference_images: int) -> None:
        super().__init__(encoder)
        self.frozen: FrozenEncoder = FrozenEncoder(encoder, recipe.encoder_precision)
        self.settings: MemorySettings = recipe.memory
        self.taken: AppearanceAndTokens = AppearanceAndTokens(encoder, recipe)
        self.blocks: tuple[int, ...] = self.taken.blocks
        self.map_weights, self.image_weights = self.weights(recipe)
        kinds = len(self.map_weights)
        self.memory = PatchMemory(len(self.blocks), memory_tokens, encoder.embed_dim, recipe.encoder_precision)
        self.expectation = NormalExpectation(recipe.expectation, reference_images, encoder.embed_dim, kinds)
        self.map_scales: nn.ModuleList = nn.ModuleList(Standardisation() for _ in range(kinds))
        self.image_scales: nn.ModuleList = nn.ModuleList(Standardisation() for _ in range(kinds))

    @staticmethod
    def weights(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Weights of the kinds of evidence, in the anomaly map and in the image score."""
        return (1.0,), (1.0,)

    @property
    def encoder_backend(self) -> Backend:
        """What computes the encoder where this scorer lies."""
        return self.frozen.backend

    @property
    def knows_appearances(self) -> bool:
        """Whether the expectation remembers any good image."""
        return len(self.expectation.appearances) > 0

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products that the remembered images show."""
        return self.expectation.products

    def with_memory(self, memory: PatchMemory, expectation: NormalExpectation) -> "TokenScorer":
        """A scorer with another memory and expectation, which shares all else with this one."""
        other = copy.copy(self)
        other._modules = {**self._modules, "memory": memory, "expectation": expectation}
        return other

    # ---- scoring

    def bytes_per_image(self, size_px: int) -> int:
        """With the search, the nearest tokens and the inputs of the head; see :class:`Scorer`."""
        (num_blocks, num_tokens, dim), (rows, columns) = self.memory.tokens.shape, self.encoder.grid(size_px, size_px)
        per_token = bytes_per_query(num_tokens, dim) + 4 * COPIES * num_blocks * dim
        return self.encoder.bytes_per_image(size_px, num_blocks) + rows * columns * per_token

    def score(self, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None) -> ScorerOutput:
        """Score normalised images whose sides are multiples of the patch size; each on its own; see :class:`Scorer`."""
        return self.output(self.evidence(images, inside), self.encoder.grid(images.shape[-2], images.shape[-1]))

    def evidence(self, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None) -> Evidence:
        """The evidence in normalised images beyond what good images of similar appearance show."""
        appearance, tokens = self.taken.of_images(self.frozen, images, inside)
        return self.evidence_in(appearance, tokens, self.memory.nearest(tokens), inside)

    def evidence_in(
        self,
        appearance: Float[Tensor, "b d"],
        tokens: Float[Tensor, "b n l d"],
        nearest: Nearest,
        inside: Bool[Tensor, "b n"] | None = None,
    ) -> Evidence:
        """The same from an image's appearance, its tokens and the normal ones nearest to them."""
        kinds = self.evidence_per_patch(tokens, nearest)  # each (b, n)
        expected_tops, expected_means = self.expectation(appearance)  # (b, k) each
        return Evidence(
            tuple(self.top_mean(patches, inside) - expected_tops[:, kind] for kind, patches in enumerate(kinds)),
            tuple(patches - expected_means[:, kind, None] for kind, patches in enumerate(kinds)),
            inside,
            self.expectation.distances(appearance) if self.knows_appearances else None,
        )

    @abstractmethod
    def evidence_per_patch(
        self, tokens: Float[Tensor, "b n l d"], nearest: Nearest
    ) -> tuple[Float[Tensor, "b n"], ...]:
        """The kinds of evidence for an anomaly in each patch, not yet standardised."""

    def top_mean(self, patches: Float[Tensor, "b n"], inside: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b"]:
        """Mean over the share ``image_share`` of an image's patches that have most evidence, at least one patch."""
        return top_mean(patches, self.settings.image_share, inside)

    def output(self, evidence: Evidence, grid: tuple[int, int]) -> ScorerOutput:
        """The weighted mean of the standardised kinds per image, and their weighted sum per patch, smoothed."""
        image = _weighted_sum(self.image_weights, self.image_scales, evidence.image) / sum(self.image_weights)  # (b,)
        patches = _weighted_sum(self.map_weights, self.map_scales, evidence.patches)  # (b, n)
        inside = None if evidence.inside is None else evidence.inside.reshape(-1, *grid)
        on_grid = smoothed(patches.reshape(-1, *grid), inside)  # (b, r, c)
        return ScorerOutput(image, on_grid, evidence.appearance_distances)

    # ---- fitting

    @torch.no_grad()
    def fit_expectation(
        self,
        appearances: Float[Tensor, "r d"],
        images: Int[Tensor, "r"],
        batches: Iterable[tuple[Float[Tensor, "b n l d"], Nearest]],
        inside: Bool[Tensor, "r n"] | None = None,
    ) -> None:
        """Learn what good images show that the memory does not know, each judged by the tokens of the others.

        Their scores beyond what similar images score also set the scale of the image score: standard deviations of
        good images. An image that looks unusual may have a defect, which must not raise what is expected of others: it
        is remembered with what similar images show instead.

        Args:
            appearances: of all reference images.
            images: number of the image that each is of; those of the same image do not count for each other.
            batches: their tokens in the same order, with the nearest normal tokens of other images.
            inside: the patches of each that count; None: all.
        """
        tops, means = [], []
        done = 0
        for tokens, nearest in batches:
            kinds = self.evidence_per_patch(tokens, nearest)  # each (b, n)
            mask = None if inside is None else inside[done : done + len(tokens)].to(tokens.device)
            tops.append(torch.stack([self.top_mean(patches, mask) for patches in kinds], dim=1))  # (b, k)
            means.append(torch.stack([mean_inside(patches, mask) for patches in kinds], dim=1))  # (b, k)
            done += len(tokens)
        self.remember(appearances, images, torch.cat(tops), torch.cat(means))

    @torch.no_grad()
    def remember(
        self,
        appearances: Float[Tensor, "r d"],
        images: Int[Tensor, "r"],
        tops: Float[Tensor, "r k"],
        means: Float[Tensor, "r k"],
    ) -> None:
        """The same from what the images show: of each kind, the mean over its highest values and over all values."""
        self.expectation.remember(appearances, tops, means)
        same = (images[:, None] == images).to(appearances.device)  # (r, r)
        expected = self.expectation(appearances, exclude=same)  # (r, k) each
        beyond = (tops - expected[0]).unbind(dim=1)
        for scale, values in zip(self.image_scales, beyond, strict=True):
            scale.fit(values)  # pyright: ignore[reportCallIssue]
        scores = _weighted_sum(self.image_weights, self.image_scales, beyond)
        usual = scores[:, None] <= limit_of_usual(scores.cpu())
        self.expectation.remember(
            appearances, torch.where(usual, tops, expected[0]), torch.where(usual, means, expected[1])
        )

    def expectation_state(self) -> dict[str, Tensor]:
        """The tensors that :meth:`fit_expectation` has set."""
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith(LEARNED_FROM_GOOD_IMAGES)}

    def restore_expectation(self, state: Mapping[str, Tensor]) -> None:
        """Take what :meth:`expectation_state` gave, of any number of reference images, to the last bit."""
        prefix = LEARNED_FROM_GOOD_IMAGES[0]
        self.expectation.restore({n.removeprefix(prefix): state[n] for n in state if n.startswith(prefix)})
        self.load_state_dict({**self.state_dict(), **state})

    @torch.no_grad()
    def fit_map_scales(self, images: Sequence[Evidence]) -> None:
        """Take mean and deviation of each kind of evidence over the patches of good images."""
        for kind, scale in enumerate(self.map_scales):
            scale.fit(torch.cat([evidence.values(kind) for evidence in images]))  # pyright: ignore[reportCallIssue]


class MemoryScorer(TokenScorer):
    """How far tokens are from the nearest normal ones; nothing is trained (the idea of PatchCore and AnomalyDINO)."""

    def evidence_per_patch(
        self, tokens: Float[Tensor, "b n l d"], nearest: Nearest
    ) -> tuple[Float[Tensor, "b n"], ...]:
        """The mean distance over the blocks."""
        return (self.memory.standardised(nearest),)


class ResidualScorer(TokenScorer):
    """A head, trained on simulated defects, on tokens and their differences from normal ones.

    Args: as for :class:`TokenScorer`.
    """

    head: ResidualHead

    def __init__(self, encoder: Encoder, recipe: Recipe, memory_tokens: int, reference_images: int) -> None:
        super().__init__(encoder, recipe, memory_tokens, reference_images)
        self.head = ResidualHead(len(self.blocks), encoder.embed_dim, recipe.residual)

    def evidence_per_patch(
        self, tokens: Float[Tensor, "b n l d"], nearest: Nearest
    ) -> tuple[Float[Tensor, "b n"], ...]:
        """The head's logits."""
        return (self.head(tokens, nearest.tokens),)

    def with_head(self, state: Mapping[str, Tensor]) -> "ResidualScorer":
        """A scorer with another head, and an expectation and scales that can be fitted to it; it shares all else."""
        other, own = copy.copy(self), ("head", "expectation", "map_scales", "image_scales")
        other._modules = {**self._modules, **{name: copy.deepcopy(self._modules[name]) for name in own}}
        other.head.load_state_dict(state)
        return other


class FusedScorer(ResidualScorer):
    """Memory and head together: the memory says whether anything is wrong, the head says more about where.

    Simulated defects are too narrow a lesson to judge a whole image by; ``fusion.image_weights`` therefore leaves the
    head out of the image score.
    """

    @staticmethod
    def weights(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Weights of memory and head, in the anomaly map and in the image score."""
        return recipe.fusion.map_weights, recipe.fusion.image_weights

    def evidence_per_patch(
        self, tokens: Float[Tensor, "b n l d"], nearest: Nearest
    ) -> tuple[Float[Tensor, "b n"], ...]:
        """The memory's distance and the head's logits."""
        return self.memory.standardised(nearest), self.head(tokens, nearest.tokens)


TOKEN_SCORERS: dict[str, type[MemoryScorer | ResidualScorer]] = {
    "memory": MemoryScorer,
    "residual": ResidualScorer,
    "fused": FusedScorer,
}


def build_scorer(
    encoder: Encoder, recipe: Recipe, memory_tokens: int | None = None, reference_images: int = 0
) -> TokenScorer:
    """The scorer of the recipe's method, its tensors still to be fitted or loaded.

    Args:
        encoder: frozen.
        recipe: its method is ``memory``, ``residual`` or ``fused``.
        memory_tokens: tokens per block that the memory really holds; None: as many as the recipe asks for.
        reference_images: images that the expectation remembers.

    Raises:
        UserError: a block that the encoder does not have.
    """
    tokens = recipe.memory.tokens if memory_tokens is None else memory_tokens
    return TOKEN_SCORERS[recipe.method](encoder, recipe, tokens, reference_images)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All rows; None where the parts have none."""
    rows = [part for part in parts if part is not None]
    return torch.cat(rows) if rows else None


def _weighted_sum(weights: Sequence[float], scales: nn.ModuleList, kinds: Sequence[Tensor]) -> Tensor:
    weighted = [weight * scale(values) for weight, scale, values in zip(weights, scales, kinds, strict=True)]
    return torch.stack(weighted).sum(dim=0)

"""Whole images and their tiles together, each judged by a memory of its own."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flawmap.data.images.tiles import Tiling
from flawmap.memory.scorer import Standardisation, TokenScorer, build_scorer
from flawmap.recipe.settings import Recipe
from flawmap.scorer import Scorer, ScorerOutput
from flawmap.vit.encoder import Encoder
from flawmap.vit.frozen_encoder import Backend

MAP_SHARES = (0.2, 0.8)  # of the whole image and of the tiles in the anomaly map
TILED = {f"{name}.{tensor}" for name in ("whole", "tiles") for tensor in ("memory.tokens", "expectation.appearances")}
MORE_CANDIDATES = 2  # times as many as of whole images: a memory lacks less of what is normal
TILE_SHARE = 0.25  # of the share of whole images whose patches make the score: tiles are for small defects


class TiledScorer(Scorer):
    """Judges an image as a whole and by its tiles.

    A tile shows small defects at a size at which the encoder sees them; the whole image shows that a part lies in the
    wrong place. The image score is the mean of that of the whole and of the highest of its tiles, both in standard
    deviations of good images. :mod:`flawmap.detect.scoring` cuts the tiles and joins what is found.

    Args:
        whole: scorer of whole images.
        tiles: scorer of tiles. The encoder of ``whole`` is used for both.
        size_px: side of a tile as the encoder sees it.

    Attributes:
        scale: pixels of a resized image per pixel of the original, where it is cut into tiles.
        highest: of good images, mean and deviation of the highest score of an image's tiles.
    """

    scale: Float[Tensor, ""]

    def __init__(self, whole: TokenScorer, tiles: TokenScorer, size_px: int) -> None:
        super().__init__(whole.encoder)
        self.whole: TokenScorer = without_encoder(whole)
        self.tiles: TokenScorer = without_encoder(tiles, whole)
        self._size_px = size_px
        self.register_buffer("scale", torch.ones(()))
        self.highest: Standardisation = Standardisation()

    @property
    def encoder_backend(self) -> Backend:
        """What computes the encoder where this scorer lies."""
        return self.whole.encoder_backend

    @property
    def knows_appearances(self) -> bool:
        """Whether whole good images are remembered."""
        return self.whole.knows_appearances

    @property
    def products(self) -> tuple[str, ...]:
        """Those of whole images."""
        return self.whole.products

    @property
    def tiling(self) -> Tiling:
        """How images are cut."""
        patch_size_px = self.encoder.patch_size_px
        return Tiling(float(self.scale), self._size_px // patch_size_px, patch_size_px)

    def bytes_per_image(self, size_px: int) -> int:
        """See :class:`Scorer`."""
        return max(self.whole.bytes_per_image(size_px), self.tiles.bytes_per_image(size_px))

    def score(self, images: Float[Tensor, "b 3 h w"], inside: Bool[Tensor, "b n"] | None = None) -> ScorerOutput:
        """Score whole images; see :class:`Scorer`."""
        return self.whole.score(images, inside)

    def score_tiles(self, tiles: Float[Tensor, "t 3 s s"], inside: Bool[Tensor, "t n"] | None = None) -> ScorerOutput:
        """Score tiles, each on its own; see :meth:`score`."""
        return self.tiles.score(tiles, inside)

    def standardised_highest(self, score: float) -> float:
        """The highest score of an image's tiles, in standard deviations of those of good images; float32."""
        return float(self.highest(torch.tensor(score, device=self.scale.device)))

    def with_parts(self, whole: TokenScorer, tiles: TokenScorer) -> "TiledScorer":
        """A scorer of other parts, which shares all else with this one."""
        other = TiledScorer(whole, tiles, self._size_px)
        other.scale, other.highest = self.scale, self.highest
        return other.eval()


def without_encoder(scorer: TokenScorer, encoder_of: TokenScorer | None = None) -> TokenScorer:
    """The scorer, whose encoder is no longer one of its modules, because another scorer has it.

    Args:
        scorer: changed.
        encoder_of: whose encoder it uses from now on; None keeps its own.
    """
    encoder = (encoder_of or scorer).encoder
    scorer._modules.pop("encoder", None)
    object.__setattr__(scorer, "encoder", encoder)
    if encoder_of is not None:
        scorer.frozen, scorer.taken = encoder_of.frozen, encoder_of.taken
    return scorer


def settings_of_tiles(recipe: Recipe) -> Recipe:
    """The recipe of the scorer of tiles."""
    memory = recipe.memory
    candidates, image_share = MORE_CANDIDATES * memory.candidates, TILE_SHARE * memory.image_share
    return replace(recipe, memory=replace(memory, candidates=candidates, image_share=image_share))


def build_tiled_scorer(
    encoder: Encoder, recipe: Recipe, size_px: int, shapes: Mapping[str, tuple[int, ...]]
) -> TiledScorer:
    """A scorer whose tensors are still to be loaded.

    Args:
        encoder: frozen.
        recipe: of the training.
        size_px: side of a tile as the encoder sees it.
        shapes: of the tensors that will be loaded, by name.
    """
    parts = [
        build_scorer(encoder, of_part, shapes[f"{name}.memory.tokens"][1], shapes[f"{name}.expectation.appearances"][0])
        for name, of_part in (("whole", recipe), ("tiles", settings_of_tiles(recipe)))
    ]
    return TiledScorer(parts[0], parts[1], size_px)

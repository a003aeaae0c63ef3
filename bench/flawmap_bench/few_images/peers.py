"""AnomalyDINO and PatchCore on the tokens that flawmap sees, for comparisons with few images.

Both are as their publications describe them, but for the encoder, the size of images and the weights, which are
flawmap's: AnomalyDINO (Damm et al., 2025) is made for such tokens; PatchCore (Roth et al., 2022) takes a CNN's.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flawmap.memory.coreset import greedy_coreset
from flawmap.memory.few_images import nearest
from flawmap.memory.views import VIEWS, View, views_of
from flawmap.scorer import ScorerOutput
from flawmap.vit.encoder import Encoder

TOP_SHARE = 0.01  # AnomalyDINO: the image score is the mean of this share of the distances, the highest
PATCHCORE_SHARE = 0.1  # of the tokens that PatchCore keeps (PatchCore-10 %)
PATCHCORE_FEWEST = 2_000  # tokens: of fewer, it keeps all
PATCHCORE_NEIGHBOURS = 9  # by which its image score is weighted
TURNED = [VIEWS[number] for number in views_of(["turned"])]
Images = Float[Tensor, "n 3 s s"]
Scored = Callable[[Images], ScorerOutput]


@torch.no_grad()
def anomaly_dino(encoder: Encoder, images: Sequence[Images], turns: bool) -> Scored:
    """Distances to all tokens of the last block.

    Args:
        encoder: whose patch tokens after the final norm are compared.
        images: good ones, each (1, 3, s, s), normalised.
        turns: also of the images turned by multiples of 45 degrees, as AnomalyDINO does with few images.
    """
    views = [View(), *TURNED] if turns else [View()]
    tokens = [_last(encoder, view.images(image)) for image in images for view in views]
    bank = torch.cat(tokens).flatten(0, 1)[:, None].half()  # (m, 1, d)

    def scored(image: Images) -> ScorerOutput:
        distances = nearest(_last(encoder, image)[:, :, None], bank)[..., 0]  # (1, n)
        count = max(1, round(TOP_SHARE * distances.shape[1]))
        return ScorerOutput(distances.topk(count).values.mean(dim=1), _on_grid(distances, encoder, image))

    return scored


@torch.no_grad()
def patchcore(encoder: Encoder, images: Sequence[Images], blocks: Sequence[int], seed: int) -> Scored:
    """Distances to a coreset of the tokens of blocks, each averaged over its 3 x 3 neighbourhood and joined.

    Args:
        encoder: whose tokens are compared.
        images: good ones, each (1, 3, s, s), normalised.
        blocks: numbers of the blocks.
        seed: of the coreset.
    """
    tokens = torch.cat([_neighbourhoods(encoder, image, blocks).half() for image in images])
    size = max(min(len(tokens), PATCHCORE_FEWEST), round(PATCHCORE_SHARE * len(tokens)))
    bank = tokens[greedy_coreset(tokens, size, torch.Generator().manual_seed(seed))].float()  # (m, d)

    def scored(image: Images) -> ScorerOutput:
        found = torch.cdist(_neighbourhoods(encoder, image, blocks), bank)  # (n, m)
        distances, numbers = found.min(dim=1)
        highest = int(distances.argmax())
        to_nearest = torch.cdist(bank[numbers[highest]][None], bank)[0]  # (m,)
        around = to_nearest.topk(min(PATCHCORE_NEIGHBOURS, len(bank)), largest=False)
        weight = 1 - torch.softmax(found[highest][around.indices], dim=0)[0]
        return ScorerOutput((weight * distances[highest])[None], _on_grid(distances[None], encoder, image))

    return scored


def _last(encoder: Encoder, image: Images) -> Float[Tensor, "n p d"]:
    tokens = encoder(image, patch_tokens=True).patch_tokens
    assert tokens is not None
    return tokens


def _neighbourhoods(encoder: Encoder, image: Images, blocks: Sequence[int]) -> Float[Tensor, "p e"]:
    tokens = encoder.tokens_of(image, blocks)[0].flatten(1)  # (p, l d)
    on_grid = tokens.T.reshape(1, -1, *encoder.grid(*image.shape[-2:]))
    return F.avg_pool2d(F.pad(on_grid, (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0].flatten(1).T


def _on_grid(distances: Float[Tensor, "b n"], encoder: Encoder, image: Images) -> Float[Tensor, "b r c"]:
    return distances.unflatten(1, encoder.grid(*image.shape[-2:]))


def as_array(scores: Sequence[ScorerOutput]) -> tuple[Float[np.ndarray, "n"], Float[Tensor, "n r c"]]:
    """Image scores and maps of many images."""
    image = np.array([float(score.image[0]) for score in scores])
    return image, torch.cat([score.evidence for score in scores])

"""Held-out good images: each passes the encoder once, and everything that is asked of it later comes from that pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.engine.sampling import evenly_spread
from flawmap.memory.scorer import Evidence, TokenScorer
from flawmap.scorer import HeldOutScores, HeldOutSquare, upsample_map
from flawmap.vit.encoder import mean_cls_attention
from flawmap.vit.inputs import channels_first, normalise

MAX_SQUARES = 64  # images whose pixels are kept, for the defects that detect/held_out.py simulates on them


@dataclass(frozen=True)
class HeldOutImage:
    """A held-out image after the encoder.

    Attributes:
        evidence: not standardised.
        height_px, width_px: of the original image.
        square: the resized pixels that were scored, and
        attention: their [CLS] attention, mean over heads; both None for all but MAX_SQUARES images.
    """

    evidence: Evidence
    height_px: int
    width_px: int
    square: UInt8[np.ndarray, "s s 3"] | None
    attention: Float[np.ndarray, "r c"] | None


@torch.no_grad()
def held_out_images(scorer: TokenScorer, images: Sequence[NormalImage], size_px: int) -> list[HeldOutImage]:
    """Read each image and collect its evidence, which needs no map scales yet."""
    device = next(scorer.parameters()).device
    kept = set(evenly_spread(len(images), MAX_SQUARES))
    encoded = []
    for index, image in enumerate(images):
        pixels = read_image(image.path)  # (h, w, 3)
        square = resize_image(pixels, size_px, size_px)  # (s, s, 3)
        output = scorer.frozen.encode(normalise(channels_first(square)[None].to(device)), scorer.taken.wanted)
        appearance, tokens = scorer.taken.in_output(output)  # (1, d), (1, n, l, d)
        evidence = scorer.evidence_in(appearance, tokens, scorer.memory.nearest(tokens))
        attention = mean_cls_attention(output).reshape(scorer.encoder.grid(size_px, size_px)).cpu().numpy()  # (r, c)
        is_kept = index in kept
        shown = (square, attention) if is_kept else (None, None)
        encoded.append(HeldOutImage(evidence, pixels.shape[0], pixels.shape[1], *shown))
    return encoded


@torch.no_grad()
def score_held_out(scorer: TokenScorer, images: Sequence[HeldOutImage], size_px: int) -> HeldOutScores:
    """Image scores and map peaks of the held-out images, as detection gives them."""
    scores, peaks, squares = [], [], []
    for image in images:
        output = scorer.output(image.evidence, scorer.encoder.grid(size_px, size_px))
        evidence = output.evidence.cpu()  # (1, r, c)
        scores.append(float(output.image[0]))
        peaks.append(float(upsample_map(evidence, image.height_px, image.width_px).max()))
        if image.square is not None and image.attention is not None:
            squares.append(HeldOutSquare(image.square, image.attention, scores[-1], evidence[0].numpy()))
    return HeldOutScores(scores, peaks, squares)

"""Held-out good images: each passes the encoder once, and everything that is asked of it later comes from that pass."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.cores import reading_threads
from flawmap.engine.in_order import PixelBudget, batches_of, in_order
from flawmap.engine.progress import say
from flawmap.engine.sampling import evenly_spread
from flawmap.engine.transfer import to_device, to_host
from flawmap.memory.scorer import Evidence, TokenScorer
from flawmap.scorer import HeldOutScores, HeldOutSquare, upsample_map
from flawmap.vit.encoder import mean_cls_attention
from flawmap.vit.inputs import PIXELS_AHEAD, channels_first, normalise

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


@dataclass(frozen=True)
class _Read:
    """A held-out image as it was read."""

    square: UInt8[np.ndarray, "s s 3"]
    height_px: int
    width_px: int


@torch.no_grad()
def held_out_images(scorer: TokenScorer, images: Sequence[NormalImage], size_px: int) -> list[HeldOutImage]:
    """Read each image and collect its evidence, which needs no map scales yet.

    On an accelerator, images share a pass, and several threads read them.
    """
    if images:
        say("held out", f"scores {len(images)} good images that nothing was learned from")
    device = scorer.memory.unit.device.type
    at_once = ImagesAtOnce.on(device, scorer.bytes_per_image(size_px))
    batches, budget = batches_of(images, at_once.size), PixelBudget(PIXELS_AHEAD)

    def read(number: int, batch: Sequence[NormalImage]) -> list[_Read]:
        budget.take(number, len(batch) * size_px**2)
        pixels = (read_image(image.path) for image in batch)  # (h, w, 3) each
        return [_Read(resize_image(p, size_px, size_px), p.shape[0], p.shape[1]) for p in pixels]

    encoded, kept = [], set(evenly_spread(len(images), MAX_SQUARES))
    with closing(in_order(read, batches, reading_threads(device), budget)) as found:
        for of_batch in found:
            evidences, attention = at_once.run(partial(_evidence_and_attention, scorer, of_batch))
            for image, evidence, of_image in zip(of_batch, evidences, attention, strict=True):
                shown = (image.square, of_image) if len(encoded) in kept else (None, None)
                encoded.append(HeldOutImage(evidence, image.height_px, image.width_px, *shown))
    return encoded


def _evidence_and_attention(
    scorer: TokenScorer, images: Sequence[_Read], at_once: int
) -> tuple[list[Evidence], list[Float[np.ndarray, "r c"]]]:
    """For each image its evidence, left on the device, and its attention; ``at_once`` images share a pass."""
    evidences, attention = [], []
    for some in batches_of(images, at_once):
        squares = torch.stack([channels_first(image.square) for image in some])  # (b, 3, s, s)
        output = scorer.frozen.encode(normalise(to_device(squares, scorer.memory.unit.device)), scorer.taken.wanted)
        appearances, tokens = scorer.taken.in_output(output)  # (b, d), (b, n, l, d)
        evidences += scorer.evidence_in(appearances, tokens, scorer.memory.nearest(tokens)).of_each_image()
        grid = scorer.encoder.grid(squares.shape[2], squares.shape[3])
        attention += [*mean_cls_attention(output).reshape(-1, *grid).cpu().numpy()]  # (r, c) each
    return evidences, attention


@torch.no_grad()
def score_held_out(scorer: TokenScorer, images: Sequence[HeldOutImage], size_px: int) -> HeldOutScores:
    """Image scores and map peaks of the held-out images, as detection gives them."""
    scores, peaks, squares = [], [], []
    at_once = ImagesAtOnce.on(scorer.memory.unit.device.type, scorer.bytes_per_image(size_px))
    for batch in batches_of(images, at_once.size):
        output = scorer.output(Evidence.joined([i.evidence for i in batch]), scorer.encoder.grid(size_px, size_px))
        of_batch, evidence = to_host([output.image, output.evidence])  # (b,), (b, r, c)
        for image, score, on_grid in zip(batch, of_batch.tolist(), evidence, strict=True):
            scores.append(score)
            peaks.append(float(upsample_map(on_grid[None], image.height_px, image.width_px).max()))
            if image.square is not None and image.attention is not None:
                squares.append(HeldOutSquare(image.square, image.attention, score, on_grid.numpy()))
    return HeldOutScores(scores, peaks, squares)

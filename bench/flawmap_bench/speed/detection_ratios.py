"""Detection, one image at a time on one thread, in ratios to torch's bare fp32 encoder: processor time, in turns.

The bare encoder is what every method on these tokens computes at least: all blocks, no search, no map. Each way is one
entry of :func:`ways`; one that this version or machine does not offer is left out, and the table says why.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.deploy.export import Format, Precision, export_model
from flawmap.deploy.parity import CheckImage
from flawmap.deploy.runtime import EXTENSIONS, load
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.memory.scorer import TokenScorer, build_scorer
from flawmap.memory.tiled_scorer import TiledScorer
from flawmap.vit.encoder import Encoder
from flawmap.vit.inputs import channels_first, normalise
from flawmap_bench.methods import title_of
from flawmap_bench.peers.peer_process import UNTRAINED_EFFICIENT_AD, PeerProcess
from flawmap_bench.speed.turns import Spread, Way, by_processor, in_turns, ratios

BARE = "torch's bare fp32 encoder"
WHOLE, ENCODER, SEARCH = "flawmap, a run", "… its encoder", "… its search"
REST = "… the rest: resizing, head, expectation, map, regions"
NUM_IMAGES = 8  # that the rounds go through
PEERS = {
    "patchcore": title_of("patchcore"),
    "anomaly_dino": title_of("anomaly_dino"),
    UNTRAINED_EFFICIENT_AD: "EfficientAD-S",
}
PEER_BUDGET_SECONDS = 300.0  # of training; it limits PatchCore's coreset
# What a model can be exported to, by the precision that it was fitted in: a label, the runtime, the file's precision
EXPORTS: dict[str, tuple[tuple[str, Format, Precision], ...]] = {
    "fp32": (
        ("ONNX Runtime fp32", "onnx", "fp32"),
        ("ONNX Runtime, weights fp16", "onnx", "fp16"),
        ("OpenVINO fp32", "openvino", "fp32"),
        ("OpenVINO, weights fp16", "openvino", "fp16"),
        ("TorchScript fp32", "torchscript", "fp32"),
    ),
    "int8": (("ONNX Runtime int8", "onnx", "int8"),),
}


@dataclass(frozen=True)
class Shown:
    """An image in the forms that the ways take: its pixels, and the square that enters the encoder."""

    pixels: UInt8[np.ndarray, "h w 3"]
    square: Float[Tensor, "1 3 s s"]

    @classmethod
    def of(cls, pixels: UInt8[np.ndarray, "h w 3"], size_px: int) -> "Shown":
        """Resized and normalised as in detection."""
        return cls(pixels, normalise(channels_first(resize_image(pixels, size_px, size_px))[None]))


@dataclass(frozen=True)
class Measured:
    """Seconds of each way in each round, what is to be said of it, and why others are missing."""

    seconds: dict[str, list[float]]
    notes: dict[str, str]
    left_out: dict[str, str]


def bare_encoder(encoder: Encoder) -> Callable[[Shown], object]:
    """torch's pass through all blocks, for all tokens; nothing is done with them."""
    last = len(encoder.vit.blocks) - 1
    blocks = (last // 4, last // 2, last)

    @torch.no_grad()
    def run(image: Shown) -> None:
        encoder(image.square, blocks=blocks)

    return run


def bare_seconds(encoder: Encoder, images: Sequence[Shown], count: int) -> list[float]:
    """Processor time of ``count`` passes of torch's bare encoder, one image each, after one to warm up."""
    way = by_processor(bare_encoder(encoder))
    return in_turns({BARE: way}, images, count)[BARE]


def measure(
    detector: AnomalyDetector, images: Sequence[Path], rounds: int, peers_learn_from: str | None = None
) -> Measured:
    """Measure all ways in this process, in turns.

    Args:
        detector: fitted, on the processor, of a method on tokens that scores at one size, with tiles or without.
        images: to score.
        rounds: of all ways.
        peers_learn_from: the location of good images from which anomalib's methods learn; None leaves them out.
    """
    (size_px,) = detector.sizes_px
    shown = [Shown.of(read_image(path), size_px) for path in images]
    with tempfile.TemporaryDirectory(prefix="flawmap-detection-") as folder, ExitStack() as stack:
        found: dict[str, Way[Shown]] = {}
        notes: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for label, make in _makers(detector, images[0], shown, Path(folder), peers_learn_from, stack):
            try:
                found[label], notes[label] = make()
            except UserError as error:
                left_out[label] = error.problem
        return Measured(in_turns(found, shown, rounds), notes, left_out)


Made = tuple[Way[Shown], str]  # the way, and a note


def _makers(
    detector: AnomalyDetector,
    image: Path,
    shown: Sequence[Shown],
    folder: Path,
    peers_learn_from: str | None,
    stack: ExitStack,
) -> Iterator[tuple[str, Callable[[], Made]]]:
    scorer = of_whole_images(detector)
    yield BARE, lambda: (by_processor(bare_encoder(scorer.encoder)), f"{len(scorer.encoder.vit.blocks)} blocks")
    yield WHOLE, lambda: (by_processor(lambda shown: detector.predict(shown.pixels)), "from pixels to regions")
    yield ENCODER, lambda: (by_processor(partial(_encode, scorer)), f"by {scorer.frozen.backend}")
    yield (
        SEARCH,
        lambda: (by_processor(_search(scorer, shown)), f"{len(scorer.memory.unit[0]):,} tokens of each block"),
    )
    others = [in_int8(detector)] if scorer is detector.scorer_ else []  # no such copy is made of a model with tiles
    for int8 in others:
        yield "flawmap, a run with precision int8", partial(_predicting, int8, "the time only: fitted in fp32")
    for fitted in (detector, *others):
        for label, to, precision in EXPORTS[fitted.recipe.encoder_precision]:
            yield f"exported, {label}", partial(_exported, fitted, image, folder, to, precision)
    if peers_learn_from is not None:
        size_px = detector.recipe.data.image_size_px
        for name, title in PEERS.items():
            yield f"anomalib, {title}", partial(_peer, name, peers_learn_from, size_px, image, stack)


def of_whole_images(detector: AnomalyDetector) -> TokenScorer:
    """What scores whole images: the encoder's and the search's shares are of one pass, also where tiles add more."""
    scorer = detector.scorer_
    scorer = scorer.whole if isinstance(scorer, TiledScorer) else scorer
    assert isinstance(scorer, TokenScorer)
    return scorer


def _encode(scorer: TokenScorer, image: Shown) -> None:
    with torch.no_grad():
        scorer.taken.of_images(scorer.frozen, image.square)


def _search(scorer: TokenScorer, images: Sequence[Shown]) -> Callable[[Shown], object]:
    """The search alone, for tokens that are computed here."""
    with torch.no_grad():
        tokens = [scorer.taken.of_images(scorer.frozen, image.square)[1] for image in images]

    @torch.no_grad()
    def run(image: Shown) -> None:
        scorer.memory.nearest(tokens[next(number for number, other in enumerate(images) if other is image)])

    return run


def in_int8(detector: AnomalyDetector) -> AnomalyDetector:
    """The same detector with the encoder of ``compute.precision: int8``.

    Its scores are off, because nothing was fitted with that encoder; what it takes is not.
    """
    recipe = detector.recipe
    scorer, other = detector.scorer_, copy.copy(detector)
    assert isinstance(scorer, TokenScorer)
    other.recipe = replace(recipe, compute=replace(recipe.compute, precision="int8"))
    num_tokens, num_images = scorer.memory.tokens.shape[1], len(scorer.expectation.appearances)
    other.scorer_ = build_scorer(scorer.encoder, other.recipe, num_tokens, num_images).eval()
    other.scorer_.load_state_dict(scorer.state_dict())
    return other


def _predicting(detector: AnomalyDetector, note: str) -> Made:
    return by_processor(lambda shown: detector.predict(shown.pixels)), note


def _exported(detector: AnomalyDetector, image: Path, folder: Path, to: Format, precision: Precision) -> Made:
    path = folder / f"{to}-{precision}{EXTENSIONS[to]}"
    parity = export_model(detector, path, to, [CheckImage(image)], precision)
    if not path.is_file():
        raise UserError("the file's answers differ from the run's", str(path), "report it")
    model = load(path, threads=1)
    megabytes = sum(file.stat().st_size for file in folder.glob(f"{path.stem}.*")) / 1e6
    note = f"{megabytes:.0f} MB, score differs by {parity.max_score_difference:.1e}"
    return by_processor(lambda shown: model.predict(shown.pixels)), note


def _peer(name: str, data: str, size_px: int, image: Path, stack: ExitStack) -> Made:
    peer = stack.enter_context(PeerProcess(name, data, size_px, image, PEER_BUDGET_SECONDS))
    return lambda _: peer.score(), f"torch fp32; {peer.note}"


def table(measured: Measured) -> str:
    """Markdown: median and range of each way's milliseconds and of its ratio to the bare encoder, round by round."""
    seconds, base = dict(measured.seconds), measured.seconds[BARE]
    parts = zip(seconds[WHOLE], seconds[ENCODER], seconds[SEARCH], strict=True)
    seconds[REST] = [whole - encoder - search for whole, encoder, search in parts]
    notes = {**measured.notes, REST: "by subtraction"}
    first = (BARE, WHOLE, ENCODER, SEARCH, REST)
    lines = ["| way | ms | range | ratio | range | note |", "|---|---|---|---|---|---|"]
    for label in (*first, *(label for label in seconds if label not in first)):
        milliseconds = Spread.of([1000 * value for value in seconds[label]]).columns(0)
        lines.append(f"| {label} | {milliseconds} | {ratios(seconds[label], base).columns(2)} | {notes[label]} |")
    lines += [f"| {label} | – | | – | | left out: {reason} |" for label, reason in measured.left_out.items()]
    return "\n".join(lines)

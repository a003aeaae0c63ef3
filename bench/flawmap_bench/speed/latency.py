"""``make bench``: milliseconds per image for each way to run a model, one image at a time, on this machine's cores.

``python -m flawmap_bench.speed.latency [RUN ...] [--peers]`` prints a table for each run, or for stand-ins with random
weights. With ``--peers``, methods of anomalib that were trained on the same images are measured as well.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.deploy.export import Format, Precision, export_model
from flawmap.deploy.parity import CheckImage
from flawmap.deploy.runtime import EXTENSIONS, load
from flawmap.detect.calibration import calibrate
from flawmap.detect.detector import AnomalyDetector
from flawmap.errors import UserError
from flawmap.memory.scorer import build_scorer
from flawmap.recipe.settings import ComputeSettings, ModelSettings, Recipe
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.encoder import EncoderOutput
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import load_encoder
from flawmap_bench.methods import title_of
from flawmap_bench.peers.peer_process import PeerProcess

IMAGE, IMAGE_SIZE_PX = "image.png", (480, 640)  # height, width
WARM_UP, ROUNDS = 2, 9
PEERS = ("patchcore", "anomaly_dino")
PEER_BUDGET_SECONDS = 300.0  # of training; it limits PatchCore's coreset
BARE = "encoder alone, torch fp32"
# What a model can be exported to, by the precision it was fitted in: a label, the runtime, the precision of the file
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


def stand_in(precision: Literal["fp32", "int8"]) -> AnomalyDetector:
    """A ViT-S/16 with random weights and the sizes of ``standard``: its scores mean nothing, its timing does."""
    detector = AnomalyDetector(Recipe(compute=ComputeSettings(precision=precision)))
    encoder, origin = load_encoder(ModelSettings(weights="random", architecture="vit_small_patch16_224"))
    detector.scorer_ = build_scorer(encoder, detector.recipe).eval()
    detector.origin_ = origin
    detector.calibration_ = calibrate([0.0], [10.0], 0.01)
    return detector


def table(detector: AnomalyDetector, folder: Path, peers: Mapping[str, PeerProcess]) -> str:
    """Markdown: median and range in milliseconds, the ratio to torch's bare encoder, the size of the file, and how much
    scores differ from the detector's.

    Args:
        detector: fitted, on the processor.
        folder: for the exported files; it holds the image already.
        peers: by label; trained.
    """
    pixels = read_image(folder / IMAGE)
    own = detector.recipe.encoder_precision
    ways: dict[str, Callable[[NDArray[np.uint8]], object]] = {
        BARE: lambda image: encoder_alone(detector, image),
        f"detector, {own}": detector.predict,
        "torch bf16": lambda image: in_bf16(detector, image),
    }
    if own == "int8":
        del ways["torch bf16"]
    notes = dict.fromkeys(ways, "") | {"torch bf16": "not used for detection (docs/decisions/0004)"}
    for label, to, precision in EXPORTS[own]:
        path = folder / f"{to}-{precision}{EXTENSIONS[to]}"
        parity = export_model(detector, path, to, [CheckImage(folder / IMAGE)], precision)
        if not path.is_file():
            continue
        ways[label] = load(path).predict
        size = sum(file.stat().st_size for file in folder.glob(f"{path.stem}.*"))
        notes[label] = f"{size / 1e6:.0f} MB, score differs by {parity.max_score_difference:.1e}"
    for label, peer in peers.items():
        ways[label] = lambda _, peer=peer: peer.score()
        notes[label] = f"torch fp32; {peer.note}"
    seconds = in_turns(ways, pixels)
    sizes = ", ".join(map(str, detector.sizes_px))
    lines = [
        f"One image of {IMAGE_SIZE_PX[1]} x {IMAGE_SIZE_PX[0]} px at {sizes} px, {torch.get_num_threads()} threads,",
        f"reading excluded, map and regions included; median of {ROUNDS}, in turns.",
        "",
        "| way | ms per image | range | to the encoder alone | note |",
        "|---|---|---|---|---|",
    ]
    bare = statistics.median(seconds[BARE])
    for label, times in seconds.items():
        middle, low, high = (1000 * value for value in (statistics.median(times), min(times), max(times)))
        ratio = f"{statistics.median(times) / bare:.2f}"
        lines.append(f"| {label} | {middle:.0f} | {low:.0f}–{high:.0f} | {ratio} | {notes[label]} |")
    return "\n".join(lines)


@torch.no_grad()
def encoder_alone(detector: AnomalyDetector, pixels: NDArray[np.uint8]) -> list[EncoderOutput]:
    """One pass of torch's encoder at every size: what times are compared with."""
    assert detector.scorer_ is not None
    squares = [channels_first(resize_image(pixels, size, size))[None] for size in detector.sizes_px]
    return [detector.scorer_.encoder(normalise(square)) for square in squares]


def in_bf16(detector: AnomalyDetector, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """The networks alone at every size under autocast: a lower bound for the time with bf16."""
    assert detector.scorer_ is not None
    logits = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for size in detector.sizes_px:
            square = channels_first(resize_image(pixels, size, size))[None]
            logits.append(detector.scorer_.score(normalise(square)).image)
    return torch.cat(logits)


def in_turns(
    ways: dict[str, Callable[[NDArray[np.uint8]], object]], pixels: NDArray[np.uint8]
) -> dict[str, list[float]]:
    """Seconds of each way. They take turns, so that a machine that slows down slows all of them."""
    seconds: dict[str, list[float]] = {label: [] for label in ways}
    for number in range(WARM_UP + ROUNDS):
        for label, run in ways.items():
            started = time.perf_counter()
            run(pixels)
            if number >= WARM_UP:
                seconds[label].append(time.perf_counter() - started)
    return seconds


def training_data_of(run: Path) -> str:
    """The data location that a run was trained on.

    Raises:
        UserError: the run does not record it.
    """
    try:
        return RunFolder(run).read_environment()["data"]
    except KeyError as error:
        raise UserError("the run does not record its training data", str(run), "leave --peers out") from error


def measured(detector: AnomalyDetector, run: str | None, with_peers: bool) -> str:
    """The table of a run or, without one, of a stand-in."""
    pixels = np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE_PX, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="flawmap-latency-") as path, ExitStack() as stack:
        folder = Path(path)
        Image.fromarray(pixels).save(folder / IMAGE)
        peers: dict[str, PeerProcess] = {}
        if run is not None and with_peers:
            data, size_px = training_data_of(Path(run)), detector.recipe.data.image_size_px
            for name in PEERS:
                peer = PeerProcess(name, data, size_px, folder / IMAGE, PEER_BUDGET_SECONDS)
                peers[f"anomalib, {title_of(name)}"] = stack.enter_context(peer)
        return table(detector, folder, peers)


def main(words: Sequence[str] | None = None) -> int:
    """``[RUN ...] [--peers]``; 2 when a run cannot be opened or anomalib is not installed."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.speed.latency", description=__doc__)
    parser.add_argument("runs", nargs="*", help="run folders (default: stand-ins with random weights)")
    parser.add_argument("--peers", action="store_true", help="also measure methods of anomalib (extra peers)")
    arguments = parser.parse_args(words)
    if arguments.peers and not arguments.runs:
        parser.error("--peers needs a run: the methods are trained on its images")
    try:
        for run in arguments.runs:
            detector = AnomalyDetector.from_pretrained(run, "cpu")
            print(f"### {run}\n\n{measured(detector, run, arguments.peers)}\n", flush=True)
        for precision in () if arguments.runs else ("fp32", "int8"):
            table = measured(stand_in(precision), None, False)
            print(f"### random weights, {precision}\n\n{table}\n", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

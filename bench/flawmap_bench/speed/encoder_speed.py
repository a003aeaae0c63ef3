"""``python -m flawmap_bench.speed.encoder_speed``: the frozen encoder through torch and ONNX Runtime, on a processor.

All ways take turns with the same images. Processor time is measured, so other work on the machine matters less; it does
matter where it shares a core's vector units. Start is from a loaded encoder to the first result.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from flawmap.recipe.settings import ModelSettings
from flawmap.vit.encoder import Encoder, EncoderOutput
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.weights import load_encoder

Encode = Callable[[Tensor], EncoderOutput]


def measure(encoder: Encoder, size_px: int, batch_sizes: tuple[int, ...], repeats: int) -> str:
    """Markdown: processor time per image, median and least, and how far results are from torch's.

    Args:
        encoder: frozen, on the processor.
        size_px: a multiple of the patch size.
        batch_sizes: at least one.
        repeats: of each way and size.
    """
    last = len(encoder.vit.blocks) - 1
    blocks = (last // 4, last // 2, last)  # the last one's, too, so that torch computes all blocks for all tokens
    ways: dict[str, Encode] = {"torch fp32": lambda images: encoder(images, blocks=blocks)}
    images = torch.randn(max(batch_sizes), 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    starts = {"torch fp32": seconds(ways["torch fp32"], images[:1])}
    for label, frozen in (
        ("ONNX Runtime fp32", FrozenEncoder(encoder)),
        ("ONNX Runtime int8", FrozenEncoder(encoder, "int8")),
    ):
        ways[label] = lambda images, frozen=frozen: frozen.encode(images, blocks)
        starts[label] = seconds(ways[label], images[:1])
    lines = ["| way | batch | ms per image | least | to torch | start, s | tokens | cls |", "|" + "---|" * 8]
    reference = ways["torch fp32"](images[:1])
    for batch in batch_sizes:
        times = in_turns(ways, images[:batch], repeats)
        base = statistics.median(times["torch fp32"])
        for label, run in ways.items():
            middle, least = statistics.median(times[label]), min(times[label])
            tokens, cls = differences(run(images[:1]), reference)
            lines.append(
                f"| {label} | {batch} | {1000 * middle / batch:.1f} | {1000 * least / batch:.1f} | {middle / base:.2f} "
                f"| {starts[label]:.2f} | {tokens:.1e} | {cls:.1e} |"
            )
    return "\n".join(lines)


def in_turns(ways: dict[str, Encode], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, which follow one another in each repeat."""
    times: dict[str, list[float]] = {label: [] for label in ways}
    for _ in range(repeats):
        for label, run in ways.items():
            times[label].append(seconds(run, images))
    return times


def seconds(run: Encode, images: Tensor) -> float:
    """Processor time of one run."""
    started = time.process_time()
    run(images)
    return time.process_time() - started


def differences(found: EncoderOutput, expected: EncoderOutput) -> tuple[float, float]:
    """The largest difference of tokens and of [CLS], as shares of the largest value."""
    pairs = [(found.block_tokens[number], tokens) for number, tokens in expected.block_tokens.items()]
    shares = [float((a - b).abs().max() / b.abs().max()) for a, b in [*pairs, (found.cls, expected.cls)]]
    return max(shares[:-1]), shares[-1]


def main() -> None:
    """Measure DINOv2 ViT-S/14, or the weights that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="dinov2_vits14")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder, _ = load_encoder(ModelSettings(weights=arguments.weights))
    with torch.no_grad():
        print(measure(encoder.eval().requires_grad_(False), arguments.size, (1, 8), arguments.repeats))


if __name__ == "__main__":
    main()

"""How many anomalies each simulator makes per second and core: ``python -m flawmap_bench.speed.simulator_speed``.

The simulators take turns, so that a machine that slows down slows all of them. Processor time is measured, not
wall-clock time: several cores bring no advantage, and other processes do not matter.
"""

import statistics
import time

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from flawmap.recipe.settings import SimulationSettings
from flawmap.reproducibility import numpy_generator
from flawmap.simulators.by_name import simulator_by_name, simulator_names
from flawmap.simulators.simulated_anomaly import Simulator
from flawmap_bench.simulators.draem import made_texture

SIZE_PX = 224
GRID = 14
NUM_IMAGES = 16  # per simulator and round
ROUNDS = 5


def images_per_second(simulator: Simulator, images: list[UInt8[np.ndarray, "h w 3"]], repetition: int) -> float:
    """Images per second of processor time; the second image of each is the next one.

    Args:
        simulator: which anomalies to make.
        images: normal images of one size, at least one.
        repetition: seeds the anomalies.
    """
    grid = numpy_generator(repetition, "attention").random((GRID, GRID), np.float32)
    started = time.process_time()
    for number, image in enumerate(images):
        generator = numpy_generator(repetition, "speed", number)
        simulator(image, generator, grid, images[(number + 1) % len(images)])
    return len(images) / max(time.process_time() - started, 1e-9)


def measure(size_px: int, num_images: int, rounds: int) -> dict[str, float]:
    """Images per second and core by name of the simulator: the median of ``rounds``, after one to warm up."""
    images = [made_texture(size_px, size_px, numpy_generator(number, "image")) for number in range(num_images)]
    simulators = {name: simulator_by_name(name, SimulationSettings()) for name in simulator_names()}
    rates: dict[str, list[float]] = {name: [] for name in simulators}
    for repetition in range(rounds + 1):
        for name, simulator in simulators.items():
            rate = images_per_second(simulator, images, repetition)
            if repetition > 0:
                rates[name].append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def table(rates: dict[str, float], size_px: int) -> str:
    """The rates for people, fastest first, each also relative to ours."""
    ours = rates["attention_cutpaste"]
    lines = [f"anomaly simulators at {size_px} px: images/s per core, and relative to ours"]
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<20} {rate:>7.0f}  {rate / ours:>5.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(table(measure(SIZE_PX, NUM_IMAGES, ROUNDS), SIZE_PX))

"""A method of anomalib beside flawmap on the same device and images; in a process of its own, because it changes timm.

``python -m flawmap_bench.gpu_peer NAME GOOD DEVICE SIZE_PX BATCH SECONDS`` prints one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np

from flawmap.errors import UserError

PREFIX = "flawmap:rates "  # anything else on stdout is anomalib's
ARCHITECTURE = "vit_small_patch14_dinov2"  # with random weights: they cost as much as trained ones


def rate(score: Callable[[Sequence[np.ndarray]], object], images: Sequence[np.ndarray], batch: int, at_least_s: float):
    """Images per second, from decoded images to scores and maps on the host.

    Args:
        score: takes a batch of images.
        images: repeated until the time is over; at least one batch is scored after one to warm up.
        batch: images at a time.
        at_least_s: seconds.
    """
    endless = cycle(images)
    score([*islice(endless, batch)])
    scored, started = 0, time.perf_counter()
    while scored == 0 or time.perf_counter() - started < at_least_s:
        score([*islice(endless, batch)])
        scored += batch
    return scored / (time.perf_counter() - started)


def measure(name: str, good: str, device: Any, size_px: int, batch: int, seconds: float) -> dict[str, float]:
    """Images per second of training and of detection."""
    from flawmap.data.images.files import read_image
    from flawmap.data.open_data import load_images
    from flawmap.recipe.settings import ModelSettings
    from flawmap_bench.method import MethodSettings
    from flawmap_bench.peers.anomalib_method import AnomalibMethod

    images = load_images(good).images
    started = time.perf_counter()
    method = AnomalibMethod(
        MethodSettings(0, size_px, seconds, device), name, ModelSettings("random", architecture=ARCHITECTURE)
    )
    method.fit(images)
    training = len(images) / (time.perf_counter() - started)
    pixels = [read_image(image.path) for image in images[:batch]]
    return {"training": training, "detection": rate(method.score_many, pixels, batch, 5.0)}


def main(words: Sequence[str]) -> None:
    """Measure the method that the words name."""
    name, good, device, size_px, batch, seconds = words
    print(PREFIX + json.dumps(measure(name, good, device, int(size_px), int(batch), float(seconds))), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as problem:
        sys.exit(f"{problem.problem}; {problem.remedy}")

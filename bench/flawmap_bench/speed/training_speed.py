"""``make bench``: what dropping tokens saves, and whether the loader keeps up.

Each measurement runs in its own process, which gives its own peak memory. The variants take turns, so that a machine
that slows down slows all of them.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from flawmap.paper.clusters import cluster_agreement_loss
from flawmap.paper.finetune import FinetuneModule
from flawmap.paper.heads import PaperHead
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.views import ViewsDataset, ViewSizes
from flawmap.recipe.settings import (
    FinetuneSettings,
    MaskingSettings,
    ModelSettings,
    NormalAugmentation,
    PretrainSettings,
    SimulationSettings,
)
from flawmap.simulators.attention_cutpaste import AttentionCutPaste
from flawmap.simulators.dataset import SimulationDataset
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import load_encoder

BATCH_SIZE = 8
SIZE_PX = 224
ROUNDS = 3
DROP_RATIO = 0.3
MODEL = ModelSettings(weights="random", architecture="vit_small_patch16_224")


class RandomPixels:
    """Replaces NormalPixels: noise images, so that the benchmark needs no data."""

    def __init__(self, count: int, size_px: int) -> None:
        self._images = np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)
        self.size_px = size_px

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[index]


def student_step(drop_ratio: float) -> float:
    """Seconds of the student's forward and backward pass on one global view at 224 px."""
    module = _pretrain_module(drop_ratio)
    views = torch.randn(BATCH_SIZE, 3, SIZE_PX, SIZE_PX)
    targets = torch.full((BATCH_SIZE, module.settings.prototypes), 1 / module.settings.prototypes)
    keep = module.visible_patches(views)

    def step() -> None:
        cls = module.student_encoder(views, keep=keep).cls
        scores = module.prototypes(module.student_head(cls))
        cluster_agreement_loss(targets, scores[None], module.settings.temperature).backward()

    return _seconds(step)


def whole_step(drop_ratio: float) -> float:
    """Seconds of a whole step of stage 1: teacher, attention for the masks, student on 9 views, optimizer, EMA."""
    module = _pretrain_module(drop_ratio)
    dataset = ViewsDataset(RandomPixels(BATCH_SIZE, SIZE_PX), ViewSizes(SIZE_PX, 96, 8), seed=0)
    items = [dataset[0, index] for index in range(BATCH_SIZE)]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    optimizer = module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
        module.on_train_batch_end(None, batch, 0)

    return _seconds(step, rounds=1)


def views_loader() -> float:
    """Seconds per image of making all ten views."""
    dataset = ViewsDataset(RandomPixels(BATCH_SIZE, 256), ViewSizes(SIZE_PX, 96, 8), seed=0)
    return _seconds(lambda: [dataset[0, index] for index in range(BATCH_SIZE)]) / BATCH_SIZE


def simulation_loader() -> float:
    """Seconds per image of augmentation and a simulated anomaly."""
    attention = np.ones((BATCH_SIZE, 14, 14), np.float32)
    dataset = SimulationDataset(
        RandomPixels(BATCH_SIZE, 256),
        attention,
        SIZE_PX,
        NormalAugmentation(),
        AttentionCutPaste(SimulationSettings()),
        0,
    )
    return _seconds(lambda: [dataset[0, index] for index in range(BATCH_SIZE)]) / BATCH_SIZE


def finetune_step() -> float:
    """Seconds per normal image (with its simulated anomaly) of a step of stage 2."""
    module = FinetuneModule(PaperHead(_encoder()), FinetuneSettings(), 100, 10).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, BATCH_SIZE, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8, generator=generator)
    footprint = torch.zeros(BATCH_SIZE, SIZE_PX, SIZE_PX, dtype=torch.bool)
    footprint[:, 50:100, 50:100] = True
    batch = {
        "normal": images[0],
        "anomalous": images[1],
        "footprint": footprint,
        "label": torch.ones(BATCH_SIZE).long(),
    }
    optimizer = module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()

    return _seconds(step, rounds=2) / BATCH_SIZE


MEASUREMENTS = {
    "student r=0": lambda: student_step(0.0),
    "student r=0.3": lambda: student_step(DROP_RATIO),
    "whole step r=0": lambda: whole_step(0.0),
    "whole step r=0.3": lambda: whole_step(DROP_RATIO),
    "views": views_loader,
    "simulation": simulation_loader,
    "fine-tuning": finetune_step,
}


def _encoder() -> Encoder:
    encoder, _ = load_encoder(MODEL)
    return encoder


def _pretrain_module(drop_ratio: float) -> PretrainModule:
    masking = MaskingSettings(strategy="attention" if drop_ratio else "none", drop_ratio=drop_ratio)
    settings = replace(PretrainSettings(), masking=masking, batch_size=BATCH_SIZE)
    module = PretrainModule(_encoder(), settings, total_steps=1000, steps_per_epoch=10, seed=0)
    module.train()
    return module


def _seconds(step: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median seconds of ``step`` after one call to warm up."""
    step()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(name: str) -> dict[str, float]:
    """One measurement in a fresh process: seconds, and its memory without the imports, in MiB."""
    command = [sys.executable, "-m", "flawmap_bench.speed.training_speed", name]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure everything and print the table."""
    results = {name: [measure(name)] for name in MEASUREMENTS}
    for name in ("student r=0", "student r=0.3"):  # the main ratio: once more, in turn
        results[name].append(measure(name))
    best = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()}
    threads = torch.get_num_threads()
    print(f"ViT-S/16, {SIZE_PX} px, batch {BATCH_SIZE}, fp32, {threads} threads; best of the runs, ratios to r=0")
    for what in ("student", "whole step"):
        full, dropped = best[f"{what} r=0"], best[f"{what} r=0.3"]
        print(
            f"  {what:<12} r=0.3 / r=0: time {dropped['seconds'] / full['seconds']:.2f}  peak memory "
            f"{dropped['mebibytes'] / full['mebibytes']:.2f}   ({dropped['seconds']:.2f} s of {full['seconds']:.2f} s, "
            f"{dropped['mebibytes']:.0f} MiB of {full['mebibytes']:.0f} MiB)"
        )
    for loader, step, per_image in (
        ("views", "whole step r=0.3", best["whole step r=0.3"]["seconds"] / BATCH_SIZE),
        ("simulation", "fine-tuning", best["fine-tuning"]["seconds"]),
    ):
        rate, needed = 1 / best[loader]["seconds"], 1 / per_image
        print(
            f"  {loader:<12} loader {rate:.0f} images/s per core; the step ({step}) takes {needed:.1f} images/s: "
            f"{rate / needed:.0f} times as much as needed"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = MEASUREMENTS[sys.argv[1]]()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"seconds": seconds, "mebibytes": grown / 1024}))
    else:
        main()

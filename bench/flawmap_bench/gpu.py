"""``python -m flawmap_bench.gpu``: what a device makes of training, of detection and of a step of ``paper``.

One command of at most ten minutes. Each result is printed as soon as it is there, and a table in Markdown at the end.
Encoders have random weights, which cost as much as trained ones: scores mean nothing here. Without ``--data`` the
images are made.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.data.walk import Listing
from flawmap.deploy.batch import Batch
from flawmap.deploy.opened_model import open_model
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName, choose_compute
from flawmap.engine.cores import usable_cores
from flawmap.errors import UserError
from flawmap.paper.patch_masking import num_dropped
from flawmap.paper.pretrain import PretrainModule
from flawmap.paper.views import ViewsDataset, ViewSizes
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import ModelSettings, Recipe
from flawmap.vit.inputs import normalise
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder
from flawmap_bench.gpu_flops import PEAK_SECONDS, encoder_flops, measured_peak, seconds_of, step_flops
from flawmap_bench.gpu_peer import ARCHITECTURE, PREFIX, rate
from flawmap_bench.methods import title_of

MADE_SIZE_PX = (480, 640)  # height, width
PAPER_ARCHITECTURE = "vit_small_patch16_224"
PEERS = ("anomaly_dino", "patchcore")
LEAST_SECONDS = 20.0  # that a part is begun with


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long.

    Attributes:
        standard, paper: recipes.
        data: the location of the good images.
        device: to compute on.
        until: ``time.monotonic()`` at which no further part begins.
        part_seconds: how long each rate is measured.
        peak_side: of the matrices whose product shows the peak.
    """

    standard: Recipe
    paper: Recipe
    data: str
    device: str
    until: float
    part_seconds: float
    peak_side: int

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was measured.
        rate: images per second; None where nothing was measured.
        share: of the device's peak; None where it is not known.
        note: how it was measured, or why it was not.
    """

    what: str
    rate: float | None
    share: float | None = None
    note: str = ""

    def line(self) -> str:
        """In Markdown."""
        speed = "–" if self.rate is None else f"{self.rate:,.1f}"
        share = "–" if self.share is None else f"{self.share:.1%}"
        return f"| {self.what} | {speed} | {share} | {self.note} |"


@dataclass(frozen=True)
class Peaks:
    """Operations per second of large products."""

    fp32: float
    bf16: float


# ---- the parts


def measure(plan: Plan, folder: Path) -> Iterator[Row]:
    """All rows, each as soon as it is known; a part that no time is left for says so. Models go into the folder."""
    good = load_images(plan.data).images
    peaks = Peaks(
        *(measured_peak(plan.device, t, plan.peak_side, plan.part_seconds / 5) for t in (torch.float32, torch.bfloat16))
    )
    yield Row("peak in fp32", None, None, f"{peaks.fp32 / 1e12:,.2f} TFLOP/s, {plan.peak_side}² product")
    yield Row("peak in bf16", None, None, f"{peaks.bf16 / 1e12:,.2f} TFLOP/s, likewise")
    detector = AnomalyDetector(plan.standard)
    own: dict[str, float] = {}
    for row in train(plan, peaks, detector, good):
        own["training"] = row.rate or 0.0
        yield row
    pixels = [read_image(image.path) for image in good[: detector.batch_size]]
    for part in (device_rate, scoring_rate):
        row = part(plan, peaks, detector, pixels)
        own["detection"] = row.rate or 0.0
        yield row
    for overlays in (False, True):
        yield if_time(plan, "flawmap detect", lambda o=overlays: detect(plan, peaks, detector, good, folder, o))
    yield if_time(plan, "paper", lambda: paper_step(plan, peaks))
    for name in PEERS:
        yield from peer(plan, name, detector.batch_size, own)


def if_time(plan: Plan, what: str, part: Callable[[], Row]) -> Row:
    """The part's row, or one that says that no time was left."""
    return part() if plan.left_s > 0 else Row(what, None, None, "not measured: no time left")


def train(plan: Plan, peaks: Peaks, detector: AnomalyDetector, good: Sequence[NormalImage]) -> Iterator[Row]:
    """A whole training, from files to thresholds."""
    seconds = seconds_of(lambda: detector.fit(good, device=device_name(plan.device)), plan.device)
    rate_of_all = len(good) / seconds
    note = f"{len(good)} images in {seconds:.1f} s, from files to thresholds"
    yield Row("training", rate_of_all, share_of(rate_of_all, detector, peaks), note)


def device_rate(plan: Plan, peaks: Peaks, detector: AnomalyDetector, pixels: Sequence[np.ndarray]) -> Row:
    """Scoring of one batch that lies on the device, whose results stay there."""
    assert detector.scorer_ is not None
    scorer, size = detector.scorer_, detector.batch_size
    (side,) = detector.sizes_px[:1]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, generator=generator).to(plan.device)
    with torch.no_grad():
        seconds_of(lambda: scorer.score(normalise(images)), plan.device)
        times, until = [], time.monotonic() + plan.part_seconds
        while not times or time.monotonic() < until:
            times.append(seconds_of(lambda: scorer.score(normalise(images)), plan.device))
    per_second = size / float(np.median(times))
    note = f"batches of {size} at {side} px that lie on the device; median of {len(times)}"
    return Row("scoring alone", per_second, share_of(per_second, detector, peaks), note)


def scoring_rate(plan: Plan, peaks: Peaks, detector: AnomalyDetector, pixels: Sequence[np.ndarray]) -> Row:
    """From decoded images to scores and maps of their size, in one thread."""
    per_second = rate(detector.analyse_many, pixels, detector.batch_size, plan.part_seconds)
    note = f"batches of {detector.batch_size}, resized and mapped by one thread"
    return Row("detection, decoded images", per_second, share_of(per_second, detector, peaks), note)


def detect(
    plan: Plan, peaks: Peaks, detector: AnomalyDetector, good: Sequence[NormalImage], folder: Path, overlays: bool
) -> Row:
    """What ``flawmap detect`` does: from files to verdicts, by as many threads as there are cores."""
    workers, threads = usable_cores(), torch.get_num_threads()
    model_folder = folder / "model"
    if not model_folder.exists():
        detector.save_pretrained(model_folder)
    try:
        model = open_model(model_folder, device_name(plan.device), threads=1, at_once=workers)
        model.predict_many([read_image(good[0].path)])
        listing = Listing(tuple(image.path for image in good))
        batch = Batch(model, listing, folder / "detections", overlays=overlays)
        started = time.perf_counter()
        count = sum(not isinstance(outcome, UserError) for outcome in batch.run(model_folder, workers))
        per_second = count / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    what = "flawmap detect" if overlays else "flawmap detect --no-overlays"
    note = f"{count} files, {workers} threads, one model, batches of {model.batch_size}"
    return Row(what, per_second, share_of(per_second, detector, peaks), note)


def paper_step(plan: Plan, peaks: Peaks) -> Row:
    """A step of stage 1: teacher, attention for the masks, student on all views, gradients, optimiser."""
    recipe, compute = plan.paper, choose_compute(device_name(plan.device), plan.paper.training_precision)
    settings, masking = recipe.pretrain, recipe.pretrain.masking
    encoder, _ = load_encoder(recipe.model, drop_path_rate=recipe.model.drop_path_rate, seed=0)
    global_px, local_px = (
        round_to_patches(side, encoder.patch_size_px) for side in (recipe.data.image_size_px, settings.local_size_px)
    )
    sizes_px, sizes = (global_px, local_px), ViewSizes(global_px, local_px, settings.local_views)
    batch, made = views(sizes, settings.batch_size)
    batch = {name: tensor.to(plan.device) for name, tensor in batch.items()}
    module = PretrainModule(encoder, settings, total_steps=10_000, steps_per_epoch=100, seed=0).to(plan.device).train()
    optimizer = module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(plan.device, torch.bfloat16, enabled=compute.precision == "bf16"):
            loss = module.training_step(batch, 0)
        loss.backward()
        module.on_before_optimizer_step(optimizer)
        optimizer.step()
        module.on_train_batch_end(None, batch, 0)

    seconds_of(step, plan.device)
    times, until = [], time.monotonic() + plan.part_seconds
    while not times or time.monotonic() < until:
        times.append(seconds_of(step, plan.device))
    per_second = settings.batch_size / float(np.median(times))
    drops = masking.strategy != "none" and masking.drop_ratio > 0
    patches = [(side // encoder.patch_size_px) ** 2 for side in sizes_px]
    kept = [count - num_dropped(count, masking.drop_ratio) for count in patches]
    of_student = (kept[0], kept[1]) if drops else None
    flops = step_flops(encoder, sizes_px, settings.local_views, of_student, masking.mask_local_views)
    peak = peaks.bf16 if compute.precision == "bf16" else peaks.fp32
    note = (
        f"{settings.batch_size} images and {2 + settings.local_views} views of each, {compute.precision}, views on the "
        f"device; one core makes views of {made:,.0f} images/s"
    )
    return Row("step of stage 1 of the paper", per_second, per_second * flops / peak, note)


def views(sizes: ViewSizes, count: int) -> tuple[dict[str, torch.Tensor], float]:
    """A batch of stage 1 from made images, and how many images one core makes views of in a second."""
    pixels = [made_image(number, (256, 256)) for number in range(count)]
    dataset = ViewsDataset(pixels, sizes, seed=0)
    started = time.perf_counter()
    items = [dataset[0, index] for index in range(count)]
    made = count / (time.perf_counter() - started)
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}, made


def peer(plan: Plan, name: str, batch: int, own: dict[str, float]) -> Iterator[Row]:
    """Training and detection of a method of anomalib, with flawmap's ratio to it."""
    title = f"anomalib, {title_of(name)}"
    if find_spec("anomalib") is None:
        yield Row(title, None, None, "not measured: anomalib is not installed (extra peers)")
        return
    if plan.left_s < LEAST_SECONDS:
        yield Row(title, None, None, "not measured: no time left")
        return
    words = [name, plan.data, plan.device, str(plan.standard.data.image_size_px), str(batch)]
    command = [sys.executable, "-m", "flawmap_bench.gpu_peer", *words, str(plan.left_s)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=plan.left_s, check=False)
    except subprocess.TimeoutExpired:
        yield Row(title, None, None, "not measured: it did not end within the time")
        return
    found = [line.removeprefix(PREFIX) for line in done.stdout.splitlines() if line.startswith(PREFIX)]
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:200]
        yield Row(title, None, None, f"not measured: {reason}")
        return
    for what, per_second in json.loads(found[-1]).items():
        ratio = f"flawmap is {own[what] / per_second:.2f} times as fast" if own.get(what) else ""
        yield Row(f"{title}: {what}", per_second, None, ratio)


def share_of(per_second: float, detector: AnomalyDetector, peaks: Peaks) -> float:
    """What the encoder alone has to compute, in fp32, as a share of what the device can."""
    assert detector.scorer_ is not None
    return per_second * sum(encoder_flops(detector.scorer_.encoder, side) for side in detector.sizes_px) / peaks.fp32


# ---- images


def made_image(number: int, size_px: tuple[int, int]) -> np.ndarray:
    """A noisy texture, uint8 (height, width, 3), another one for each number."""
    generator, (height, width) = np.random.default_rng(number), size_px
    coarse = generator.integers(60, 200, (height // 16, width // 16, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return (texture + generator.integers(-12, 13, texture.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)


def make_images(folder: Path, count: int, size_px: tuple[int, int] = MADE_SIZE_PX) -> Path:
    """Write so many textures as PNG files."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(made_image(number, size_px)).save(folder / f"{number:05d}.png", compress_level=1)
    return folder


# ---- the command


def device_name(device: str) -> DeviceName:
    """A device type as the functions of flawmap take it."""
    names: dict[str, DeviceName] = {"cpu": "cpu", "cuda": "cuda", "mps": "mps"}
    return names[device]


def with_random_weights(recipe: Recipe, architecture: str) -> Recipe:
    """A preset without the download of its weights; a recipe that names an architecture keeps it."""
    return replace(recipe, model=ModelSettings("random", recipe.model.architecture or architecture))


def about(device: str) -> str:
    """Device and versions, for the line above the table."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return f"{device} ({name}), {usable_cores()} cores, torch {torch.__version__}"


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print each row, then the table; 2 where the device or the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.gpu", description=__doc__)
    parser.add_argument("--data", help="a folder of good images (default: textures that are made)")
    parser.add_argument("--images", type=int, default=1000, help="images that are made (default: 1000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no part begins (default: 10)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--recipe", default="standard", help="that is trained and detects (default: standard)")
    parser.add_argument("--paper", default="paper", help="whose stage 1 is measured (default: paper)")
    parser.add_argument("--seconds", type=float, default=5 * PEAK_SECONDS, help="of each rate (default: 10)")
    arguments = parser.parse_args(words)
    until = time.monotonic() + 60 * arguments.minutes
    try:
        device = choose_compute(arguments.device, "fp32").device
        standard = with_random_weights(load_recipe(arguments.recipe), ARCHITECTURE)
        paper = with_random_weights(load_recipe(arguments.paper), PAPER_ARCHITECTURE)
        side = 1024 if device == "cpu" else 8192
        with tempfile.TemporaryDirectory(prefix="flawmap-gpu-") as path:
            folder = Path(path)
            data = arguments.data or str(make_images(folder / "good", arguments.images))
            rows = []
            for row in measure(Plan(standard, paper, data, device, until, arguments.seconds, side), folder):
                print(row.line(), flush=True)
                rows.append(row)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{table(about(device), rows)}", flush=True)
    return 0


def table(device: str, rows: Sequence[Row]) -> str:
    """Markdown."""
    columns = ["| what | images/s | share of the peak | how |", "|---|---|---|---|"]
    head = f"`python -m flawmap_bench.gpu` on {device}:"
    return "\n".join([head, "", *columns, *(row.line() for row in rows)])


if __name__ == "__main__":
    sys.exit(main())

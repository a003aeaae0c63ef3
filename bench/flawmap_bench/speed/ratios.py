"""``make bench``: what flawmap costs, in ratios to torch's bare fp32 encoder on the same thread.

``python -m flawmap_bench.speed.ratios [DATA]`` trains ``standard`` on DATA, then scores with the run and all that can
be made of it, and prints tables. Without DATA it makes up some images, so that it runs everywhere within ten minutes;
a training on few images takes more passes, because its 400 simulated defects and its 300 steps are fixed costs.
``--large N`` measures the memory of a training on N images instead.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from flawmap.data.images.files import read_image
from flawmap.data.open_data import load_images
from flawmap.deploy.export import export_model
from flawmap.deploy.parity import CheckImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.progress import say
from flawmap.engine.sampling import evenly_spread
from flawmap.errors import UserError
from flawmap.recipe.files import load_recipe
from flawmap.vit.positions import round_to_patches
from flawmap.vit.weights import load_encoder
from flawmap_bench.speed import batch_speed, detection_ratios, training_passes
from flawmap_bench.speed.detection_ratios import NUM_IMAGES, Shown, bare_seconds
from flawmap_bench.speed.machine import machine
from flawmap_bench.speed.made_images import write_parts, write_variants

MADE_UP = 80  # images of the made-up set
BARE_PASSES = 32  # of single images, before and after a training
START_ROUNDS = 3  # after one that is not counted
RUN, EXPORTED = "a run", "an exported ONNX file, fp32"


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.speed.ratios", description=__doc__)
    parser.add_argument("data", nargs="?", help="good images to learn from (default: made-up ones)")
    parser.add_argument("--recipe", default="standard", help="a preset or a recipe file (default: standard)")
    parser.add_argument("--run", type=Path, help="score with this finished run of DATA, or keep the new one here")
    parser.add_argument("--images", type=int, default=100, help="that flawmap detect scores (default: 100)")
    parser.add_argument("--rounds", type=int, default=9, help="of single images (default: 9)")
    parser.add_argument("--batch-rounds", type=int, default=1, help="of flawmap detect over all images (default: 1)")
    parser.add_argument("--peers", action="store_true", help="also anomalib's methods (extra peers), on DATA's images")
    parser.add_argument("--large", type=int, metavar="N", help="only the memory of a training on N varied images")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables; 2 when the data or anything that is needed is missing."""
    arguments = arguments_of(words)
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="flawmap-ratios-") as folder:
            (large if arguments.large else everything)(arguments, Path(folder))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def everything(arguments: argparse.Namespace, folder: Path) -> None:
    """Train, then score in all ways; each table is printed when it is there."""
    data = arguments.data or str(write_parts(folder / "parts", MADE_UP)[0].parent)
    good = [image.path for image in load_images(data).images]
    shown = [good[index] for index in evenly_spread(len(good), NUM_IMAGES)]
    print(f"{machine(1)}.\n\nData: {arguments.data or f'{MADE_UP} made-up images, seed 0'}.\n", flush=True)
    run = arguments.run or folder / "run"
    if not run.exists():
        _print("Training, processor time of one thread", trained(Path(data), run, arguments.recipe, shown))

    say("bench", "scores single images")
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    measured = detection_ratios.measure(detector, shown, arguments.rounds, data if arguments.peers else None)
    title = f"Detection, processor time of one thread, one image at a time, {arguments.rounds} rounds in turns"
    _print(title, detection_ratios.table(measured))

    say("bench", "starts flawmap detect anew for a single image")
    models, exported = {RUN: run}, folder / "exported.onnx"
    export_model(detector, exported, "onnx", [CheckImage(shown[0])], "fp32")
    if exported.is_file():
        models = {EXPORTED: exported, **models}
    usages = batch_speed.start_up(models, shown[0], folder, START_ROUNDS)
    _print("flawmap detect with one image, each time a new process", batch_speed.start_up_table(usages))

    say("bench", f"scores {arguments.images} images with one core and with two")
    write_variants(folder / "images", good, arguments.images)
    scored = batch_speed.score_batches(run, folder / "images", arguments.images, folder, arguments.batch_rounds)
    _print("flawmap detect over a folder, wall time", batch_speed.batch_table(scored))


def trained(data: Path, run: Path, recipe_name: str, shown: Sequence[Path]) -> str:
    """Train, between two measurements of torch's bare encoder; returns the table."""
    say("bench", "trains")
    recipe = load_recipe(recipe_name)
    encoder, _ = load_encoder(recipe.model, seed=recipe.seed)
    encoder.eval().requires_grad_(False)
    size_px = round_to_patches(recipe.data.image_size_px, encoder.patch_size_px)
    images = [Shown.of(read_image(path), size_px) for path in shown]
    before = bare_seconds(encoder, images, BARE_PASSES)
    training = training_passes.train_measured(data, run, ("--recipe", recipe_name))
    return training_passes.table(training, before, bare_seconds(encoder, images, BARE_PASSES))


def large(arguments: argparse.Namespace, folder: Path) -> None:
    """Train on many images that are made of few by slight crops and brightness, and print the memory of each part."""
    sources = [image.path for image in load_images(arguments.data).images] if arguments.data else None
    write_variants(folder / "many", sources or write_parts(folder / "parts", MADE_UP), arguments.large)
    say("bench", f"trains on {arguments.large} images")
    run = arguments.run or folder / "run"
    training = training_passes.train_measured(folder / "many", run, ("--recipe", arguments.recipe))
    origin = arguments.data or f"{MADE_UP} made-up images"
    _print(f"Training on {arguments.large:,} variants of {origin}", training_passes.parts_table(training))


def _print(title: str, table: str) -> None:
    print(f"### {title}\n\n{table}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())

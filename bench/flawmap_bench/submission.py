"""The files that MVTec AD 2's server takes, for the private test sets of one category, whose labels it alone has:

    python -m flawmap_bench.submission RUN DATA/can --output submission

Call it for each of the eight categories with its own run and the same --output. The folder then is what the benchmark's
``check_and_prepare_data_for_upload.py`` checks and packs:

    submission/anomaly_images/can/test_private/000_regular.tiff               float16, higher = more anomalous
    submission/anomaly_images_thresholded/can/test_private/000_regular.png    8 bit, 255 = anomalous, 0 = not

The threshold is that of the run's maps, which comes from good images alone. A map is written on its model's colour
scale, 0 to 1 with the threshold at 0.5 and not cut off, because float16 ends at 65504.
"""

import argparse
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.advice import command
from flawmap.data.layouts.image_folders import images_in
from flawmap.data.layouts.mvtec_2 import PRIVATE_TESTS, MvtecAd2
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import DeviceName
from flawmap.errors import UserError
from flawmap.reproducibility import atomic_write_bytes
from flawmap.runs.calibration import Calibration

DESCRIPTION = "Write the files that MVTec AD 2's server takes, for the private test sets of one category."
MAPS, THRESHOLDED = "anomaly_images", "anomaly_images_thresholded"
SAMPLE_FORMAT, IEEE_FLOAT = 339, 3  # TIFF's tag, and its value for floating point


@dataclass(frozen=True)
class Submitted:
    """What was written for a category: images in all, and those with any pixel above the threshold."""

    images: int
    flagged: int


def write_submission(
    run: Path,
    category: Path,
    output: Path,
    device: DeviceName = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Submitted:
    """Score the private test sets of a category and add their files to a submission.

    Args:
        run: a run folder or a model folder, trained on the same category.
        category: its folder in MVTec AD 2; the folder's name is the category's.
        output: the submission, new or with other categories. A folder of this category is replaced once all is scored.
        device: where to compute.
        progress: called after each image with (done, total).

    Raises:
        UserError: the folder is no category of MVTec AD 2 or lacks a private test set, the run has no threshold, or an
            image cannot be read or scored.
    """
    sets = {name: _images_of(category, name) for name in PRIVATE_TESTS}
    detector = AnomalyDetector.from_pretrained(run, device)
    if (calibration := detector.calibration_) is None:
        remedy = command("flawmap", "calibrate", str(run), str(category / "validation" / "good"))
        raise UserError("the run has no threshold, which the thresholded maps need", str(run), remedy)
    name, total = category.resolve().name, sum(map(len, sets.values()))
    # beside the submission: the server takes no folder but its own
    unfinished = output.with_name(f"{output.name}-unfinished-{secrets.token_hex(4)}")
    n_flagged = n_done = 0
    try:
        for test_set, images in sets.items():
            for image in images:
                anomaly_map = detector.predict(image).anomaly_map
                above = anomaly_map > calibration.map_threshold
                stem = Path(test_set) / image.stem
                _write((unfinished / MAPS / stem).with_suffix(".tiff"), tiff_of(on_scale(anomaly_map, calibration)))
                _write((unfinished / THRESHOLDED / stem).with_suffix(".png"), _png_of(above))
                n_done, n_flagged = n_done + 1, n_flagged + bool(above.any())
                progress(n_done, total)
        for kind in (MAPS, THRESHOLDED):
            final = output / kind / name
            shutil.rmtree(final, ignore_errors=True)
            final.parent.mkdir(parents=True, exist_ok=True)
            (unfinished / kind).rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Submitted(total, n_flagged)


def on_scale(anomaly_map: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float16]:
    """A map in float16 on its model's colour scale, where 0.5 is the threshold of maps; keeps the order of values.

    Args:
        anomaly_map: (h, w).
        calibration: of the same model.
    """
    scale, largest = calibration.map_scale, float(np.finfo(np.float16).max)
    shares = (anomaly_map.astype(np.float64) - scale.low) / (scale.high - scale.low)
    return shares.clip(-largest, largest).astype(np.float16)


def tiff_of(pixels: NDArray[np.float16]) -> bytes:
    """A TIFF file with one float16 channel, which Pillow has no mode for: it writes the same 16 bits, told their type.

    Args:
        pixels: (h, w).
    """
    buffer = BytesIO()
    bits = Image.fromarray(pixels.view(np.uint16))
    bits.save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo={SAMPLE_FORMAT: IEEE_FLOAT})
    return buffer.getvalue()


def _png_of(above: NDArray[np.bool_]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(above.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def _images_of(category: Path, name: str) -> tuple[Path, ...]:
    """The images of a private test set.

    Raises:
        UserError: the category's folder is in another layout, or has no such images.
    """
    folder, remedy = category / name, "name the folder of one category of MVTec AD 2, as its archive unpacks"
    if not MvtecAd2().is_at(category):
        raise UserError("no category of MVTec AD 2 (train/good, test_public)", str(category), remedy)
    images = images_in(folder, recursive=False).images if folder.is_dir() else ()
    if not images:
        raise UserError(f"no image in {name}, and the server needs both private test sets", str(folder), remedy)
    return images


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, content)
    except OSError as error:
        raise UserError(f"a map cannot be written: {error.strerror}", str(path), "free some disk space") from error


def main(argv: list[str] | None = None) -> int:
    """Write one category, and say what was written."""
    from flawmap.cli.progress_line import ProgressLine

    parser = argparse.ArgumentParser(prog="python -m flawmap_bench.submission", description=DESCRIPTION)
    parser.add_argument("run", type=Path, help="a run folder of flawmap train, or a model folder")
    parser.add_argument("category", type=Path, help="the folder of one category of MVTec AD 2, such as mvtec_ad_2/can")
    parser.add_argument("--output", type=Path, required=True, help="folder of the submission; categories add up")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    arguments = parser.parse_args(argv)
    try:
        written = write_submission(
            arguments.run, arguments.category, arguments.output, arguments.device, ProgressLine("submission")
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    name = arguments.category.resolve().name
    print(f"{name}: {written.images} images, {written.flagged} with a pixel above the threshold -> {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

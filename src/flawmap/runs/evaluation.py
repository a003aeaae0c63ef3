"""What an evaluation leaves in its folder beside metrics.json: maps, truth masks, scores per image, pixel curves."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from flawmap.data.sample import LabelledImage
from flawmap.errors import UserError
from flawmap.metrics.curve_points import PixelCurves, Points
from flawmap.reproducibility import atomic_write_bytes, atomic_write_text
from flawmap.runs.calibration import MapScale

MAX_16_BIT = 65535
_CURVE_DIGITS = 6  # finer than any screen


@dataclass(frozen=True)
class ScoredSample:
    """One test image with its scores.

    Attributes:
        sample: image, label, kind and groups.
        scores: every image score by name.
        logits: of each scale alone, by its size in pixels.
        anomalous_share: anomalous pixels over all pixels of the image at its original resolution; None where nobody has
            said which they are, and for a normal image.
        map_file: relative to the folder, "" where nothing is written.
        truth_file: relative to the folder, "" where there is no truth.
    """

    sample: LabelledImage
    scores: dict[str, float]
    logits: dict[int, float]
    anomalous_share: float | None
    map_file: str
    truth_file: str


def write_maps(
    folder: Path | None,
    number: int,
    sample: LabelledImage,
    anomaly_map: Float[np.ndarray, "h w"],
    truth: Bool[np.ndarray, "h w"] | None,
    scale: MapScale,
) -> tuple[str, str]:
    """The map as 16-bit PNG and the truth as 8-bit PNG.

    Returns:
        their names relative to the folder; "" for what was not written.

    Raises:
        UserError: they cannot be written.
    """
    if folder is None:
        return "", ""
    name = f"{number:04d}_{sample.path.stem[:48]}.png"  # a name that no file system finds too long
    shares = (anomaly_map - scale.low) / (scale.high - scale.low)
    levels = np.rint(shares.clip(0, 1) * MAX_16_BIT).astype(np.uint16)
    _write_png(folder / "maps" / name, levels)
    if truth is None or not truth.any():
        return f"maps/{name}", ""
    _write_png(folder / "truth" / name, truth.astype(np.uint8) * 255)
    return f"maps/{name}", f"truth/{name}"


def write_per_image(folder: Path, scored: Sequence[ScoredSample], score_name: str, threshold: float | None) -> None:
    """per_image.csv: which image, its label, its scores and whether it was flagged."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
    names = list(scored[0].scores) if scored else []
    rows.writerow(["key", "path", "kind", "is_anomalous", "score", "is_flagged", "map", "truth", *names])
    for s in scored:
        score = s.scores[score_name]
        flagged = int(threshold is not None and score > threshold)
        all_scores = [repr(s.scores[name]) for name in names]
        rows.writerow(
            [
                s.sample.key,
                s.sample.path.absolute(),  # a report is also written from elsewhere
                s.sample.kind,
                int(s.sample.is_anomalous),
                repr(score),
                flagged,
                s.map_file,
                s.truth_file,
                *all_scores,
            ]
        )
    atomic_write_text(folder / "per_image.csv", buffer.getvalue())


def write_pixel_curves(folder: Path, curves: PixelCurves | None) -> None:
    """pixel_curves.json: lists of [x, y] for each curve; no file where no pixel has ground truth."""
    if curves is None:
        return

    def pairs(points: Points) -> list[list[float]]:
        return points.round(_CURVE_DIGITS).tolist()

    content = {
        "roc": pairs(curves.roc),
        "precision_recall": pairs(curves.precision_recall),
        "overlap": pairs(curves.overlap),
        "anomalous_share": curves.anomalous_share,
        "n_images": curves.n_images,
    }
    atomic_write_text(folder / "pixel_curves.json", json.dumps(content))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    try:
        atomic_write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"a map cannot be written: {error.strerror}", str(path), "free some disk space") from error

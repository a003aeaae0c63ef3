"""Good images that look unusual: they may show a defect, which would be learned as good."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.metrics.unusual_scores import limit_of_usual, unusual
from flawmap.runs.calibration import MapScale
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.unusual import MOST_PICTURED, Scoring, Unusual, UnusualImage, picture_file, write_unusual
from flawmap.scorer import upsample_map

PICTURE_PX = 300  # the longer side


def name_unusual(
    run: RunFolder,
    images: Sequence[NormalImage],
    scores: Sequence[float],
    maps: Sequence[Float[np.ndarray, "r c"]],
    map_scale: MapScale,
) -> None:
    """Write the good images that look unusual into the run, with pictures of the first.

    Args:
        run: its folder ``unusual`` is written.
        images: good images.
        scores: of each, by a fit that has not seen it.
        maps: of each, on the patch grid.
        map_scale: ends of the maps' colour scale.
    """
    limit, places = limit_of_usual(scores), unusual(scores).tolist()
    found = tuple(UnusualImage(images[place].key, scores[place]) for place in places)
    run.unusual.mkdir(exist_ok=True)
    for number, place in enumerate(places[:MOST_PICTURED]):
        picture = _shrunk(read_image(images[place].path))
        height, width = picture.shape[:2]
        anomaly_map = upsample_map(torch.from_numpy(maps[place])[None], height, width)[0].numpy()
        shade = ((anomaly_map - map_scale.low) / (map_scale.high - map_scale.low)).clip(0, 1)
        Image.fromarray(picture).save(picture_file(run.unusual, number, "image"))
        Image.fromarray(np.rint(255 * shade).astype(np.uint8)).save(picture_file(run.unusual, number, "map"))
    scoring = Scoring(len(images), limit if math.isfinite(limit) else None, map_scale)
    write_unusual(run.unusual, Unusual(found, scoring))


def _shrunk(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "..."]:
    height, width = image.shape[:2]
    factor = min(1.0, PICTURE_PX / max(height, width))
    return resize_image(image, max(1, round(height * factor)), max(1, round(width * factor)))

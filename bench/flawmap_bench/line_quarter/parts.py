"""The parts of a quarter in the order in which the line makes them, and the images that the model is trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from flawmap.data.images.files import read_image
from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import numpy_generator

WEEKS, DAYS = 13, 5
GOOD_A_DAY, DEFECTIVE_A_DAY, TRAINED_ON = 9, 2, 120
OTHER_CAMERA_FROM, OTHER_PRODUCT_FROM = 5, 9  # weeks, 1 = first
OTHER_PRODUCT_SHARE = 0.7
FIRST, OTHER = "first", "other"  # product
GAMMA, BLUR_PX, CUT_OFF = 1.3, 1.0, 0.03  # of the other camera; the last is a share of each side


@dataclass(frozen=True)
class Part:
    """One part, or its image.

    Attributes:
        path: of the image as the first camera took it.
        week, day: when it is made, 1 = first; 0: before the quarter.
        is_other_camera: whether the other camera takes its image.
    """

    path: Path
    is_defective: bool
    product: str
    week: int = 0
    day: int = 0
    is_other_camera: bool = False


def parts_at(location: str, settings: DataSettings, product_of: Callable[[Path], str]) -> list[Part]:
    """All good and defective parts of a data set, by name; those that it keeps for tests are parts like all others."""
    good = [image.path for image in open_training_data(location, settings).images]
    tests = open_test_data(location, settings).samples
    labelled = [(path, False) for path in good] + [(sample.path, sample.is_anomalous) for sample in tests]
    return [Part(path, is_defective, product_of(path)) for path, is_defective in sorted(labelled)]


def product_by_format(path: Path) -> str:
    """The other product is wider than it is high."""
    with Image.open(path) as image:
        return OTHER if image.width > image.height else FIRST


def quarter(parts: Sequence[Part], seed: int) -> tuple[list[Part], list[Part]]:
    """The good parts that the model is trained on, and all parts of the quarter in order; none is shown twice.

    Args:
        parts: of both products, good and defective.
        seed: of the drawing.

    Raises:
        UserError: there are too few.
    """
    generator = numpy_generator(seed, "quarter")
    piles = {
        (product, is_defective): _shuffled(
            [part for part in parts if (part.product, part.is_defective) == (product, is_defective)], generator
        )
        for product in (FIRST, OTHER)
        for is_defective in (False, True)
    }
    training = [_taken(piles, FIRST, False) for _ in range(TRAINED_ON)]
    line: list[Part] = []
    for week in range(1, WEEKS + 1):
        for day in range(1, DAYS + 1):
            kinds = [False] * GOOD_A_DAY + [True] * DEFECTIVE_A_DAY
            for is_defective in generator.permutation(kinds).tolist():
                is_other = week >= OTHER_PRODUCT_FROM and generator.random() < OTHER_PRODUCT_SHARE
                part = _taken(piles, OTHER if is_other else FIRST, is_defective)
                line.append(replace(part, week=week, day=day, is_other_camera=week >= OTHER_CAMERA_FROM))
    return training, line


def _shuffled(parts: Sequence[Part], generator: np.random.Generator) -> list[Part]:
    return [parts[number] for number in generator.permutation(len(parts))]


def _taken(piles: Mapping[tuple[str, bool], list[Part]], product: str, is_defective: bool) -> Part:
    pile = piles[product, is_defective]
    if not pile:
        kind = "defective" if is_defective else "good"
        raise UserError(f"there are too few {kind} parts of the {product} product for a quarter", "", "give more")
    return pile.pop()


def seen_by_other_camera(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Darker middle tones, a slight blur, and a margin cut off at each side."""
    rows, columns = (max(1, round(CUT_OFF * side)) for side in pixels.shape[:2])
    darker = (255 * (np.arange(256) / 255) ** GAMMA).round().astype(np.uint8)[pixels]
    blurred = np.asarray(Image.fromarray(darker).filter(ImageFilter.GaussianBlur(BLUR_PX)))
    return blurred[rows:-rows, columns:-columns]


def image_file(part: Part, folder: Path) -> Path:
    """The image of a part; one of the other camera is written to a folder first."""
    if not part.is_other_camera:
        return part.path
    path = folder / f"{part.path.parent.name}-{part.path.stem}.png"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(seen_by_other_camera(read_image(part.path))).save(path)
    return path

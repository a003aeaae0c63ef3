"""The views of stage 1: one teacher view, one global and V - 1 local student views of each image.

Recipes and parameters are DINO's: the teacher view follows its first global recipe, the student's global view
its second. Every crop is drawn on its own, so no two views share one (methods of the DINO repository).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.reproducibility import numpy_generator
from flawmap.simulators.color_jitter import color_jitter
from flawmap.vit.inputs import NormalImageSource, channels_first


@dataclass(frozen=True)
class ViewRecipe:
    """How one kind of view is made: crop area, chance of blur, chance of solarisation."""

    min_area: float
    max_area: float
    blur_probability: float
    solarize_probability: float


TEACHER_VIEW = ViewRecipe(0.4, 1.0, blur_probability=1.0, solarize_probability=0.0)
STUDENT_GLOBAL_VIEW = ViewRecipe(0.4, 1.0, blur_probability=0.1, solarize_probability=0.2)
STUDENT_LOCAL_VIEW = ViewRecipe(0.05, 0.4, blur_probability=0.5, solarize_probability=0.0)

JITTER_PROBABILITY = 0.8
JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
GRAY_PROBABILITY = 0.2
SOLARIZE_THRESHOLD = 128


def make_view(
    image: UInt8[np.ndarray, "h w 3"], size_px: int, recipe: ViewRecipe, generator: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """One random view of ``image``: crop, flip, colours, blur, solarisation."""
    view = random_resized_crop(image, size_px, recipe.min_area, recipe.max_area, generator)
    if generator.random() < 0.5:
        view = view[:, ::-1]
    if generator.random() < JITTER_PROBABILITY:
        view = color_jitter(view, generator, *JITTER)
    if generator.random() < GRAY_PROBABILITY:
        view = np.repeat(np.asarray(Image.fromarray(view).convert("L"))[..., None], 3, axis=2)
    if generator.random() < recipe.blur_probability:
        view = cv2.GaussianBlur(view, (0, 0), sigmaX=generator.uniform(0.1, 2.0))
    if generator.random() < recipe.solarize_probability:
        view = np.where(view < SOLARIZE_THRESHOLD, view, 255 - view)
    return np.ascontiguousarray(view)


def random_resized_crop(
    image: UInt8[np.ndarray, "h w 3"], size_px: int, min_area: float, max_area: float, generator: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """A crop of a random share of the area and an aspect of 3/4 to 4/3, resized (bicubic, antialiased).

    Where ten drawn crops are all higher or wider than the image, it is the largest crop of such an aspect.
    """
    height, width = image.shape[:2]
    crop_height, crop_width = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    for _ in range(10):
        area = generator.uniform(min_area, max_area) * height * width
        aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        tried_width, tried_height = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < tried_width <= width and 0 < tried_height <= height:
            crop_height, crop_width = tried_height, tried_width
            break
    top = int(generator.integers(0, height - crop_height + 1))
    left = int(generator.integers(0, width - crop_width + 1))
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC, box=box))


@dataclass(frozen=True)
class Views:
    """The views of one image, as uint8 arrays (size, size, 3)."""

    teacher: UInt8[np.ndarray, "g g 3"]
    student_global: UInt8[np.ndarray, "g g 3"]
    student_locals: tuple[UInt8[np.ndarray, "l l 3"], ...]


def make_views(
    image: UInt8[np.ndarray, "h w 3"],
    global_size_px: int,
    local_size_px: int,
    num_locals: int,
    generator: np.random.Generator,
) -> Views:
    """All views of one image for one step of stage 1."""
    return Views(
        make_view(image, global_size_px, TEACHER_VIEW, generator),
        make_view(image, global_size_px, STUDENT_GLOBAL_VIEW, generator),
        tuple(make_view(image, local_size_px, STUDENT_LOCAL_VIEW, generator) for _ in range(num_locals)),
    )


@dataclass(frozen=True)
class ViewSizes:
    """Sides of the global and local views, multiples of the patch size, and how many local views."""

    global_px: int
    local_px: int
    num_locals: int


class ViewsDataset(Dataset):
    """Stage 1: ``teacher`` and ``student_global`` (3, g, g) and ``student_locals`` (V - 1, 3, l, l), uint8."""

    def __init__(self, pixels: NormalImageSource, sizes: ViewSizes, seed: int) -> None:
        self._pixels, self._sizes, self._seed = pixels, sizes, seed

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = item
        generator = numpy_generator(self._seed, "views", epoch, index)
        sizes = self._sizes
        views = make_views(self._pixels[index], sizes.global_px, sizes.local_px, sizes.num_locals, generator)
        no_locals = torch.zeros(0, 3, sizes.local_px, sizes.local_px, dtype=torch.uint8)
        return {
            "teacher": channels_first(views.teacher),
            "student_global": channels_first(views.student_global),
            "student_locals": torch.stack([channels_first(v) for v in views.student_locals])
            if views.student_locals
            else no_locals,
        }

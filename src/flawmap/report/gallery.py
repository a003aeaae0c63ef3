"""The gallery: one HTML page that shows what training makes of a few good images, before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.drawing.colour import ColourScale
from flawmap.drawing.overlay import dim_outside, draw_contour
from flawmap.report.templates import page_template
from flawmap.report.thumbnails import Thumbnail
from flawmap.reproducibility import atomic_write_text
from flawmap.runs.samples import DROPPED_GRAY

LARGE_PX = 520  # of the defects that training will see, four to a row
SIDE_PX = 280  # about twice the size on the page, for sharp lines on high-resolution screens and on paper
LINE_PX = 2
GRID_GRAY = 98  # the line around a dropped patch

MASKING_WORDS = {
    "none": ("No masking", "the student sees every patch"),
    "random": ("Random", "drops patches at random"),
    "attention": ("APMask", "the paper's: drops the patches that get the least [CLS] attention"),
    "most_attended": ("Most attended", "the opposite: drops the patches that get the most [CLS] attention"),
    "block": ("Blocks", "drops rectangles of patches, as BEiT and iBOT do"),
}
SIMULATOR_WORDS = {
    "attention_cutpaste": ("Attention", "the paper's: a patch of the image, pasted where attention is high"),
    "varied": ("Varied", "many shapes and textures, placed where attention is high"),
    "random_cutpaste": ("Random", "the control: the same patches, placed at random"),
    "cutpaste": ("CutPaste", "a rectangle of the image, pasted elsewhere"),
    "scar": ("CutPaste scar", "a thin, rotated strip of the image"),
    "cutpaste_union": ("CutPaste union", "a rectangle or a scar, at random"),
    "fpi": ("FPI", "a square of another image, mixed in"),
    "pii": ("PII", "a square of another image, with its gradients mixed in"),
    "nsa": ("NSA", "patches of another image, cloned in without a seam"),
    "draem": ("DRAEM", "a texture, where Perlin noise is high"),
}


@dataclass(frozen=True)
class GalleryDefect:
    """A simulated defect: uint8 image (s, s, 3), and bool footprint (s, s), True where pixels may have changed."""

    image: NDArray[np.uint8]
    footprint: NDArray[np.bool_]


@dataclass(frozen=True)
class GalleryImage:
    """One good image with everything that training could do to it.

    Attributes:
        pixels: uint8 (s, s, 3), at the size of training.
        attention: float32 (r, c), of [CLS] on the patch grid.
        dropped: bool (r, c) by masking strategy; True = the student does not see the patch.
        simulated: by simulator.
        training: defects by the simulator that the recipe trains with; none where it trains with no defects.
        inside: bool (s, s), the pixels in the region of interest; None: all.
    """

    key: str
    pixels: NDArray[np.uint8]
    attention: NDArray[np.float32]
    dropped: Mapping[str, NDArray[np.bool_]]
    simulated: Mapping[str, GalleryDefect]
    training: tuple[GalleryDefect, ...] = ()
    inside: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class GalleryPage:
    """What the page says in addition to its images.

    Attributes:
        drop_ratio: r, of every masking strategy.
        in_use: the masking strategy and the simulator of the recipe; None for a stage that it leaves out.
        facts: what the page was made from, as rows of name and text.
    """

    data: str
    drop_ratio: float
    in_use: tuple[str | None, str | None]
    facts: tuple[tuple[str, str], ...]


def write_gallery(page: GalleryPage, images: Sequence[GalleryImage], path: Path) -> None:
    """Write the page and the folders above it. The page loads nothing.

    Args:
        page: the text.
        images: at least one, all with the same strategies and simulators.
        path: of the page; an existing file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, render(page, images))


def render(page: GalleryPage, images: Sequence[GalleryImage]) -> str:
    """The page as text."""
    scale = attention_scale(images)
    strategies, simulators = tuple(images[0].dropped), tuple(images[0].simulated)
    return page_template("gallery.html").render(
        page=page,
        training=[(image.key, _training_figures(image)) for image in images if image.training],
        rows=[_row(image, scale) for image in images],
        scale=scale,
        masking=[(*MASKING_WORDS.get(name, (name, "")), name == page.in_use[0]) for name in strategies],
        simulators=[(*SIMULATOR_WORDS.get(name, (name, "")), name == page.in_use[1]) for name in simulators],
        size_px=images[0].pixels.shape[0],
        gray=DROPPED_GRAY,
        grid=images[0].attention.shape,
    )


def relative_attention(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention (r, c) in multiples of an even share: 1 where a patch gets as much as the mean patch."""
    return attention / max(float(attention.mean()), 1e-12)


def attention_scale(images: Sequence[GalleryImage]) -> ColourScale:
    """One scale for all images: from none over an even share to what only 1 % of the patches exceed."""
    shares = np.concatenate([relative_attention(image.attention).ravel() for image in images])
    return ColourScale(0.0, 1.0, max(1.01, float(np.percentile(shares, 99))))


def masked_image(image: GalleryImage, strategy: str) -> NDArray[np.uint8]:
    """The image at the page's size; dropped patches are gray, with a line around each."""
    dropped = image.dropped[strategy]
    rows = np.arange(SIDE_PX) * dropped.shape[0] // SIDE_PX
    columns = np.arange(SIDE_PX) * dropped.shape[1] // SIDE_PX
    hidden = dropped[rows[:, None], columns]
    line = (np.diff(rows, prepend=-1) > 0)[:, None] | (np.diff(columns, prepend=-1) > 0)
    gray = np.where(line, GRID_GRAY, DROPPED_GRAY).astype(np.uint8)
    return np.where(hidden[..., None], gray[..., None], resized(image.pixels))


def defect_picture(defect: GalleryDefect, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """The image with its simulated defect, a square of ``side_px``, and a line just outside of the footprint."""
    share = Image.fromarray(defect.footprint.astype(np.float32))  # float: a small share must not round to 0
    filter_ = Image.Resampling.NEAREST if defect.footprint.shape[0] <= side_px else Image.Resampling.BOX
    footprint = np.asarray(share.resize((side_px, side_px), filter_)) > 0
    return draw_contour(resized(defect.image, side_px), grown(footprint, LINE_PX), width=LINE_PX)


def resized(pixels: NDArray[np.uint8], side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """A square image at the page's size."""
    filter_ = Image.Resampling.BICUBIC if pixels.shape[0] <= side_px else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((side_px, side_px), filter_))


def with_region(image: GalleryImage, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """The image at the page's size, dark outside of the region of interest, whose rim is outlined."""
    if image.inside is None:
        return resized(image.pixels, side_px)
    places = (np.arange(side_px) * len(image.inside)) // side_px
    inside = image.inside[np.ix_(places, places)]
    return draw_contour(dim_outside(resized(image.pixels, side_px), inside), inside, width=LINE_PX)


def _share_inside(image: GalleryImage) -> str:
    return "" if image.inside is None else f", {image.inside.mean():.0%} of it counts"


def grown(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """A mask (h, w) with a rim of ``width`` pixels, so that an outline in the rim hides nothing of a thin defect."""
    for _ in range(width):
        padded = np.pad(mask, 1)
        mask = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | mask
    return mask


def _training_figures(image: GalleryImage) -> list[Thumbnail]:
    """The good image, and the same with each of the defects that training will see."""
    good = with_region(image, LARGE_PX)
    figures = [Thumbnail("Good image", f"good image {image.key}", good, f"as it is{_share_inside(image)}")]
    for number, defect in enumerate(image.training, 1):
        alt = f"{image.key} with simulated defect {number}"
        figures.append(Thumbnail(f"Defect {number}", alt, defect_picture(defect, LARGE_PX), _size_of(defect)))
    return figures


def _size_of(defect: GalleryDefect) -> str:
    share = float(defect.footprint.mean())
    size = f"{100 * share:.1f} %" if share >= 0.0005 else "less than 0.1 %"
    return f"{size} of the image" if share > 0 else "no change this time"


def _row(image: GalleryImage, scale: ColourScale) -> tuple[str, list[Thumbnail], list[Thumbnail]]:
    """The key of an image; the image, its attention and its masked views; and its simulated defects."""
    size_px, relative = image.pixels.shape[0], relative_attention(image.attention)
    colours = Image.fromarray(scale.colours(relative)).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
    encoded = [
        Thumbnail(
            "Image", f"good image {image.key}", with_region(image), f"{size_px} × {size_px} px{_share_inside(image)}"
        ),
        Thumbnail(
            "Attention",
            f"attention of [CLS] on {image.key}",
            np.asarray(colours),
            f"up to {relative.max():.1f} × even",
        ),
    ]
    for name, dropped in image.dropped.items():
        title, meaning = MASKING_WORDS.get(name, (name, ""))
        remark = f"{int(dropped.sum())} of {dropped.size} dropped" if dropped.any() else "all patches kept"
        encoded.append(Thumbnail(title, f"{image.key}, {title}: {meaning}", masked_image(image, name), remark))
    simulated = []
    for name, defect in image.simulated.items():
        title, meaning = SIMULATOR_WORDS.get(name, (name, ""))
        remark = _size_of(defect)
        simulated.append(Thumbnail(title, f"{image.key}, {title}: {meaning}", defect_picture(defect), remark))
    return image.key, encoded, simulated

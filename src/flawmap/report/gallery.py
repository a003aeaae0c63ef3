"""The gallery: one HTML page that shows what training makes of a few normal images, before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flawmap.report.colour import ColourScale, colour_bar
from flawmap.report.gallery_image import GalleryImage
from flawmap.report.overlay import draw_contour
from flawmap.report.pictures import data_uri
from flawmap.report.templates import page_template
from flawmap.reproducibility import atomic_write_text

PICTURE_PX = 280  # about twice as many as the page gives a picture, for sharp lines on fine screens and on paper
LINE_PX = 2
DROPPED_GRAY, GRID_GRAY = 128, 108  # a dropped patch, and the line around it

MASKING_WORDS = {
    "none": ("No masking", "the student sees every patch"),
    "random": ("Random", "drops patches by chance"),
    "attention": ("APMask (ours)", "drops the patches that [CLS] attends to least"),
    "most_attended": ("Most attended", "the opposite of APMask: drops what [CLS] attends to most"),
    "block": ("Blocks", "drops rectangles of patches, as BEiT and iBOT do"),
}
SIMULATOR_WORDS = {
    "attention_cutpaste": ("Attention (the paper)", "cut and pasted where the attention is high"),
    "varied": ("Varied", "many shapes and looks, put where the attention is high"),
    "random_cutpaste": ("Random (control)", "the same patches, placed by chance"),
    "cutpaste": ("CutPaste", "a rectangle of the image, pasted elsewhere in it"),
    "scar": ("CutPaste scar", "a thin, turned strip of the image"),
    "cutpaste_union": ("CutPaste union", "a rectangle or a scar, by chance"),
    "fpi": ("FPI", "a square of another image, mixed in"),
    "pii": ("PII", "a square of another image, its gradients mixed in"),
    "nsa": ("NSA", "a patch of another image, cloned in without a seam"),
    "draem": ("DRAEM", "a texture where Perlin noise is high"),
}


@dataclass(frozen=True)
class GalleryPage:
    """What the page says beside its pictures.

    Attributes:
        data: name of the data.
        drop_ratio: r, of every masking strategy.
        in_use: the masking strategy and the simulator that the recipe trains with; None for a stage that it leaves out.
        facts: what the page was made from, as rows of name and text.
    """

    data: str
    drop_ratio: float
    in_use: tuple[str | None, str | None]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shown:
    """A picture with its caption: a name, and what is counted in it."""

    title: str
    remark: str
    alt: str
    uri: str


@dataclass(frozen=True)
class Row:
    """All pictures of one image."""

    key: str
    whole: Shown
    attention: Shown
    masked: tuple[Shown, ...]
    simulated: tuple[Shown, ...]


def write_gallery(page: GalleryPage, images: Sequence[GalleryImage], path: Path) -> None:
    """Write the page, and the folders above it; it loads nothing from elsewhere.

    Args:
        page: the words.
        images: at least one, all with the same strategies and simulators.
        path: of the page; the caller has seen that nothing is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, render(page, images))


def render(page: GalleryPage, images: Sequence[GalleryImage]) -> str:
    """The page as text."""
    scale = attention_scale(images)
    strategies, simulators = tuple(images[0].dropped), tuple(images[0].simulated)
    return page_template("gallery.html").render(
        page=page,
        rows=[_row(image, scale) for image in images],
        scale=scale,
        colour_bar=data_uri(colour_bar(256, 8), quality=95),
        masking=[(*MASKING_WORDS.get(name, (name, "")), name == page.in_use[0]) for name in strategies],
        simulators=[(*SIMULATOR_WORDS.get(name, (name, "")), name == page.in_use[1]) for name in simulators],
        size_px=images[0].pixels.shape[0],
        grid=images[0].attention.shape,
    )


def relative_attention(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention (r, c) in multiples of an even share: 1 where a patch gets as much as the mean patch."""
    return attention / max(float(attention.mean()), 1e-12)


def attention_scale(images: Sequence[GalleryImage]) -> ColourScale:
    """One scale for all images: none, an even share in the middle, and what only 1 % of the patches exceed."""
    shares = np.concatenate([relative_attention(image.attention).ravel() for image in images])
    return ColourScale(0.0, 1.0, max(1.01, float(np.percentile(shares, 99))))


def masked_picture(image: GalleryImage, strategy: str) -> NDArray[np.uint8]:
    """The image at the page's size; dropped patches are gray, with a line around each."""
    dropped = image.dropped[strategy]
    rows = np.arange(PICTURE_PX) * dropped.shape[0] // PICTURE_PX
    columns = np.arange(PICTURE_PX) * dropped.shape[1] // PICTURE_PX
    hidden = dropped[rows[:, None], columns]
    line = (np.diff(rows, prepend=-1) > 0)[:, None] | (np.diff(columns, prepend=-1) > 0)
    gray = np.where(line, GRID_GRAY, DROPPED_GRAY).astype(np.uint8)
    return np.where(hidden[..., None], gray[..., None], resized(image.pixels))


def simulated_picture(image: GalleryImage, simulator: str) -> NDArray[np.uint8]:
    """The image with its simulated defect at the page's size; a line runs around the footprint, just outside of it."""
    defect = image.simulated[simulator]
    share = Image.fromarray(defect.footprint.astype(np.float32))  # float: a small share must not round to 0
    larger = defect.footprint.shape[0] <= PICTURE_PX
    how = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
    footprint = np.asarray(share.resize((PICTURE_PX, PICTURE_PX), how)) > 0
    return draw_contour(resized(defect.image), grown(footprint, LINE_PX), width=LINE_PX)


def resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A square picture at the page's size."""
    how = Image.Resampling.BICUBIC if pixels.shape[0] <= PICTURE_PX else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((PICTURE_PX, PICTURE_PX), how))


def grown(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """A mask (h, w) with a rim of ``width`` pixels: an outline drawn there hides nothing of a thin defect."""
    for _ in range(width):
        padded = np.pad(mask, 1)
        mask = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | mask
    return mask


def _row(image: GalleryImage, scale: ColourScale) -> Row:
    size_px, relative = image.pixels.shape[0], relative_attention(image.attention)
    colours = Image.fromarray(scale.colours(relative)).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.NEAREST)
    return Row(
        image.key,
        Shown("Image", f"{size_px} × {size_px} px", f"normal image {image.key}", data_uri(resized(image.pixels))),
        Shown(
            "Attention",
            f"up to {relative.max():.1f} × even",
            f"attention of [CLS] on {image.key}",
            data_uri(np.asarray(colours)),
        ),
        tuple(_masked(image, name) for name in image.dropped),
        tuple(_simulated(image, name) for name in image.simulated),
    )


def _masked(image: GalleryImage, strategy: str) -> Shown:
    title, meaning = MASKING_WORDS.get(strategy, (strategy, ""))
    dropped = image.dropped[strategy]
    remark = f"{int(dropped.sum())} of {dropped.size} dropped" if dropped.any() else "all patches kept"
    return Shown(title, remark, f"{image.key}, {title}: {meaning}", data_uri(masked_picture(image, strategy)))


def _simulated(image: GalleryImage, simulator: str) -> Shown:
    title, meaning = SIMULATOR_WORDS.get(simulator, (simulator, ""))
    share = float(image.simulated[simulator].footprint.mean())
    remark = f"{_percent(share)} of the image" if share > 0 else "nothing changed this time"
    return Shown(title, remark, f"{image.key}, {title}: {meaning}", data_uri(simulated_picture(image, simulator)))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "less than 0.1 %"

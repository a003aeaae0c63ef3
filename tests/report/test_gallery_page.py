"""The gallery as a page: what it shows, what it says and that it loads nothing."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap.drawing.overlay import TRUTH_GREEN
from flawmap.report import gallery
from flawmap.report.gallery import GalleryDefect, GalleryImage, GalleryPage, render, write_gallery
from flawmap.runs.samples import DROPPED_GRAY

PAGE = GalleryPage("tiles", 0.25, ("attention", "cutpaste"), (("seed", "0"), ("command", "flawmap check <tiles>")))
SIDE, PATCHES = 28, 4
STRATEGIES, SIMULATORS = ("none", "attention"), ("cutpaste", "of_tomorrow")


@pytest.fixture
def image() -> GalleryImage:
    """Patches (0, 0) and (3, 3) dropped; a bright square of 7 px in the middle."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (SIDE, SIDE, 3), np.uint8)
    dropped = np.zeros((PATCHES, PATCHES), bool)
    dropped[0, 0] = dropped[3, 3] = True
    footprint = np.zeros((SIDE, SIDE), bool)
    footprint[10:17, 10:17] = True
    defect = GalleryDefect(np.where(footprint[..., None], np.uint8(200), pixels), footprint)
    nothing = GalleryDefect(pixels, np.zeros_like(footprint))
    attention = rng.uniform(0.01, 0.1, (PATCHES, PATCHES)).astype(np.float32)
    masks = {"none": np.zeros_like(dropped), "attention": dropped}
    return GalleryImage("good/<b>&1.png", pixels, attention, masks, {"cutpaste": defect, "of_tomorrow": nothing})


def figures_of(text: str) -> list[tuple[str, str, str]]:
    """Address, title and remark of every image of the rows."""
    return re.findall(r'<figure><img src="([^"]+)".*?<b>(.*?)</b>(.*?)</figcaption>', text)


def test_a_row_has_the_image_its_attention_and_one_figure_per_strategy_and_simulator(image) -> None:
    titles = ["Image", "Attention", "No masking", "APMask", "CutPaste", "of_tomorrow"]
    assert [title for _, title, _ in figures_of(render(PAGE, [image, image]))] == 2 * titles


def test_the_defects_of_the_training_come_first_and_large(image) -> None:
    training = replace(image, training=(image.simulated["cutpaste"], image.simulated["of_tomorrow"]))
    text = render(PAGE, [training])
    first = figures_of(text)[:3]
    assert [title for _, title, _ in first] == ["Good image", "Defect 1", "Defect 2"]
    assert [remark for *_, remark in first] == [
        "as it is",
        f"{100 * 49 / 784:.1f} % of the image",
        "no change this time",
    ]
    for uri, *_ in first:
        packed = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
        assert Image.open(io.BytesIO(packed)).size == (gallery.LARGE_PX, gallery.LARGE_PX)
    assert text.index("Defect 2") < text.index("<details") < text.index("APMask") < text.index("</details>")
    assert "trains with no defects" not in text and "trains with no defects" in render(PAGE, [image])


def test_captions_say_what_was_counted(image) -> None:
    remarks = [remark for *_, remark in figures_of(render(PAGE, [image]))]
    largest = float(image.attention.max() / image.attention.mean())
    assert remarks == [
        "28 × 28 px",
        f"up to {largest:.1f} × even",
        "all patches kept",
        "2 of 16 dropped",
        f"{100 * 49 / 784:.1f} % of the image",
        "no change this time",
    ]


def test_what_the_recipe_trains_with_is_marked(image) -> None:
    marked = re.findall(r'<dt>([^<]*)</dt><dd>[^<]*<b class="used">in this recipe</b>', render(PAGE, [image]))
    assert marked == ["APMask", "CutPaste"]
    without = render(replace(PAGE, in_use=(None, "cutpaste")), [image])
    assert without.count('class="used"') == 1 and "this recipe has no masked stage 1" in without
    assert "no masked stage 1" not in render(PAGE, [image])


def test_the_images_are_inside_the_page_and_of_one_size(image) -> None:
    for uri, *_ in figures_of(render(PAGE, [image])):
        packed = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
        assert Image.open(io.BytesIO(packed)).size == (gallery.SIDE_PX, gallery.SIDE_PX)


def test_the_page_loads_nothing_and_runs_nothing(image) -> None:
    text = render(PAGE, [image])
    assert re.findall(r'\b(?:src|href)="(?!data:|#)', text) == [] and "<script" not in text
    assert not re.search(r"url\(|@import|https?://", re.sub(r'"data:[^"]*"', "", text))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_names_are_text(image) -> None:
    text = render(PAGE, [image])
    assert "good/<b>" not in text and "<h2>good/&lt;b&gt;&amp;1.png</h2>" in text
    assert "<td>flawmap check &lt;tiles&gt;</td>" in text


def test_dropped_patches_are_gray_and_the_others_untouched(image) -> None:
    shown, whole = gallery.masked_image(image, "attention"), gallery.resized(image.pixels)
    patch = gallery.SIDE_PX // PATCHES
    hidden = np.zeros((gallery.SIDE_PX, gallery.SIDE_PX), bool)
    hidden[:patch, :patch] = hidden[-patch:, -patch:] = True
    assert set(np.unique(shown[hidden])) == {DROPPED_GRAY, gallery.GRID_GRAY}
    assert (shown[1:patch, 1:patch] == DROPPED_GRAY).all()
    np.testing.assert_array_equal(shown[~hidden], whole[~hidden])
    np.testing.assert_array_equal(gallery.masked_image(image, "none"), whole)


def test_the_line_runs_around_the_footprint_and_hides_nothing_of_it(image) -> None:
    shown = gallery.defect_picture(image.simulated["cutpaste"])
    plain = gallery.resized(image.simulated["cutpaste"].image)
    line = (shown != plain).any(axis=-1)
    first, last = 10 * gallery.SIDE_PX // SIDE, 17 * gallery.SIDE_PX // SIDE
    inside = np.zeros_like(line)
    inside[first:last, first:last] = True
    around = gallery.grown(inside, gallery.LINE_PX) & ~inside
    np.testing.assert_array_equal(line, around)
    assert (shown[line] == TRUTH_GREEN).all()


def test_without_a_footprint_nothing_is_drawn(image) -> None:
    np.testing.assert_array_equal(gallery.defect_picture(image.simulated["of_tomorrow"]), gallery.resized(image.pixels))


def test_a_footprint_of_one_pixel_is_seen_in_a_larger_image_too() -> None:
    side = 4 * gallery.SIDE_PX
    footprint = np.zeros((side, side), bool)
    footprint[500, 700] = True
    pixels = np.full((side, side, 3), 90, np.uint8)
    defect = {"scar": GalleryDefect(pixels, footprint)}
    large = GalleryImage("a.png", pixels, np.ones((2, 2), np.float32), {}, defect)
    green = (gallery.defect_picture(large.simulated["scar"]) == TRUTH_GREEN).all(axis=-1)
    rows, columns = np.nonzero(green)
    assert green.sum() == 12  # a diamond of radius 2 around (125, 175), without its middle
    assert (rows.mean(), columns.mean()) == (125, 175) and not green[125, 175]


def test_attention_has_one_scale_with_an_even_share_in_its_middle(image) -> None:
    flat = GalleryImage("b.png", image.pixels, np.full((2, 2), 0.2, np.float32), image.dropped, image.simulated)
    scale = gallery.attention_scale([image, flat])
    assert (scale.low, scale.threshold) == (0.0, 1.0)
    relative = gallery.relative_attention(image.attention)
    assert relative.mean() == pytest.approx(1, abs=1e-6) and 1 < scale.high <= relative.max()
    assert gallery.attention_scale([flat]).high > 1  # so that the scale has two sides even then


def test_words_are_about_strategies_and_simulators_that_exist() -> None:
    from flawmap.gallery import MASKING_STRATEGIES
    from flawmap.simulators.by_name import simulator_names

    assert set(gallery.MASKING_WORDS) <= set(MASKING_STRATEGIES)  # a new one is shown by its name until it has words
    assert set(gallery.SIMULATOR_WORDS) <= set(simulator_names())


def test_folders_are_made_and_nothing_else_is_left(image, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "page.html"
    write_gallery(PAGE, [image], path)
    assert path.read_text(encoding="utf-8") == render(PAGE, [image])
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]

"""How a file becomes a mask. The defect is always the same rectangle, drawn in the ways that tools draw masks."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from assertions import mistake
from flawmap.data.images.mask import DecodedMask, decode_mask, read_mask
from images import noise, write_image

HEIGHT, WIDTH = 64, 96
DEFECT = np.zeros((HEIGHT, WIDTH), bool)
DEFECT[20:40, 30:60] = True  # 600 of 6,144 pixels: 9.77 %
WHITE = np.where(DEFECT, 255, 0).astype(np.uint8)
BLACK, OPAQUE = np.zeros_like(WHITE), np.full_like(WHITE, 255)


def coloured(inside: tuple[int, ...], outside: tuple[int, ...] = (0, 0, 0)) -> Image.Image:
    return Image.fromarray(np.where(DEFECT[..., None], inside, outside).astype(np.uint8))


def palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette([value for colour in colours for value in colour])
    return image


def two_classes() -> np.ndarray:
    """1 in the left part of the defect and 2 in the right one."""
    labels = DEFECT.astype(np.uint8)
    labels[20:40, 45:60] = 2
    return labels


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> DecodedMask:
    return decode_mask(saved(image, kind, **options))


# ---- forms that are decided without a remark


EXACT: dict[str, Callable[[], DecodedMask]] = {
    "white": lambda: decoded(Image.fromarray(WHITE)),
    "one bit": lambda: decoded(Image.fromarray(DEFECT)),
    "0 and 1": lambda: decoded(Image.fromarray(DEFECT.astype(np.uint8))),
    "16 bits": lambda: decoded(Image.fromarray(DEFECT.astype(np.uint16) * 65535)),
    "1 in 16 bits": lambda: decoded(Image.fromarray(DEFECT.astype(np.uint16))),
    "32 bits": lambda: decoded(Image.fromarray(DEFECT.astype(np.int32) * 70_000), "TIFF"),
    "float": lambda: decoded(Image.fromarray(DEFECT.astype(np.float32)), "TIFF"),
    "BMP": lambda: decoded(Image.fromarray(WHITE), "BMP"),
    "red": lambda: decoded(coloured((200, 0, 0))),
    "two colours of one brightness": lambda: decoded(
        Image.fromarray(np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[two_classes()])
    ),
    "two colours of different brightness": lambda: decoded(
        Image.fromarray(np.array([(0, 0, 0), (128, 0, 0), (0, 220, 0)], np.uint8)[two_classes()])
    ),
    "alpha of white": lambda: decoded(Image.fromarray(np.dstack([OPAQUE, OPAQUE, OPAQUE, WHITE]))),
    "alpha of black": lambda: decoded(Image.fromarray(np.dstack([BLACK, BLACK, BLACK, WHITE]))),
    "alpha of gray": lambda: decoded(Image.merge("LA", [Image.fromarray(BLACK), Image.fromarray(WHITE)])),
    "half transparent red on white nothing": lambda: decoded(coloured((255, 0, 0, 128), (255, 255, 255, 0))),
    "red and green on transparent white": lambda: decoded(
        Image.fromarray(np.array([(255, 255, 255, 0), (255, 0, 0, 255), (0, 255, 0, 255)], np.uint8)[two_classes()])
    ),
    "colour under constant alpha": lambda: decoded(Image.fromarray(np.dstack([WHITE, WHITE, WHITE, OPAQUE]))),
    "colour under alpha that is 0 everywhere": lambda: decoded(
        Image.fromarray(np.dstack([WHITE, WHITE, WHITE, BLACK]))
    ),
    "a gray that is transparent": lambda: decoded(Image.fromarray(WHITE), transparency=0),
    "a colour that is transparent": lambda: decoded(coloured((9, 9, 200), (255, 255, 255)), transparency=(255,) * 3),
    "a palette entry that is transparent": lambda: decoded(
        palette(DEFECT, (255, 255, 255), (255, 0, 0)), transparency=0
    ),
    "palette entries of one colour, all but one transparent": lambda: decoded(
        palette(two_classes() == 0, (0, 0, 0), (0, 0, 0)), transparency=1
    ),
    "palette": lambda: decoded(palette(DEFECT, (0, 0, 0), (128, 0, 0))),
    "palette, background is 1": lambda: decoded(palette(DEFECT + 1, (0, 0, 0), (0, 0, 0), (255, 0, 0))),
    "palette, 0 is white": lambda: decoded(palette(~DEFECT, (255, 255, 255), (0, 0, 0))),
    "palette, background is 2": lambda: decoded(
        palette(np.where(DEFECT, 0, 2), (220, 20, 60), (255, 255, 255), (0, 0, 0))
    ),
    "palette of several classes": lambda: decoded(palette(two_classes(), (0, 0, 0), (128, 0, 0), (0, 128, 0))),
    "palette of one colour": lambda: decoded(palette(two_classes(), (0, 0, 0), (0, 0, 0), (0, 0, 0))),
    "classes": lambda: decoded(Image.fromarray(two_classes())),
    "classes, far apart": lambda: decoded(Image.fromarray(two_classes() * 120)),
    "instances of 16 bits": lambda: decoded(Image.fromarray((two_classes().astype(np.uint16) * 43) ** 2)),
    "JPEG": lambda: decoded(Image.fromarray(WHITE), "JPEG", quality=40),
    "JPEG in a TIFF file": lambda: decoded(Image.fromarray(WHITE), "TIFF", compression="jpeg"),
    "WebP": lambda: decoded(Image.fromarray(WHITE), "WEBP", quality=60),
    "WebP without loss, classes": lambda: decoded(Image.fromarray(two_classes()), "WEBP", lossless=True),
    "PGM": lambda: decoded(Image.fromarray(WHITE), "PPM"),
    "dark JPEG": lambda: decoded(Image.fromarray(WHITE // 3), "JPEG", quality=75),
}


@pytest.mark.parametrize("form", EXACT)
def test_forms_of_masks_that_say_all(form: str):
    mask = EXACT[form]()
    assert mask.pixels.dtype == bool and np.array_equal(mask.pixels, DEFECT)
    assert mask.remarks == ()


def test_ink_is_read_by_its_colour(tmp_path):
    """White paper in CMYK is 0, 0, 0, 0."""
    ink = Image.frombytes("CMYK", (3, 1), bytes([0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0]))
    assert read_mask(write_image(tmp_path / "mask.tiff", ink)).tolist() == [[True, False, False]]


def test_thin_defects_keep_their_small_labels():
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10, 5:80], labels[30:50, 40], labels[2, 2] = 1, 2, 3
    mask = decoded(Image.fromarray(labels))
    assert np.array_equal(mask.pixels, labels > 0) and mask.remarks == ()


def of_two_values(mask: np.ndarray, value: int) -> Image.Image:
    return Image.fromarray(np.where(mask, value, 0).astype(np.uint8))


def of_two_colours(mask: np.ndarray, value: int) -> Image.Image:
    return Image.fromarray(np.where(mask[..., None], (0, value, 7), (0, 0, 0)).astype(np.uint8))


def of_alpha(mask: np.ndarray, value: int) -> Image.Image:
    colour = np.full_like(mask, value, np.uint8)
    return Image.fromarray(np.dstack([colour, colour, colour, np.where(mask, 255, 0).astype(np.uint8)]))


def of_a_palette(mask: np.ndarray, value: int) -> Image.Image:
    return palette(~mask, (value, value // 2, 0), (0, 0, 0))


SHAPES = st.tuples(st.integers(1, 6), st.integers(2, 6))
MASKS = arrays(bool, SHAPES).filter(lambda mask: 0 < mask.sum() <= mask.size / 2)
FORMS = (of_two_values, of_two_colours, of_alpha, of_a_palette)


@given(mask=MASKS, value=st.integers(1, 255), form=st.sampled_from(FORMS))
def test_two_colours_of_which_one_is_black_or_transparent(mask: np.ndarray, value: int, form: Callable):
    found = decoded(form(mask, value))
    assert np.array_equal(found.pixels, mask) and found.remarks == ()


# ---- forms that are decided, and remarked


def test_edges_that_were_resized_are_cut_at_half():
    small = Image.fromarray(WHITE).resize((WIDTH // 3, HEIGHT // 3))
    image = small.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    values, mask = np.asarray(image), decoded(image)
    assert np.array_equal(mask.pixels, values > 127) and abs(mask.pixels.mean() - DEFECT.mean()) < 0.002
    share, not_black = 100 * (values > 127).mean(), 100 * (values > 0).mean()
    assert not_black > 1.9 * share
    assert mask.remarks == (
        f"{len(np.unique(values))} different values: those of at least half the largest (127.5 of 255) count as "
        f"anomalous, {share:.3g} % of the pixels; {not_black:.3g} % of the pixels are above 0",
    )


SOFT: dict[str, Callable[[], DecodedMask]] = {
    "noise of 1 to 5": lambda: decoded(Image.fromarray(np.maximum(WHITE, noise(0, HEIGHT, WIDTH, 0, 6)[..., 0]))),
    "specks of 1": lambda: decoded(Image.fromarray(np.maximum(WHITE, noise(0, HEIGHT, WIDTH, 0, 2)[..., 0]))),
    "JPEG saved as PNG": lambda: decoded(Image.open(io.BytesIO(saved(Image.fromarray(WHITE), "JPEG", quality=30)))),
    "16 bits": lambda: decoded(
        Image.fromarray(np.maximum(WHITE.astype(np.uint16) * 257, noise(0, HEIGHT, WIDTH)[..., 0]))
    ),
    "antialiased": lambda: decoded(
        Image.fromarray(WHITE).resize((5 * WIDTH, 5 * HEIGHT)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    ),
    "a soft alpha of black": lambda: decoded(
        Image.merge(
            "LA",
            [Image.fromarray(BLACK), Image.fromarray(WHITE).resize((480, 320)).resize((WIDTH, HEIGHT))],
        )
    ),
    "float": lambda: decoded(
        Image.fromarray((DEFECT + np.random.default_rng(0).uniform(0, 0.01, DEFECT.shape)).astype(np.float32) / 2),
        "TIFF",
    ),
}


@pytest.mark.parametrize("form", SOFT)
def test_noise_and_soft_edges_are_left_out_and_said(form: str):
    mask = SOFT[form]()
    assert np.array_equal(mask.pixels, DEFECT)
    (remark,) = mask.remarks
    assert "count as anomalous, 9.77 % of the pixels" in remark


def test_a_soft_brush_is_cut_at_half():
    blurred = Image.fromarray(WHITE).filter(ImageFilter.GaussianBlur(3))
    mask = decoded(blurred)
    brightest = np.asarray(blurred).max()
    assert np.array_equal(mask.pixels, np.asarray(blurred) >= brightest / 2) and len(mask.remarks) == 1


BACKGROUNDS: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "blue": (lambda: coloured((255, 0, 0), (0, 0, 128)), "colour (0, 0, 128)"),
    "white": (lambda: coloured((255, 0, 0), (255, 255, 255)), "colour (255, 255, 255)"),
    "gray": (lambda: Image.fromarray(np.where(DEFECT, 255, 127).astype(np.uint8)), "value 127"),
    "label 1": (lambda: Image.fromarray(two_classes() + 1), "value 1"),
    "label of 16 bits": (lambda: Image.fromarray(np.where(DEFECT, 20_000, 9000).astype(np.uint16)), "value 9000"),
    "palette": (lambda: palette(DEFECT, (255, 255, 255), (255, 0, 0)), "colour (255, 255, 255)"),
    "palette of classes": (
        lambda: palette(two_classes(), (90, 90, 90), (255, 0, 0), (0, 255, 0)),
        "colour (90, 90, 90)",
    ),
}


@pytest.mark.parametrize("form", BACKGROUNDS)
def test_a_background_that_is_not_black_is_found_and_said(form: str):
    image, background = BACKGROUNDS[form]
    mask = decoded(image())
    assert np.array_equal(mask.pixels, DEFECT)
    assert mask.remarks == (f"no pixel is black: the most frequent {background} is taken for the background",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("background", [(0, 0, 128), (255, 255, 255), (110, 110, 100)])
def test_soft_edges_on_a_coloured_background(kind: str, background: tuple[int, int, int]):
    mask = decoded(coloured((255, 10, 0), background).filter(ImageFilter.BoxBlur(1)), kind)
    assert (mask.pixels != DEFECT).mean() < 0.003
    assert mask.remarks[0].startswith("no pixel is black: the most frequent colour (")


@pytest.mark.parametrize("values", [(16, 235), (30, 255), (1, 9), (2000, 65535)])
def test_a_background_that_is_nearly_black(values: tuple[int, int]):
    mask = decoded(Image.fromarray(np.where(DEFECT, values[1], values[0]).astype(np.uint16)))
    assert np.array_equal(mask.pixels, DEFECT)
    (remark,) = mask.remarks
    assert remark.startswith("2 different values: ") and "count as anomalous, 9.77 % of the pixels; 100 %" in remark
    larger = decoded(Image.fromarray(np.where(DEFECT, values[0], values[1]).astype(np.uint16)))
    assert np.array_equal(larger.pixels, ~DEFECT) and len(larger.remarks) == 2


def test_the_alpha_channel_of_a_picture_that_was_cut_out():
    cut_out = np.dstack([noise(0, HEIGHT, WIDTH, 40, 200), WHITE])
    mask = decoded(Image.fromarray(cut_out))
    assert np.array_equal(mask.pixels, DEFECT)
    assert mask.remarks == ("the visible pixels show a picture; its alpha channel is taken for the mask",)


def test_negative_values_are_said():
    mask = decoded(Image.fromarray(-DEFECT.astype(np.int32)), "TIFF")
    assert np.array_equal(mask.pixels, DEFECT)
    assert mask.remarks == ("negative values, down to -1, count as anomalous, too",)


# ---- forms that cannot be decided


@pytest.mark.parametrize("value", [1, 255])
def test_an_inverted_mask_is_as_it_is_and_said(value: int):
    mask = decoded(Image.fromarray(np.where(DEFECT, 0, value).astype(np.uint8)))
    assert np.array_equal(mask.pixels, ~DEFECT)
    said = "90.2 % of the pixels are anomalous; if black marks the defect in this mask, invert it"
    assert mask.remarks == (said,)


@pytest.mark.parametrize("value", [1, 127, 255])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_mask_of_one_value(value: int, kind: str):
    full = decoded(Image.fromarray(np.full_like(WHITE, value)), kind)
    assert full.pixels.all() and full.remarks == ("every pixel is anomalous; in a mask, black is background",)
    empty = decoded(Image.fromarray(BLACK), kind)
    assert not empty.pixels.any()
    assert empty.remarks == ("the mask of a defect is empty: the place of the defect is unknown",)


def test_a_palette_image_of_one_entry_is_read_by_its_colour():
    assert not decoded(palette(np.ones_like(WHITE), (255, 255, 255), (0, 0, 0))).pixels.any()
    assert decoded(palette(np.zeros_like(WHITE), (255, 255, 255), (0, 0, 0))).pixels.all()


def test_a_full_mask_with_noise():
    nearly_white = 255 - noise(0, HEIGHT, WIDTH, 0, 4)[..., 0]
    mask = decoded(Image.fromarray(nearly_white), "JPEG")
    assert mask.pixels.all() and mask.remarks == ("every pixel is anomalous; in a mask, black is background",)


@pytest.mark.parametrize("of_a_palette", [False, True])
def test_255_beside_classes_may_be_a_border(of_a_palette: bool):
    labels = two_classes()
    labels[:4] = 255
    colours = [(number, 255 - number, 90) for number in range(256)]
    colours[0] = (0, 0, 0)
    mask = decoded(palette(labels, *colours) if of_a_palette else Image.fromarray(labels))
    assert np.array_equal(mask.pixels, labels > 0)
    assert mask.remarks == (
        "255 (6.25 % of the pixels) beside labels up to 2 (9.77 % of the pixels) counts as anomalous, too; if it marks "
        "a border to be ignored, as in Pascal VOC, set it to 0",
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("darkest", [20, 60])
def test_a_picture_is_no_mask(kind: str, darkest: int):
    gradient = np.linspace(darkest, darkest + 140, WIDTH)[None, :, None] + noise(0, HEIGHT, WIDTH, 0, 20)
    overlay = np.where(DEFECT[..., None], (255, 0, 0), gradient).astype(np.uint8)
    mask = decoded(Image.fromarray(overlay), kind)
    assert not mask.pixels.any()
    assert mask.remarks == (
        "this is no mask: most values are neither near black nor near the brightest one, as in a picture; the place of "
        "the defect is unknown",
    )


def test_compression_swallows_a_mask_of_ones():
    """All values become 1 or all become 0, which is said in either case."""
    mask = decoded(Image.fromarray(DEFECT.astype(np.uint8)), "JPEG", quality=40)
    assert mask.pixels.all() or not mask.pixels.any()
    assert mask.remarks


def test_a_jpeg_of_small_values_is_found_and_said():
    mask = decoded(Image.fromarray(WHITE // 12), "JPEG", quality=95)
    assert np.array_equal(mask.pixels, DEFECT)
    (remark,) = mask.remarks
    assert remark.startswith("the largest value is 2") and remark.endswith("with 255 for anomalous pixels")


def test_a_dim_colour_in_a_jpeg_is_found_roughly_and_said():
    mask = decoded(coloured((0, 0, 127)), "JPEG", quality=40)
    assert abs(mask.pixels.mean() - DEFECT.mean()) < 0.01
    (remark,) = mask.remarks
    assert "count as anomalous" in remark


def test_values_that_are_no_numbers(tmp_path):
    values = DEFECT.astype(np.float32)
    values[0, 0] = np.nan
    path = write_image(tmp_path / "mask.tiff", values)
    with mistake("the mask holds values that are not finite (NaN or infinity)", path, "replace these pixels by 0"):
        read_mask(path)


# ---- orientation


def test_a_mask_is_turned_by_its_own_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = decoded(Image.fromarray(np.array([[255, 0, 0], [0, 0, 0]], np.uint8)), exif=exif)
    assert mask.pixels.tolist() == [[False, True], [False, False], [False, False]]
    assert mask.orientation == 6
    assert decoded(Image.fromarray(WHITE)).orientation == 1

"""Which mask belongs to which image."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.layouts.image_folders import images_with_masks, key_of, pair_masks
from flawmap.data.sample import MaskFile
from flawmap.errors import UserError
from images import noise, write_image

PATTERN = "{stem}_mask"


def touch(folder: Path, *names: str) -> list[Path]:
    """Empty files; pairing looks at names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def paired(images: list[Path], mask_folder: Path, pattern: str = PATTERN) -> dict[str, str]:
    pairs = pair_masks(images, mask_folder, pattern)
    return {image.name: mask.path.name for image, mask in pairs.items()}


@pytest.mark.parametrize(
    ("pattern", "mask"),
    [
        ("{stem}_mask", "7_mask.png"),
        ("{stem}_mask", "7_mask.BMP"),
        ("{stem}_mask", "7.png"),  # the name of the image
        ("label-{stem}", "label-7.tif"),
        ("{stem}{x}", "7{x}.png"),
    ],
)
def test_a_mask_is_found_by_its_name(pattern: str, mask: str, tmp_path):
    touch(tmp_path / "masks", mask)
    images = touch(tmp_path, "7.jpg", "07.jpg", "77.jpg")
    assert paired(images, tmp_path / "masks", pattern) == {"7.jpg": mask}


def test_no_folder_of_masks_means_no_masks(tmp_path):
    assert pair_masks(touch(tmp_path, "a.png"), tmp_path / "masks", PATTERN) == {}


def test_an_accent_may_be_one_character_or_two(tmp_path):
    one, two = unicodedata.normalize("NFC", "größe_é"), unicodedata.normalize("NFD", "größe_é")
    assert one != two
    touch(tmp_path / "masks", f"{two}_mask.png")
    assert paired(touch(tmp_path, f"{one}.png"), tmp_path / "masks") == {f"{one}.png": f"{two}_mask.png"}


def test_a_mask_belongs_to_one_image(tmp_path):
    """The image a_mask has the name of a's mask, which belongs to a."""
    touch(tmp_path / "masks", "a_mask.png")
    assert paired(touch(tmp_path, "a_mask.png", "a.png"), tmp_path / "masks") == {"a.png": "a_mask.png"}


STEMS = st.sets(st.sampled_from(["a", "b", "a_mask", "a_mask_mask", "b_mask", "c"]))


@given(images=STEMS, masks=STEMS, order=st.randoms(use_true_random=False))
def test_pairing_depends_on_names_only(images: set[str], masks: set[str], order, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "masks").mkdir()
    touch(folder / "masks", *(f"{stem}.png" for stem in masks))
    paths = touch(folder, *(f"{stem}.jpg" for stem in sorted(images)))
    order.shuffle(paths)
    expected = {stem: f"{stem}_mask" for stem in images if f"{stem}_mask" in masks}
    expected |= {stem: stem for stem in images & masks if stem not in expected and stem not in expected.values()}
    orphans = masks - set(expected.values())
    if orphans:
        with pytest.raises(UserError) as caught:
            pair_masks(paths, folder / "masks", PATTERN)
        assert caught.value.problem.startswith(f"{len(orphans)} of {len(masks)} masks match no image, first: ")
    else:
        assert paired(paths, folder / "masks") == {f"{i}.jpg": f"{m}.png" for i, m in expected.items()}


def test_masks_without_an_image(tmp_path):
    touch(tmp_path / "masks", "001_mask.png", "002_img.png", "003_img.png")
    images = touch(tmp_path, "003.png", "002.png", "001.png")
    problem = "2 of 3 masks match no image, first: 002_img.png (images are named like 001.png)"
    remedy = 'rename them to STEM_mask, or --set data.mask_pattern="{stem}_label" if they are named so'
    with mistake(problem, tmp_path / "masks", remedy):
        pair_masks(images, tmp_path / "masks", PATTERN)
    with mistake("1 of 1 masks match no image, first: a.png (images are named like none)", tmp_path / "one", "rename"):
        pair_masks([], touch(tmp_path / "one", "a.png")[0].parent, PATTERN)


def test_two_masks_for_one_image(tmp_path):
    touch(tmp_path / "masks", "1_mask.bmp", "1_mask.png")
    problem = "1.png has 2 masks: 1_mask.bmp and 1_mask.png"
    with mistake(problem, tmp_path / "masks", "remove one of them"):
        pair_masks(touch(tmp_path, "1.png"), tmp_path / "masks", PATTERN)


def test_two_images_for_one_mask(tmp_path):
    touch(tmp_path / "masks", "1_mask.png")
    problem = "1_mask.png is the mask of two images: 1.jpg and 1.png"
    with mistake(problem, tmp_path / "masks", "rename one of the images and give it a mask of its own"):
        pair_masks(touch(tmp_path, "1.png", "1.jpg"), tmp_path / "masks", PATTERN)


def test_masks_lie_in_the_same_sub_folders_as_their_images(tmp_path):
    touch(tmp_path, "bad/1.png", "bad/hole/1.png", "bad/hole/deep/2.png", "masks/hole/1_mask.png")
    mask = MaskFile(tmp_path / "masks" / "hole" / "1_mask.png")
    found = images_with_masks(tmp_path / "bad", tmp_path / "masks", PATTERN)
    assert [(key_of(path, tmp_path), truth) for path, truth in found.images] == [
        ("bad/1.png", None),
        ("bad/hole/1.png", mask),
        ("bad/hole/deep/2.png", None),
    ]
    without = images_with_masks(tmp_path / "bad", None, PATTERN)
    assert without.images == tuple((path, None) for path, _ in found.images)


def test_a_folder_of_masks_without_a_folder_of_images(tmp_path):
    write_image(tmp_path / "bad" / "1.png", noise(0))
    touch(tmp_path / "masks" / "holes", "1_mask.png", "2_mask.png")
    problem, remedy = "masks without images, first: 1_mask.png", f"there is no folder {tmp_path / 'bad' / 'holes'}"
    with mistake(problem, tmp_path / "masks" / "holes", remedy):
        images_with_masks(tmp_path / "bad", tmp_path / "masks", PATTERN)

"""Further images for stage 1: where they come from, and which are left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from flawmap.data.checks import CheckedData, check_leak, check_training_data
from flawmap.data.open_data import find_all_test_data, open_training_data
from flawmap.data.pool import Pool, read_pool, read_pool_for
from flawmap.data.sample import NormalImage
from flawmap.data.split import split_normals
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings, PretrainSettings, Recipe
from images import pixels_of, striped, write_image


@pytest.fixture
def root(mvtec_folder: Path) -> Path:
    """A folder of three categories: tile (24 images), carpet (3) and zipper (2), with test images of their own."""
    root = mvtec_folder.parent
    for name, first, count in (("carpet", 500, 3), ("zipper", 600, 2)):
        for number in range(count):
            write_image(root / name / "train" / "good" / f"{number:03d}.png", striped(first + number))
        write_image(root / name / "test" / "good" / "000.png", striped(first + 50))
        write_image(root / name / "test" / "hole" / "000.png", striped(first + 60))
    (root / "notes").mkdir()
    return root


@pytest.fixture
def own(root: Path) -> CheckedData:
    return check_training_data(open_training_data(root / "tile", DataSettings()), "calibration.folds=0")


def pooling(location: Path | str, **changes: object) -> Recipe:
    data = replace(DataSettings(pretrain_on=str(location)), **changes)  # pyright: ignore[reportArgumentType]
    return Recipe(data=data, pretrain=PretrainSettings(enabled=True))


def keys_of(pool: Pool) -> list[str]:
    assert [image.key for image in pool.images] == [fact.key for fact in pool.facts]
    assert [image.path for image in pool.images] == [fact.path for fact in pool.facts]
    return [image.key for image in pool.images]


def test_a_folder_of_categories_adds_the_training_images_of_the_others(root: Path, own: CheckedData):
    pool = read_pool(pooling(root), own.facts)
    assert keys_of(pool) == [
        "carpet/train/good/000.png",
        "carpet/train/good/001.png",
        "carpet/train/good/002.png",
        "zipper/train/good/000.png",
        "zipper/train/good/001.png",
    ]
    assert (pool.num_locations, pool.num_left_out) == (3, 24)  # tile is in the folder, too, and adds nothing
    assert pool.words == ("5 further good images for stage 1, from 3 locations; 24 left out as duplicates")


def test_a_pool_may_have_any_layout(root: Path, own: CheckedData):
    assert keys_of(read_pool(pooling(root / "zipper"), own.facts)) == [
        "zipper/train/good/000.png",
        "zipper/train/good/001.png",
    ]
    plain = read_pool(pooling(root / "carpet" / "train" / "good"), own.facts)
    assert keys_of(plain) == ["good/000.png", "good/001.png", "good/002.png"]
    assert plain.words == "3 further good images for stage 1, from 1 location"
    listing = ["image,split,label", "train/good/000.png,train,0", "train/good/001.png,train,0"]
    (root / "carpet" / "manifest.csv").write_text("\n".join([*listing, "test/good/000.png,test,0"]))
    listed = read_pool(pooling(root / "carpet" / "manifest.csv"), own.facts)
    assert keys_of(listed) == ["carpet/train/good/000.png", "carpet/train/good/001.png"]


def test_the_categorys_own_images_are_left_out_by_content(root: Path, own: CheckedData):
    _, held_out = split_normals(own.data.images, 0.1, seed=0)
    assert len(held_out) == 2
    for number, image in enumerate(held_out):
        write_image(root / "zipper" / "train" / "good" / f"other-{number}.bmp", pixels_of(image.path))
    pool = read_pool(pooling(root / "zipper"), own.facts)
    assert keys_of(pool) == ["zipper/train/good/000.png", "zipper/train/good/001.png"] and pool.num_left_out == 2
    assert not {fact.pixels_sha256 for fact in pool.facts} & {fact.pixels_sha256 for fact in own.facts}


def test_duplicates_in_the_pool_count_once(root: Path, own: CheckedData):
    write_image(root / "zipper" / "train" / "good" / "again.png", striped(500))  # the first of carpet
    pool = read_pool(pooling(root), own.facts)
    assert len(pool.images) == 5 and pool.num_left_out == 25


def test_without_the_setting_or_without_stage_1_there_is_no_pool(root: Path, own: CheckedData):
    recipe = pooling(root / "nowhere")
    off = replace(recipe, pretrain=replace(recipe.pretrain, enabled=False))
    assert read_pool(Recipe(), own.facts) == read_pool(off, own.facts) == Pool()
    missing = [NormalImage("a.png", root / "a.png")]
    assert read_pool_for(missing, Recipe()) == read_pool_for(missing, off) == Pool()  # nothing is read


def test_a_pool_for_images_that_have_not_been_checked(root: Path, own: CheckedData):
    assert read_pool_for(own.data.images, pooling(root)) == read_pool(pooling(root), own.facts)


def test_a_subset_limits_each_category_and_named_folders_do_not_apply(root: Path, own: CheckedData):
    limited = read_pool(pooling(root, train_subset=2), own.facts)
    assert keys_of(limited) == [
        "carpet/train/good/000.png",
        "carpet/train/good/002.png",
        "zipper/train/good/000.png",
        "zipper/train/good/001.png",
    ]
    assert len(read_pool(pooling(root, normal="OK"), own.facts).images) == 5


def test_an_unreadable_file_is_an_error_or_skipped(root: Path, own: CheckedData):
    (root / "carpet" / "train" / "good" / "bad.png").write_bytes(b"\x89PNG")
    (root / "carpet" / "test" / "good" / "bad.png").write_bytes(b"\x89PNG")  # it is not read
    with pytest.raises(UserError, match=r"1 file cannot be decoded: train/good/bad\.png") as caught:
        read_pool(pooling(root), own.facts)
    assert caught.value.place == str(root / "carpet") and "--skip-unreadable" in caught.value.remedy
    pool = read_pool(pooling(root), own.facts, skip_unreadable=True)
    assert len(pool.images) == 5 and [file.key for file in pool.skipped] == ["carpet/train/good/bad.png"]


def test_a_wrong_location(root: Path, own: CheckedData):
    remedy = "--set data.pretrain_on=LOCATION: a data location, or a folder of several in MVTec AD layout"
    for location, problem in (
        (root / "ziper", "data.pretrain_on: no such folder"),
        (root / "notes", "data.pretrain_on: no images here"),
    ):
        with pytest.raises(UserError) as caught:
            read_pool(pooling(location), own.facts)
        assert caught.value.problem.startswith(problem) and caught.value.remedy == remedy
        assert caught.value.place in ("data.pretrain_on", str(location))
    with pytest.raises(UserError, match="zipper exists"):
        read_pool(pooling(root / "ziper"), own.facts)


def test_a_damaged_manifest(root: Path, own: CheckedData):
    (root / "carpet" / "manifest.csv").write_text("picture,split,label\n")
    for location in (root / "carpet", root / "carpet" / "manifest.csv"):
        with pytest.raises(UserError, match=r"data\.pretrain_on: the manifest lacks the column 'image'") as caught:
            read_pool(pooling(location), own.facts)
        assert "let its first line be image,split,label" in caught.value.remedy


def test_a_pool_without_new_images_is_an_error(root: Path, own: CheckedData):
    with pytest.raises(UserError) as caught:
        read_pool(pooling(root / "tile"), own.facts)
    assert caught.value.problem == "data.pretrain_on adds no image: all 24 there are the category's own"
    assert caught.value.place == str(root / "tile") and "--set data.pretrain_on=null" in caught.value.remedy


def test_a_test_image_in_the_pool_is_a_leak(root: Path, own: CheckedData):
    pool = read_pool(pooling(root), own.facts)
    tile = root / "tile"
    tests = find_all_test_data(tile, DataSettings())
    assert check_leak(own, tests, further=pool.facts) == check_leak(own, tests)
    write_image(root / "zipper" / "train" / "good" / "leak.bmp", pixels_of(tile / "test" / "good" / "003.png"))
    leaking = read_pool(pooling(root), own.facts)
    with pytest.raises(UserError, match=r"test/good/003\.png is also in training as zipper/train/good/leak\.bmp"):
        check_leak(own, tests, further=leaking.facts)

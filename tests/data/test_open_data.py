"""The layout of a data location, how many images are used, and errors."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assertions import mistake
from flawmap.data.open_data import (
    evenly_spaced,
    find_all_test_data,
    load_images,
    open_test_data,
    open_training_data,
)
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from images import noise, write_image, write_noise

DEFAULT = DataSettings()


def write_manifest(folder: Path, *rows: str, name: str = "manifest.csv") -> Path:
    (folder / name).write_text("\n".join(("image,split,label,boxes", *rows)) + "\n", encoding="utf-8")
    return folder / name


# ---- layouts


def test_a_plain_folder(good_folder: Path):
    data = open_training_data(good_folder, DEFAULT)
    assert (data.name, data.root, data.layout) == ("parts", good_folder, "plain folder of good images")
    assert [image.key for image in data.images] == [f"{number:03d}.png" for number in range(24)]
    assert data.skipped == ()
    assert find_all_test_data(good_folder, DEFAULT) is None
    assert load_images(str(good_folder)) == open_training_data(str(good_folder), DEFAULT)


def test_an_mvtec_folder(mvtec_folder: Path):
    training, test = open_training_data(mvtec_folder, DEFAULT), open_test_data(mvtec_folder, DEFAULT)
    assert (training.name, training.layout) == ("tile", "MVTec AD (train/good, test/KIND)")
    assert len(training.images) == 24
    assert (test.name, test.root, test.layout) == ("tile", mvtec_folder, training.layout)
    assert [sample.is_anomalous for sample in test.samples] == [False] * 6 + [True] * 6
    assert test.protocol.pixel_pool == "all"
    assert find_all_test_data(mvtec_folder, DEFAULT) is not None


def test_a_manifest_or_its_folder(tmp_path: Path, monkeypatch):
    write_noise(tmp_path / "xray" / "images", range(3))
    file = write_manifest(tmp_path / "xray", "images/000.png,train,0,", 'images/001.png,test,1,"[[0,0,9,9]]"')
    other = write_manifest(tmp_path / "xray", "images/002.png,train,0,", name="other.CSV")
    for location in (file, file.parent):
        training, test = open_training_data(location, DEFAULT), open_test_data(location, DEFAULT)
        assert (training.name, training.root, training.layout) == ("xray", file.parent, "CSV manifest")
        assert [image.key for image in training.images] == ["images/000.png"]
        assert [sample.key for sample in test.samples] == ["images/001.png"]
        assert (test.protocol.pixel_pool, test.protocol.name) == ("truth_only", "xray")
        assert find_all_test_data(location, DEFAULT) is not None
    assert [image.key for image in open_training_data(other, DEFAULT).images] == ["images/002.png"]
    assert find_all_test_data(other, DEFAULT) is None  # it has only training rows
    monkeypatch.chdir(tmp_path / "xray")
    assert open_training_data(".", DEFAULT).name == "xray"


def test_named_folders_take_precedence_over_mvtec(mvtec_folder: Path):
    settings = DataSettings(normal="test/good", anomalous="test/scratch", masks="ground_truth/scratch")
    assert {image.key[:9] for image in open_training_data(mvtec_folder, settings).images} == {"test/good"}
    test = open_test_data(mvtec_folder, settings)
    assert test.layout == "folders named by the recipe"
    assert sum(sample.truth is not None for sample in test.samples) == 6
    assert find_all_test_data(mvtec_folder, settings) is not None


def test_an_empty_test_folder_is_not_test_data(mvtec_folder: Path):
    shutil.rmtree(mvtec_folder / "ground_truth")
    shutil.rmtree(mvtec_folder / "test")
    assert find_all_test_data(mvtec_folder, DEFAULT) is None
    (mvtec_folder / "test" / "good").mkdir(parents=True)
    assert find_all_test_data(mvtec_folder, DEFAULT) is None
    with mistake("there are no labelled test images", mvtec_folder, "add test/good and test/KIND folders"):
        open_test_data(mvtec_folder, DEFAULT)


def test_test_images_next_to_a_plain_folder_of_good_images(good_folder: Path, mvtec_folder: Path):
    for name in ("test", "ground_truth"):
        shutil.move(mvtec_folder / name, good_folder / name)
    assert len(open_training_data(good_folder, DEFAULT).images) == 24
    test = open_test_data(good_folder, DEFAULT)
    assert (len(test.samples), test.protocol.pixel_pool) == (12, "all")


def test_test_folders_alone_are_mvtec_ad(mvtec_folder: Path):
    shutil.rmtree(mvtec_folder / "train")
    assert open_test_data(mvtec_folder, DEFAULT).layout == "MVTec AD (train/good, test/KIND)"
    with pytest.raises(UserError, match="no good image to train") as caught:
        open_training_data(mvtec_folder, DEFAULT)
    assert caught.value.place == str(mvtec_folder) and "fill train/good" in caught.value.remedy


# ---- how many images are used


def images(number: int) -> list[NormalImage]:
    return [NormalImage(f"{i:04d}", Path(f"{i:04d}")) for i in range(number)]


@given(number=st.integers(0, 60), count=st.none() | st.integers(1, 70), order=st.randoms(use_true_random=False))
def test_evenly_spaced_images_do_not_depend_on_order_and_leave_no_gaps(number, count, order):
    everything = images(number)
    shuffled = list(everything)
    order.shuffle(shuffled)
    chosen = evenly_spaced(shuffled, count)
    assert chosen == evenly_spaced(everything, count)
    assert len(chosen) == (number if count is None else min(number, count))
    indices = [int(image.key) for image in chosen]
    assert indices == sorted(set(indices))
    if count is not None and 0 < count <= number:
        gaps = [b - a for a, b in pairwise(indices)]
        assert all(gap in (number // count, -(-number // count)) for gap in gaps)
        before, after = indices[0], number - 1 - indices[-1]
        assert abs(before - after) <= 1 and before <= number / count / 2  # the middle of equal parts


def test_five_of_twelve_are_the_middles_of_five_equal_parts():
    assert [image.key for image in evenly_spaced(images(12), 5)] == ["0001", "0003", "0006", "0008", "0010"]


def test_subsets_of_training_and_test(mvtec_folder: Path):
    settings = DataSettings(train_subset=4, test_subset=2)
    keys = [image.key for image in open_training_data(mvtec_folder, settings).images]
    assert keys == [f"train/good/{number:03d}.png" for number in (3, 9, 15, 21)]
    keys = [sample.key for sample in open_test_data(mvtec_folder, settings).samples]
    assert keys == [f"test/{kind}/{number:03d}.png" for kind in ("good", "scratch") for number in (1, 4)]


# ---- errors


def test_a_wrong_path_suggests_the_most_similar_one(tmp_path: Path, monkeypatch):
    (tmp_path / "parts").mkdir()
    monkeypatch.chdir(tmp_path)
    problem = f"no such folder: {tmp_path / 'part'}  (you are in {tmp_path}; {tmp_path / 'parts'} exists)"
    for read in (open_training_data, open_test_data, find_all_test_data):
        with mistake(problem, "", f"flawmap check {tmp_path / 'parts'}"):
            read(tmp_path / "part", DEFAULT)
    problem = f"no such file: nowhere/x.csv  (you are in {tmp_path})"
    with mistake(problem, "", "give a folder of good images, a manifest.csv, or elpv"):
        open_training_data("nowhere/x.csv", DEFAULT)


def test_a_single_image_is_not_a_data_location(good_folder: Path):
    problem = "a data location is a folder or a .csv manifest"
    with mistake(problem, good_folder / "000.png", f"give its folder: {good_folder}"):
        open_training_data(good_folder / "000.png", DEFAULT)


def test_a_folder_without_images(tmp_path: Path):
    write_image(tmp_path / "a" / ".hidden.png", noise(0))
    (tmp_path / "notes.txt").write_text("nothing")
    give = "give a folder with images (PNG, JPEG, "
    with mistake("no images here (folders a; 2 left out (1 hidden file, 1 .txt))", tmp_path, give):
        open_training_data(tmp_path, DEFAULT)
    with mistake("no images here (no folders; 1 left out (1 hidden file))", tmp_path / "a", give):
        open_training_data(tmp_path / "a", DEFAULT)
    with mistake("no images in a", tmp_path, give):
        open_training_data(tmp_path, DataSettings(normal="a"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "good.zip").write_bytes(b"PK\3\4")
    unpack = "unpack good.zip, and give the folder that it makes"
    with mistake("no images here (no folders; 1 left out (1 zip archive))", tmp_path / "b", unpack):
        open_training_data(tmp_path / "b", DEFAULT)


def test_a_folder_of_several_data_sets(tmp_path: Path):
    for name in ("bottle", "cable"):
        write_image(tmp_path / "mvtec" / name / "train" / "good" / "1.png", noise(0))
    remedy = f"each of them gets a model of its own: flawmap train {tmp_path / 'mvtec' / 'bottle'}"
    with mistake("mvtec/ holds 2 data sets: bottle, cable", tmp_path / "mvtec", remedy):
        open_training_data(tmp_path / "mvtec", DEFAULT)


def test_a_list_without_good_images_to_train(tmp_path: Path):
    write_noise(tmp_path, range(3))
    rows = "".join(f"{number:03d}.png,test,0\n" for number in range(3))
    (tmp_path / "manifest.csv").write_text(f"image,split,label\n{rows}")
    with pytest.raises(UserError, match="no row of the manifest has split train") as caught:
        open_training_data(tmp_path, DEFAULT)
    assert "the good images to learn from to train" in caught.value.remedy


# ---- several locations


def test_several_locations_are_one_data_set_with_unique_keys(tmp_path: Path):
    days = [tmp_path / place / "day 1" for place in "ab"] + [tmp_path / "day 2"]
    for seed, day in enumerate(days):
        write_image(day / "1.png", noise(seed))
        write_image(day / "lot 7" / "1.png", noise(10 + seed))
    (days[1] / "notes.txt").write_text("text")
    data = open_training_data(days, DEFAULT)
    assert (data.name, data.root, data.layout) == ("day 1-and-2-more", tmp_path, "plain folder of good images")
    prefixes = ("day 1/", "day 1-2/", "day 2/")
    assert [image.key for image in data.images] == sorted(
        f"{prefix}{name}" for prefix in prefixes for name in ("1.png", "lot 7/1.png")
    )
    assert {image.key: image.path for image in data.images}["day 1-2/1.png"] == days[1] / "1.png"
    assert [item.path for item in data.left_out] == [days[1] / "notes.txt"]
    assert load_images(days) == data
    subset = open_training_data(days, DataSettings(train_subset=2))
    assert len(subset.images) == 2 and len(subset.unused) == 4
    assert open_training_data([days[0]], DEFAULT) == open_training_data(days[0], DEFAULT)


def test_a_name_that_looks_like_a_number_of_another_stays_unique(tmp_path: Path):
    places = [tmp_path / "x" / "a", tmp_path / "y" / "a", tmp_path / "a-2"]
    for seed, place in enumerate(places):
        write_image(place / "1.png", noise(seed))
    assert len({image.key for image in open_training_data(places, DEFAULT).images}) == 3


def test_groups_go_across_locations(tmp_path: Path):
    for seed, day in enumerate(("day 1", "day 2")):
        write_noise(tmp_path / day, range(2 * seed, 2 * seed + 2))
        rows = [f"{number:03d}.png,train,0,P{number % 2}" for number in range(2 * seed, 2 * seed + 2)]
        (tmp_path / day / "manifest.csv").write_text("\n".join(["image,split,label,patient", *rows]))
    data = open_training_data([tmp_path / "day 1", tmp_path / "day 2"], DEFAULT)
    assert [(image.key, image.group) for image in data.images] == [
        ("day 1/000.png", "P0"),
        ("day 1/001.png", "P1"),
        ("day 2/002.png", "P0"),
        ("day 2/003.png", "P1"),
    ]
    assert data.grouped_by == "patient"


def test_tests_of_several_locations_are_joined(mvtec_folder: Path, good_folder: Path, tmp_path: Path):
    other = tmp_path / "other" / "tile"
    shutil.copytree(mvtec_folder, other)
    test = open_test_data([mvtec_folder, other], DEFAULT)
    assert (len(test.samples), test.protocol.name, test.protocol.pixel_pool) == (24, "tile-and-1-more", "all")
    assert len({sample.key for sample in test.samples}) == 24
    every = find_all_test_data([mvtec_folder, good_folder], DEFAULT)
    assert every is not None and len(every.samples) == 12 and every.samples[0].key.startswith("tile/test/")
    with mistake("there are no labelled test images", good_folder, "add test/good and test/KIND folders"):
        open_test_data([mvtec_folder, good_folder], DEFAULT)
    shutil.rmtree(other / "ground_truth")
    problem = "these data sets count pixels differently: some have masks or boxes, others have none"
    with mistake(problem, tmp_path, "evaluate them one by one"):
        open_test_data([mvtec_folder, other], DEFAULT)


def test_unread_tests_are_not_lost_where_no_test_image_is_left(mvtec_folder: Path):
    for path in (mvtec_folder / "test").rglob("*.png"):
        path.with_suffix(".gif").write_bytes(b"GIF89a")
        path.unlink()
    shutil.rmtree(mvtec_folder / "ground_truth")
    test = find_all_test_data(mvtec_folder, DEFAULT)
    assert test is not None and test.samples == ()
    assert [item.kind for item in test.left_out] == [".gif"] * 12

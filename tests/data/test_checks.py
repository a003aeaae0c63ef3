"""Errors in files that are found before training or scoring, without changing a file."""

import hashlib
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import mistake
from flawmap.data.checks import (
    CheckedData,
    check_good_images,
    check_leak,
    check_test_data,
    check_training_data,
)
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.truth import read_truth
from flawmap.data.open_data import find_all_test_data, open_test_data, open_training_data
from flawmap.data.sample import FileRemark, SkippedFile
from flawmap.recipe.settings import DataSettings
from images import noise, truncate, write_image, write_noise
from opened_files import OPENED

DEFAULT = DataSettings()
NAMED = DataSettings(normal="OK", anomalous="NG")
SKIP_HINT = "or --skip-unreadable"
FOLDERS = ("train", "test", "ground_truth")
LEAK_HINT = "remove one copy; scores would be meaningless"


def check(
    location: Path,
    settings: DataSettings = DEFAULT,
    no_threshold: str | None = "calibration.folds=0",
    skip: bool = False,
):
    return check_training_data(open_training_data(location, settings), no_threshold, skip)


def check_tests(location: Path, settings: DataSettings = DEFAULT, skip: bool = False):
    return check_test_data(open_test_data(location, settings), skip)


def find_leak(checked: CheckedData, location: Path, settings: DataSettings = DEFAULT, skip: bool = False):
    return check_leak(checked, find_all_test_data(location, settings), skip)


# ---- sound data


def test_sound_images_are_described_in_order(good_folder: Path):
    checked = check(good_folder)
    assert checked.data == open_training_data(good_folder, DEFAULT)
    assert [fact.key for fact in checked.facts] == [image.key for image in checked.data.images]
    first = checked.facts[0]
    assert first.path == good_folder / "000.png" and (first.width_px, first.height_px) == (48, 48)
    assert first.sha256 == hashlib.sha256((good_folder / "000.png").read_bytes()).hexdigest()
    assert [image.sha256 for image in checked.data.images] == [fact.sha256 for fact in checked.facts]
    assert len({fact.pixels_sha256 for fact in checked.facts}) == 24
    assert checked.duplicates == {}


def test_sizes_are_those_of_the_upright_image(good_folder: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(good_folder / "000.png", noise(0, 30, 20), exif=exif)
    assert (check(good_folder).facts[0].width_px, check(good_folder).facts[0].height_px) == (30, 20)


def test_copies_are_left_out_by_their_pixels_not_their_bytes(good_folder: Path):
    with Image.open(good_folder / "003.png") as image:
        image.save(good_folder / "copy.bmp")
    shutil.copy(good_folder / "003.png", good_folder / "copy.png")
    for shape in ((4, 6), (6, 4)):  # the same bytes, but not the same image
        write_image(good_folder / f"black {shape}.png", np.zeros(shape, np.uint8))
    checked = check(good_folder)
    assert len(checked.duplicates) == 2 and len(checked.facts) == len(checked.data.images) == 26
    assert [fact.key for fact in checked.facts] == [image.key for image in checked.data.images]
    assert "003.png" in {fact.key for fact in checked.facts}  # the first by name is kept
    assert not {"copy.bmp", "copy.png"} & {fact.key for fact in checked.facts}


def test_no_file_is_touched(mvtec_folder: Path):
    truncate(mvtec_folder / "train" / "good" / "000.png")
    (mvtec_folder / "test" / "scratch" / "001.png").write_bytes(b"")

    def state() -> dict[str, tuple[str, int, int]]:
        files = [path for path in sorted(mvtec_folder.rglob("*")) if path.is_file()]
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        facts = [path.stat() for path in files]
        return {str(p): (h, f.st_mtime_ns, f.st_mode) for p, h, f in zip(files, hashes, facts, strict=True)}

    before, folders = state(), sorted(mvtec_folder.rglob("*"))
    checked = check(mvtec_folder, skip=True)
    find_leak(checked, mvtec_folder, DEFAULT, skip=True)
    for sample in check_tests(mvtec_folder, skip=True).samples:
        read_truth(sample, 48, 48)
    assert state() == before and sorted(mvtec_folder.rglob("*")) == folders


# ---- unreadable files


def spoil(folder: Path) -> None:
    truncate(folder / "001.png")
    (folder / "002.png").write_bytes(b"")
    (folder / "003.png").write_text("text")


def test_all_unreadable_training_files_are_listed(good_folder: Path):
    spoil(good_folder)
    size = (good_folder / "001.png").stat().st_size
    problem = (
        f"3 files cannot be decoded: 001.png (the image cannot be decoded: truncated (file of {size:,} bytes)), "
        "002.png (the file is empty (0 bytes)), 003.png (not an image "
        "(PNG, JPEG, BMP, TIFF, WebP, PGM/PPM, DICOM are read))"
    )
    with mistake(problem, good_folder, SKIP_HINT):
        check(good_folder)


def test_at_most_five_unreadable_files_are_shown(good_folder: Path):
    for number in range(7):
        (good_folder / f"{number:03d}.png").write_bytes(b"")
    listed = ", ".join(f"{number:03d}.png (the file is empty (0 bytes))" for number in range(5))
    with mistake(f"7 files cannot be decoded: {listed} and 2 more", good_folder, SKIP_HINT):
        check(good_folder)


def test_a_broken_link_is_one_unreadable_file(good_folder: Path):
    os.symlink(good_folder / "nowhere.png", good_folder / "link.png")
    problem = "1 file cannot be decoded: link.png (the file cannot be read: No such file or directory)"
    with mistake(problem, good_folder, SKIP_HINT):
        check(good_folder)


def test_unreadable_training_files_can_be_left_out_and_are_listed(good_folder: Path):
    spoil(good_folder)
    checked = check(good_folder, skip=True)
    assert [file.key for file in checked.data.skipped] == ["001.png", "002.png", "003.png"]
    assert checked.data.skipped[1] == SkippedFile("002.png", "the file is empty (0 bytes)")
    keys = [image.key for image in checked.data.images]
    assert keys == [fact.key for fact in checked.facts] and len(keys) == 21


def test_unreadable_test_files_are_found_before_training_too(mvtec_folder: Path):
    (mvtec_folder / "test" / "scratch" / "004.png").write_bytes(b"")
    problem = "1 file cannot be decoded: test/scratch/004.png (the file is empty (0 bytes))"
    skipped = (SkippedFile("test/scratch/004.png", "the file is empty (0 bytes)"),)
    checked = check(mvtec_folder)
    with mistake(problem, mvtec_folder, SKIP_HINT):
        find_leak(checked, mvtec_folder, DEFAULT)
    with mistake(problem, mvtec_folder, SKIP_HINT):
        check_tests(mvtec_folder)
    leak, data = (
        find_leak(checked, mvtec_folder, DEFAULT, skip=True),
        check_tests(mvtec_folder, skip=True),
    )
    assert leak is not None and (leak.num_compared, leak.skipped) == (11, skipped)
    assert data.skipped == skipped and len(data.samples) == 11


def test_an_unreadable_mask_makes_its_image_unreadable(mvtec_folder: Path):
    truncate(mvtec_folder / "ground_truth" / "scratch" / "002_mask.png")
    size = (mvtec_folder / "ground_truth" / "scratch" / "002_mask.png").stat().st_size
    reason = f"its mask 002_mask.png: the image cannot be decoded: truncated (file of {size:,} bytes)"
    problem = f"1 file cannot be decoded: test/scratch/002.png ({reason})"
    with mistake(problem, mvtec_folder, SKIP_HINT):
        check_tests(mvtec_folder)
    with mistake(problem, mvtec_folder, SKIP_HINT):
        find_leak(check(mvtec_folder), mvtec_folder, DEFAULT)
    data = check_tests(mvtec_folder, skip=True)
    assert data.skipped == (SkippedFile("test/scratch/002.png", reason),) and len(data.samples) == 11


@pytest.mark.parametrize("skip", [False, True])
def test_a_mask_of_another_size_is_found_before_scoring(skip: bool, mvtec_folder: Path):
    mask = write_image(mvtec_folder / "ground_truth" / "scratch" / "003_mask.png", np.ones((24, 30), np.uint8))
    problem = "the mask is 30 x 24 px, its image 48 x 48 px"
    with mistake(problem, mask, "save the mask at the size of its image"):
        check_tests(mvtec_folder, skip=skip)


def test_a_test_set_without_a_readable_image_is_refused(mvtec_folder: Path):
    for path in (mvtec_folder / "test").rglob("*.png"):
        path.write_bytes(b"")
    with mistake("no test image can be read", mvtec_folder, "copy the images again"):
        check_tests(mvtec_folder, skip=True)


# ---- remarks


def test_a_remark_on_a_mask_names_the_mask_in_the_check_and_before_an_evaluation(mvtec_folder: Path):
    write_image(mvtec_folder / "ground_truth" / "scratch" / "003_mask.png", np.full((48, 48), 255, np.uint8))
    remark = FileRemark("ground_truth/scratch/003_mask.png", "every pixel is anomalous; in a mask, black is background")
    assert check_tests(mvtec_folder).remarks == (remark,)
    leak = find_leak(check(mvtec_folder), mvtec_folder, DEFAULT)
    assert leak is not None and leak.remarks == (remark,)


def test_a_mask_without_exif_beside_a_turned_image_is_remarked(mvtec_folder: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(mvtec_folder / "test" / "scratch" / "003.png", noise(3, 48, 48), exif=exif)
    (remark,) = check_tests(mvtec_folder).remarks
    assert remark.key == "ground_truth/scratch/003_mask.png"
    assert remark.text.startswith("the image has EXIF orientation 6 and the mask has none")


def manifest_of_boxes(folder: Path, boxes: list[str]) -> Path:
    """Anomalous images of 48 x 48 px in a manifest, each with the boxes of a row."""
    rows = []
    for number, text in enumerate(boxes):
        write_image(folder / f"{number}.png", noise(number, 48, 48))
        rows.append(f'{number}.png,test,1,"{text}"')
    (folder / "manifest.csv").write_text("\n".join(["image,split,label,boxes", *rows]), encoding="utf-8")
    return folder


def test_boxes_that_look_like_corners_in_all_images_are_remarked_in_all(tmp_path: Path):
    data = manifest_of_boxes(tmp_path, ["[[30, 20, 40, 44]]", "[[3, 4, 10, 12]]", "[[1, 1, 4, 4], [5, 5, 46, 46]]"])
    remarks = check_tests(data).remarks
    of_all = [remark for remark in remarks if "those of 2 of 3 images leave their image" in remark.text]
    assert [remark.key for remark in of_all] == ["0.png", "1.png", "2.png"] and len({r.text for r in of_all}) == 1
    assert [remark.key for remark in remarks if remark not in of_all] == ["0.png", "2.png"]


def test_boxes_that_cannot_be_corners_in_one_image_are_remarked_where_they_leave(tmp_path: Path):
    data = manifest_of_boxes(tmp_path, ["[[30, 20, 40, 44]]", "[[30, 30, 10, 12]]"])
    assert [remark.key for remark in check_tests(data).remarks] == ["0.png"]
    sound = manifest_of_boxes(tmp_path / "sound", ["[[10, 10, 20, 20]]", "[[30, 30, 10, 12]]"])
    assert check_tests(sound).remarks == ()


# ---- how many


@pytest.mark.parametrize("number", [1, 2, 19])
def test_too_few_images(number: int, tmp_path: Path):
    write_noise(tmp_path / "few", range(number))
    noun = "image" if number == 1 else "images"
    problem = f"{number} good {noun}; at least 20 are needed to set a threshold"
    remedy = "add images" if number == 1 else "--set calibration.folds=0 and calibrate later"
    with mistake(problem, tmp_path / "few", remedy):
        check(tmp_path / "few")


def test_twenty_images_are_enough_and_two_without_a_threshold(tmp_path: Path):
    write_noise(tmp_path / "20", range(20))
    write_noise(tmp_path / "2", range(2))
    assert len(check(tmp_path / "20").facts) == 20
    assert len(check(tmp_path / "2", no_threshold=None).facts) == 2
    (tmp_path / "2" / "001.png").unlink()
    with mistake("1 good image; at least 2 are needed to train", tmp_path / "2", "add images"):
        check(tmp_path / "2", no_threshold=None)


def test_copies_do_not_make_more_images(tmp_path: Path):
    write_noise(tmp_path / "few", range(18))
    for copy in ("a", "b"):
        shutil.copy(tmp_path / "few" / "000.png", tmp_path / "few" / f"{copy}.png")
    shutil.copy(tmp_path / "few" / "001.png", tmp_path / "few" / "c.png")
    problem = "21 good images (5 identical by content); at least 20 are needed to set a threshold"
    with mistake(problem, tmp_path / "few", "add images, or --set calibration.folds=0"):
        check(tmp_path / "few")


def test_skipped_files_do_not_count(tmp_path: Path):
    write_noise(tmp_path / "few", range(22))
    spoil(tmp_path / "few")
    problem = "19 good images; at least 20 are needed to set a threshold"
    with mistake(problem, tmp_path / "few", "add images"):
        check(tmp_path / "few", skip=True)


# ---- the same content in training and test


@pytest.mark.parametrize("as_format", ["copy", "bmp", "link"])
def test_a_test_image_that_is_also_in_training(as_format: str, mvtec_folder: Path):
    source, name = mvtec_folder / "train" / "good" / "005.png", f"x.{'bmp' if as_format == 'bmp' else 'png'}"
    target = mvtec_folder / "test" / "good" / name
    if as_format == "copy":
        shutil.copy(source, target)
    elif as_format == "link":
        os.symlink(source, target)
    else:
        with Image.open(source) as image:
            image.save(target)
    problem = f"test/good/{name} is also in training as train/good/005.png (same content)"
    with mistake(problem, mvtec_folder, LEAK_HINT):
        find_leak(check(mvtec_folder), mvtec_folder, DEFAULT)


def test_leaks_are_counted_whatever_the_test_subset(mvtec_folder: Path):
    for number in range(3):
        shutil.copy(
            mvtec_folder / "train" / "good" / f"{number:03d}.png", mvtec_folder / "test" / "scratch" / f"{number}.png"
        )
    problem = "test/scratch/0.png is also in training as train/good/000.png (same content), and 2 more"
    with mistake(problem, mvtec_folder, LEAK_HINT):
        find_leak(check(mvtec_folder), mvtec_folder, DataSettings(test_subset=1))


def test_without_a_leak_all_test_images_were_compared(mvtec_folder: Path, good_folder: Path):
    leak = find_leak(check(mvtec_folder), mvtec_folder, DEFAULT)
    assert leak is not None and (leak.num_compared, leak.skipped) == (12, ())
    assert find_leak(check(good_folder), good_folder, DEFAULT) is None


def test_a_group_that_trains_cannot_be_tested(tmp_path: Path):
    write_noise(tmp_path / "images", range(30))
    rows = [f"images/{i:03d}.png,{'test' if i > 24 else 'train'},{int(i > 27)},P{i // 3}" for i in range(30)]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,split,label,patient", *rows]))
    problem = "patient 'P8' is in training and in the test: images/024.png and images/025.png"
    with mistake(problem, tmp_path, "take other groups than those of training"):
        find_leak(check(tmp_path), tmp_path)
    apart = (tmp_path / "manifest.csv").read_text().replace("024.png,train", "024.png,test")
    (tmp_path / "manifest.csv").write_text(apart)
    checked, leak = check(tmp_path), find_leak(check(tmp_path), tmp_path)
    assert leak is not None and leak.num_compared == 6
    assert [image.group for image in checked.data.images] == [f"P{i // 3}" for i in range(24)]
    tests, data = open_test_data(tmp_path, DEFAULT), "images/000.png"
    assert check_test_data(tests, trained_groups={"P7": data}).samples == tests.samples
    with mistake(f"patient 'P9' is in training and in the test: {data} and images/027.png", tmp_path, "other groups"):
        check_test_data(tests, trained_groups={"P9": data})


def test_masks_without_images_are_found_before_training(mvtec_folder: Path):
    (mvtec_folder / "test" / "scratch" / "002.png").unlink()
    problem = "1 of 6 masks match no image, first: 002_mask.png (images are named like 000.png)"
    with mistake(problem, mvtec_folder / "ground_truth" / "scratch", "rename them to STEM_mask"):
        find_leak(check(mvtec_folder), mvtec_folder, DEFAULT)


def test_the_folder_of_good_images_may_be_trained_on_but_not_be_the_test(tmp_path: Path):
    write_noise(tmp_path / "OK", range(20))
    write_noise(tmp_path / "NG", range(30, 33))
    checked = check(tmp_path, NAMED)
    leak = find_leak(checked, tmp_path, NAMED)
    assert leak is not None and leak.num_compared == 3  # the defects: the good images are the training files
    (tmp_path / "OK" / "broken.png").write_bytes(b"")
    leak = find_leak(check(tmp_path, NAMED, skip=True), tmp_path, NAMED, skip=True)
    assert leak is not None and (leak.num_compared, leak.skipped) == (
        3,
        (),
    )  # the training's check lists it
    (tmp_path / "OK" / "broken.png").unlink()
    trained = {fact.sha256: fact.key for fact in checked.facts}
    problem = "OK/000.png was trained on, and 19 more: these good images cannot be the test's"
    tests = open_test_data(tmp_path, NAMED)
    with mistake(problem, tmp_path, "--set data.normal=OTHER_FOLDER"):
        check_test_data(tests, trained=trained)
    assert check_test_data(tests, trained={"0" * 64: "other.png"}) == tests
    shutil.copy(tmp_path / "OK" / "004.png", tmp_path / "NG" / "x.png")
    with mistake("NG/x.png is also in training as OK/004.png (same content)", tmp_path, LEAK_HINT):
        find_leak(checked, tmp_path, NAMED)


def test_a_copy_among_the_good_images_is_not_a_leak(tmp_path: Path):
    write_noise(tmp_path / "OK", range(24))
    write_noise(tmp_path / "NG", range(30, 33))
    shutil.copy(tmp_path / "OK" / "004.png", tmp_path / "OK" / "copy.png")
    leak = find_leak(check(tmp_path, NAMED), tmp_path, NAMED)
    assert leak is not None and leak.num_compared == 3
    part = replace(NAMED, train_subset=22)  # the other images of the folder count as training images, too
    assert find_leak(check(tmp_path, part), tmp_path, part) == leak


def test_a_test_image_with_the_pixels_of_a_training_image_is_refused_whatever_its_format(mvtec_folder: Path):
    trained = {of: fact.key for fact in check(mvtec_folder).facts for of in (fact.sha256, fact.pixels_sha256)}
    assert check_test_data(open_test_data(mvtec_folder, DEFAULT), trained=trained)
    with Image.open(mvtec_folder / "train" / "good" / "003.png") as image:
        image.save(mvtec_folder / "test" / "good" / "again.bmp")
    with mistake(
        "test/good/again.bmp is also in training as train/good/003.png (same content)", mvtec_folder, LEAK_HINT
    ):
        check_test_data(open_test_data(mvtec_folder, DEFAULT), trained=trained)


def test_duplicates_count_once_for_a_threshold(good_folder: Path):
    for number in range(5):
        shutil.copy(good_folder / "003.png", good_folder / f"copy{number}.png")
    checked = check_good_images(open_training_data(good_folder, DEFAULT))
    assert (len(checked.data.images), len(checked.duplicates)) == (24, 5)


@pytest.mark.parametrize("name", ["ok", "Normal", "PASS"])
def test_good_test_images_under_another_name_are_not_taken_for_defects(mvtec_folder: Path, name: str):
    (mvtec_folder / "test" / "good").rename(mvtec_folder / "test" / name)
    with mistake(f"images of test/{name} would count as defects", mvtec_folder / "test" / name, "rename it to good"):
        open_test_data(mvtec_folder, DEFAULT)


def test_the_case_of_good_does_not_matter(mvtec_folder: Path):
    (mvtec_folder / "test" / "good").rename(mvtec_folder / "test" / "Good")
    samples = open_test_data(mvtec_folder, DEFAULT).samples
    of_good = [sample for sample in samples if "/Good/" in sample.key]
    assert of_good and all(not sample.is_anomalous and sample.kind == "good" for sample in of_good)


# ---- how often a file is read


def test_a_training_reads_each_image_twice_and_each_test_file_once(mvtec_folder: Path):
    OPENED.counts.clear()
    OPENED.below = str(mvtec_folder)
    try:
        checked = check(mvtec_folder)
        find_leak(checked, mvtec_folder)
        NormalPixels(checked.data.images, 28)
    finally:
        OPENED.below = None
    times = {folder: Counter(n for name, n in OPENED.counts.items() if name.startswith(folder)) for folder in FOLDERS}
    assert times == {"train": {2: 24}, "test": {1: 12}, "ground_truth": {1: 6}}  # times read: number of files

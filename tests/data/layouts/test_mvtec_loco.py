"""MVTec LOCO in miniature: which images are read, several masks of an image, and at which area defects saturate."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import explained, mistake
from flawmap.data.checks import check_test_data
from flawmap.data.images.truth import truth_of
from flawmap.data.layouts.mvtec_loco import MvtecLoco
from flawmap.data.open_data import find_layout, open_test_data, open_training_data
from flawmap.data.sample import DefectMasks, LabelledImage, Protocol, Saturation
from flawmap.recipe.settings import DataSettings
from images import noise, write_image
from loco_category import CONFIG, MISSING, SCRATCH, rectangle, write_defect, write_loco

DEFAULT = DataSettings()
LOGICAL, STRUCTURAL = "logical_anomalies", "structural_anomalies"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return write_loco(tmp_path / "box")


def sample_of(root: Path, key: str) -> LabelledImage:
    return next(sample for sample in open_test_data(root, DEFAULT).samples if sample.key == key)


def test_training_reads_train_good_alone_and_says_what_validation_is_for(box: Path):
    assert isinstance(find_layout(box), MvtecLoco)
    data = open_training_data(box, DEFAULT)
    assert [image.key for image in data.images] == [f"train/good/{number:03d}.png" for number in range(3)]
    assert data.layout == "MVTec LOCO (train/good, test/KIND, defects_config.json)" and data.left_out == ()
    (remark,) = data.remarks
    calibrate = f"flawmap calibrate RUN {box / 'validation' / 'good'}"
    assert remark.key == "validation/good"
    assert remark.text == f"2 good images that are not trained on; {calibrate} sets the threshold from them"


def test_a_category_without_validation_images_has_no_remark(box: Path):
    shutil.rmtree(box / "validation")
    assert open_training_data(box, DEFAULT).remarks == ()


def test_what_the_layout_does_not_know_is_named(box: Path):
    (box / "license.txt").write_text("CC BY-NC-SA 4.0", encoding="utf-8")
    write_image(box / "more" / "1.png", noise(30))
    write_image(box / "ground_truth" / LOGICAL / "flat.png", noise(31))
    assert [item.path.name for item in open_training_data(box, DEFAULT).left_out] == ["more", "license.txt"]
    (flat,) = open_test_data(box, DEFAULT).left_out
    assert (flat.path.name, flat.kind) == ("flat.png", "image")


def test_test_images_have_the_kind_of_their_folder_and_a_file_for_each_defect(box: Path):
    data = open_test_data(box, DEFAULT)
    assert [(s.key, s.is_anomalous, s.kind) for s in data.samples] == [
        ("test/good/005.png", False, "good"),
        ("test/good/006.png", False, "good"),
        (f"test/{LOGICAL}/000.png", True, LOGICAL),
        (f"test/{STRUCTURAL}/000.png", True, STRUCTURAL),
    ]
    saturations = {MISSING: Saturation(20.0, False), SCRATCH: Saturation(0.5, True)}
    masks = box / "ground_truth" / LOGICAL / "000"
    assert data.samples[2].truth == DefectMasks((masks / "000.png", masks / "001.png"), saturations)
    assert data.protocol == Protocol("box", saturated_overlap=True)
    assert check_test_data(data).skipped == ()


def test_defects_are_read_one_by_one_and_their_union_is_anomalous(box: Path):
    truth = truth_of(sample_of(box, f"test/{LOGICAL}/000.png"), 12, 16)
    missing, scratch = rectangle((12, 16), 0, 0, 4, 8), rectangle((12, 16), 2, 4, 4, 4)
    assert np.array_equal(truth.pixels, missing | scratch)
    assert [np.array_equal(d.pixels, p) for d, p in zip(truth.defects, (missing, scratch), strict=True)] == [True, True]
    assert [defect.saturation_px for defect in truth.defects] == [20, 8]  # 20 of 32 px, and half of 16 px
    assert truth_of(sample_of(box, "test/good/005.png"), 12, 16).defects == ()


@pytest.mark.parametrize(
    ("saturation", "defect_px", "area_px"),
    [
        (Saturation(20.0, False), 32, 20),
        (Saturation(20.0, False), 7, 7),  # a smaller defect must be found as a whole
        (Saturation(0.5, True), 9, 4),
        (Saturation(1.0, True), 9, 9),
        (Saturation(0.1, True), 3, 1),
    ],
)
def test_the_saturation_area_lies_between_one_pixel_and_the_defect(saturation, defect_px: int, area_px: int):
    assert saturation.area_px(defect_px) == area_px


def test_an_image_without_masks_counts_for_image_measures_only(box: Path):
    shutil.rmtree(box / "ground_truth" / LOGICAL / "000")
    sample = sample_of(box, f"test/{LOGICAL}/000.png")
    assert sample.truth is None and truth_of(sample, 12, 16).pixels is None


def test_two_categories_saturate_together_and_not_beside_other_data(box: Path, mvtec_folder: Path):
    other = write_loco(box.parent / "bag")
    assert open_test_data([box, other], DEFAULT).protocol.saturated_overlap
    assert not open_test_data([box, mvtec_folder], DEFAULT).protocol.saturated_overlap


def test_masks_without_an_image(box: Path):
    write_defect(box, LOGICAL, "007", 0, rectangle((12, 16), 0, 0, 2, 2), MISSING)
    problem, place = "1 folders of masks match no image, first: 007", box / "ground_truth" / LOGICAL
    with mistake(problem, place, f"add test/{LOGICAL}/007.png, or remove its masks"):
        open_test_data(box, DEFAULT)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (
            np.full((12, 16), 7, np.uint8),
            "the mask has the value 7, which is that of no kind of defect in defects_config.json",
        ),
        (np.zeros((12, 16), np.uint8), "the mask of one defect has no value above 0"),
        (
            np.repeat(np.uint8([[0] * 8 + [254] * 4 + [255] * 4]), 12, 0),
            "the mask of one defect has the values 254 and 255",
        ),
        (np.full((5, 16), 255, np.uint8), "the mask is 16 x 5 px, its image 16 x 12 px"),
    ],
)
def test_a_mask_that_is_none_of_one_defect(box: Path, pixels: np.ndarray, problem: str):
    path = write_image(box / "ground_truth" / LOGICAL / "000" / "002.png", pixels)
    error = explained(lambda: truth_of(sample_of(box, f"test/{LOGICAL}/000.png"), 12, 16))
    assert (error.problem, error.place) == (problem, str(path)) and error.remedy


def test_a_mask_in_colour_is_unreadable(box: Path):
    colour = Image.fromarray(np.full((12, 16, 3), (255, 0, 0), np.uint8))
    path = write_image(box / "ground_truth" / LOGICAL / "000" / "002.png", colour)
    with mistake("the mask of a defect has colours or fractions, not labels", path, "unpack the archive again"):
        truth_of(sample_of(box, f"test/{LOGICAL}/000.png"), 12, 16)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[", "defects_config.json is damaged"),
        ('{"pixel_value": 255}', "defects_config.json is damaged"),
        (json.dumps([{"pixel_value": 255, "relative_saturation": False}]), "KeyError('saturation_threshold')"),
        (json.dumps([CONFIG[0] | {"saturation_threshold": 0}]), "missing_part saturates at 0.0, relative: False"),
        (json.dumps([CONFIG[1] | {"saturation_threshold": 1.5}]), "scratch saturates at 1.5, relative: True"),
    ],
)
def test_a_damaged_list_of_defects(box: Path, content: str, problem: str):
    (box / "defects_config.json").write_text(content, encoding="utf-8")
    error = explained(lambda: open_test_data(box, DEFAULT))
    assert problem in error.problem and error.remedy == "unpack the archive again"
    assert error.place == str(box / "defects_config.json")

"""Remarks on images that can be trained on but will give poor results."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flawmap.data.checks import FileFacts, check_training_data
from flawmap.data.open_data import open_training_data
from flawmap.data.remarks import detail_lost, nearly_black, ungrouped_patients
from flawmap.recipe.settings import DataSettings

DEFAULT = DataSettings()
BRIGHTER = "take or export all of them brighter, in the same way"


def test_detail_is_lost_if_images_are_much_larger_than_the_model_sees():
    def facts(*sizes: tuple[int, int]) -> list[FileFacts]:
        return [FileFacts("a", Path("a"), "", "", width, height, 255) for width, height in sizes]

    assert detail_lost(facts((895, 895), (100, 895)), 224) is None
    assert detail_lost(facts((3000, 4096)), 224) == (
        "an image side of 4096 px is seen as 224 px, a defect of 10 px as 0.5 px: for small defects "
        "--set data.tiles=auto also looks at each part of an image (up to five times as slow)"
    )
    assert str(detail_lost(facts((300, 200), (3000, 4096)), 224)).startswith(
        "an image side of 4096 px (in 1 of 2 images, largest a) is seen as 224 px, "
    )
    assert str(detail_lost(facts((3000, 4096)), 224, "look closer")).endswith("for small defects look closer")


def saved(folder: Path, images: Iterable[np.ndarray], suffix: str = ".png") -> Sequence[FileFacts]:
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02d}{suffix}")
    return check_training_data(open_training_data(folder, DEFAULT), "calibration.folds=0").facts


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "brightest"), [(8, 1), (10, 4), (12, 16), (14, 64)])
def test_fewer_bits_in_16_bit_files_are_reported(tmp_path: Path, bits: int, brightest: int, suffix: str):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 32, 32)).astype(np.uint16)
    values[:, 0, 0] = 2**bits - 1
    assert nearly_black(saved(tmp_path, values, suffix)) == (
        f"most images have no pixel brighter than {brightest} of 255, so little is visible: if a camera wrote its "
        f"{bits} bits into 16-bit files (the largest value of all is {2**bits - 1:,}), multiply every value by "
        f"{2 ** (16 - bits)}, but to no more than 65535, in all images alike: those for training, for tests and for "
        "later"
    )
    assert nearly_black(saved(tmp_path, values * 2 ** (16 - bits), suffix)) is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 65535), min_size=1, max_size=9))
def test_the_factor_never_overflows_16_bits(largest: list[int]):
    facts = [facts_of(round(value / 257), value) for value in largest]
    remark = nearly_black(facts)
    factor = re.search(r"multiply every value by (\d+)", remark or "")
    if factor:
        assert max(largest) * int(factor[1]) <= 65535
        assert int(factor[1]) in (4, 16, 64, 256)
    else:
        assert remark is None or "most images are black" in remark or max(largest) >= 2**14


def test_one_bright_image_among_dark_ones_counts_for_the_factor():
    dark = [facts_of(1, 300)] * 19
    assert "multiply every value by 64," in (nearly_black([*dark, facts_of(1, 385)]) or "")
    assert "multiply every value by 4," in (nearly_black([*dark, facts_of(60, 16_000)]) or "")
    remark = nearly_black([*dark, facts_of(200, 51_400)])
    assert remark is not None and "multiply" not in remark and remark.endswith(BRIGHTER)


def test_images_of_8_bits_are_not_to_be_multiplied():
    remark = nearly_black([facts_of(40, None)] * 3)
    assert remark is not None and "multiply" not in remark and remark.endswith(BRIGHTER)
    assert "multiply" not in (nearly_black([facts_of(40, None), facts_of(16, 4000)]) or "")


def test_colours_of_12_bits_are_reported_too(tmp_path: Path):
    cv2 = pytest.importorskip("cv2")
    for number in range(20):
        colours = np.random.default_rng(number).integers(0, 4096, (8, 8, 3)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"{number}.tif"), colours)
    facts = check_training_data(open_training_data(tmp_path, DEFAULT), "calibration.folds=0").facts
    assert "multiply every value by 16," in (nearly_black(facts) or "")


def facts_of(brightest: int, largest: int | None) -> FileFacts:
    return FileFacts("a", Path("a"), "", "", 32, 32, brightest, largest_of_16_bits=largest)


def test_the_median_image_decides_whether_images_are_dark():
    def facts(*brightest: int) -> list[FileFacts]:
        return [facts_of(value, value * 257) for value in brightest]

    assert nearly_black(facts(16, 16, 255)) is not None
    assert nearly_black(facts(0, 200, 255)) is None
    assert nearly_black(facts(0, 0, 255)) == "most images are black"


def of_patients(**patients: str | None) -> list[FileFacts]:
    """Facts of files by their keys, with _ for a slash."""
    return [
        FileFacts(key.replace("_", "/"), Path(key), "", "", 9, 9, 255, patient=patient)
        for key, patient in patients.items()
    ]


def test_patients_with_several_images_are_remarked():
    said = ungrouped_patients(of_patients(p1_a="1", p1_b="1", p2_a="2", other=None))
    assert said == (
        "3 DICOM files are of 2 patients (PatientID), and are split image by image, so the threshold may be too low: "
        "--set data.group_by=folder keeps each patient together, or name them in a column patient of a manifest.csv"
    )
    for spread in (of_patients(a="1", b="1", c="2"), of_patients(p1_a="1", p2_b="1", p2_a="2")):
        said = ungrouped_patients(spread)
        assert said is not None and "group_by" not in said and said.endswith("column patient of a manifest.csv")
    for one_each in (of_patients(a="1", b="2", c=None), of_patients(a="0", b="0"), of_patients(a=None, b=None)):
        assert ungrouped_patients(one_each) is None

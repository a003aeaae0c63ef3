"""Remarks on images that can be trained on but will give poor results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap.data.checks import FileFacts, check_training_data
from flawmap.data.open_data import open_training_data
from flawmap.data.remarks import detail_lost, nearly_black
from flawmap.recipe.settings import DataSettings

DEFAULT = DataSettings()


def test_detail_is_lost_if_images_are_much_larger_than_the_model_sees():
    def facts(*sizes: tuple[int, int]) -> list[FileFacts]:
        return [FileFacts("a", Path("a"), "", "", width, height, 255) for width, height in sizes]

    assert detail_lost(facts((895, 895), (100, 895)), 224) is None
    assert detail_lost(facts((300, 200), (3000, 4096)), 224) == (
        "an image side of 4096 px is seen as 224 px, a defect of 10 px as 0.5 px: for small defects cut images into "
        "parts, or --set data.image_size_px=448 (slower)"
    )


@pytest.mark.parametrize(("bits", "brightest"), [(10, 4), (12, 16), (14, 64)])
def test_fewer_bits_in_16_bit_files_are_reported(tmp_path: Path, bits: int, brightest: int):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 32, 32)).astype(np.uint16)
    values[:, 0, 0] = 2**bits - 1
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    facts = check_training_data(open_training_data(tmp_path, DEFAULT), 0.1).facts
    assert nearly_black(facts) == (
        f"most images have no pixel brighter than {brightest} of 255, so little is visible: if a camera wrote its "
        f"{bits} bits into 16-bit files, multiply all values by {2 ** (16 - bits)}, in training and test images alike"
    )
    for number, image in enumerate(values):
        Image.fromarray(image * 2 ** (16 - bits)).save(tmp_path / f"{number}.png")
    assert nearly_black(check_training_data(open_training_data(tmp_path, DEFAULT), 0.1).facts) is None


def test_the_median_image_decides_whether_images_are_dark():
    def facts(*brightest: int) -> list[FileFacts]:
        return [FileFacts("a", Path("a"), "", "", 32, 32, value) for value in brightest]

    assert nearly_black(facts(16, 16, 255)) is not None
    assert nearly_black(facts(0, 200, 255)) is None
    assert nearly_black(facts(0, 0, 255)) == "most images are black"

"""What all tests share: checked types, made-up images and data sets, and real data where it lies beside the clone."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from images import NUM_TEST, NUM_TRAIN, scratched, texture, write_image

REPO = Path(__file__).parents[1]


def modules_with_arrays() -> list[str]:
    """The modules whose signatures state shapes or dtypes."""
    found: list[str] = []
    for root in (REPO / "src", REPO / "bench"):
        for path in root.rglob("*.py"):
            if re.search("from (jaxtyping|numpy.typing) import", path.read_text(encoding="utf-8")):
                found.append(".".join(path.relative_to(root).with_suffix("").parts))
    return found


# Every annotated array of flawmap is checked for shape and dtype while tests run. The types of modules without arrays
# are left to the type checker: to check their calls as well took a third of the time of tests/test_update.py.
install_import_hook(modules_with_arrays(), "beartype.beartype")
# the same examples each time: a check of a change must not fail for another reason; a slow machine is no wrong answer
settings.register_profile("flawmap", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("flawmap")

DEVELOPMENT_DATA = REPO.parent / "shared" / "data"


@pytest.fixture
def development_data() -> Callable[[str], Path]:
    """Path of a real data set that not every clone has; the test is skipped where it is missing."""

    def find(name: str) -> Path:
        path = DEVELOPMENT_DATA / name
        if not path.is_dir():
            pytest.skip(f"the data set {name} is not beside this clone ({path})")
        return path

    return find


@pytest.fixture
def good_folder(tmp_path: Path) -> Path:
    """A plain folder of 24 good images."""
    for number in range(NUM_TRAIN):
        write_image(tmp_path / "parts" / f"{number:03d}.png", texture(number))
    return tmp_path / "parts"


@pytest.fixture
def mvtec_folder(tmp_path: Path) -> Path:
    """A category in MVTec AD layout: 24 good images to train, 6 good and 6 scratched ones to test."""
    root = tmp_path / "tile"
    for number in range(NUM_TRAIN):
        write_image(root / "train" / "good" / f"{number:03d}.png", texture(number))
    for number in range(NUM_TEST):
        write_image(root / "test" / "good" / f"{number:03d}.png", texture(100 + number))
        image, mask = scratched(200 + number)
        write_image(root / "test" / "scratch" / f"{number:03d}.png", image)
        write_image(root / "ground_truth" / "scratch" / f"{number:03d}_mask.png", mask.astype(np.uint8) * 255)
    return root


from coordinate_images import affine_fit, coordinate_image  # noqa: E402, F401
from training_parts import (  # noqa: E402
    cpu,  # noqa: F401
    fit_on,  # noqa: F401
    new_run,  # noqa: F401
    normal_images,  # noqa: F401
    pretrain_settings,  # noqa: F401
    small_heads,  # noqa: F401
    tiny_encoder,  # noqa: F401
    tiny_recipe,  # noqa: F401
    views,  # noqa: F401
)

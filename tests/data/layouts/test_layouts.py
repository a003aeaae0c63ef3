"""Folders in MVTec AD layout, and folders that the recipe names."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import mistake
from flawmap.data.layouts.folder import NamedFolders
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.open_data import find_layout, open_test_data
from flawmap.data.sample import LabelledImage, LeftOut, MaskFile, NormalImage, Protocol
from flawmap.data.walk import Listing
from flawmap.recipe.settings import DataSettings
from images import noise, write_image, write_noise

DEFAULT = DataSettings()
MVTEC, FOLDERS = MvtecAd(), NamedFolders()
MASK = np.eye(12, 16, dtype=np.uint8) * 255


def summary(found: Listing[LabelledImage]) -> list[tuple[str, bool, str, str | None]]:
    rows = []
    for sample in found.images:
        assert sample.path.is_file() and sample.strata == {}
        mask = sample.truth.path.name if isinstance(sample.truth, MaskFile) else sample.truth
        rows.append((sample.key, sample.is_anomalous, sample.kind, mask))
    return rows


# ---- MVTec AD


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    root = tmp_path / "tile"
    write_noise(root / "train" / "good", range(3))
    write_noise(root / "test" / "good", range(10, 12))
    write_noise(root / "test" / "crack", range(20, 22))
    write_image(root / "ground_truth" / "crack" / "021_mask.png", MASK)
    write_image(root / "test" / "glue strip" / "A.BMP", noise(30))
    return root


def test_mvtec_training_images_are_those_of_train_good(tile: Path):
    assert isinstance(find_layout(tile), MvtecAd)
    expected = [f"train/good/{seed:03d}.png" for seed in range(3)]
    assert MVTEC.training(tile, DEFAULT, {}) == Listing(tuple(NormalImage(key, tile / key) for key in expected))


def test_mvtec_test_images_have_kinds_and_masks(tile: Path):
    assert summary(MVTEC.test(tile, DEFAULT, {})) == [
        ("test/crack/020.png", True, "crack", None),
        ("test/crack/021.png", True, "crack", "021_mask.png"),
        ("test/glue strip/A.BMP", True, "glue strip", None),
        ("test/good/010.png", False, "good", None),
        ("test/good/011.png", False, "good", None),
    ]


def test_mvtec_folders_may_be_nested_and_hidden_ones_are_ignored(tile: Path):
    write_image(tile / "train" / "good" / "camera 2" / "5.png", noise(5))
    write_image(tile / "test" / "crack" / "deep" / "6.png", noise(6))
    write_image(tile / "ground_truth" / "crack" / "deep" / "6_mask.png", MASK)
    write_image(tile / "ground_truth" / ".ipynb_checkpoints" / "7_mask.png", MASK)
    write_image(tile / "test" / ".trash" / "8.png", noise(8))
    assert [image.key for image in MVTEC.training(tile, DEFAULT, {}).images][-1] == "train/good/camera 2/5.png"
    rows = summary(MVTEC.test(tile, DEFAULT, {}))
    assert ("test/crack/deep/6.png", True, "crack", "6_mask.png") in rows and len(rows) == 6


def test_mvtec_masks_of_good_images_are_not_needed_and_named(tile: Path):
    write_image(tile / "ground_truth" / "good" / "unrelated.png", MASK)
    found = MVTEC.test(tile, DEFAULT, {})
    assert [sample.truth for sample in found.images if not sample.is_anomalous] == [None, None]
    unread = LeftOut(tile / "ground_truth" / "good", "masks of good images are not read", "folder")
    assert found.left_out == (unread,)


def test_mvtec_masks_that_nothing_reads_are_named(tile: Path):
    masks = tile / "ground_truth"
    write_image(masks / "020_mask.png", MASK)
    write_image(masks / "crack" / "020_mask.gif", Image.fromarray(MASK))
    (masks / "readme.txt").write_text("white is anomalous", encoding="utf-8")
    found = MVTEC.test(tile, DEFAULT, {}).left_out
    flat = LeftOut(
        masks / "020_mask.png", "a mask outside of the folders of kinds; move it to ground_truth/KIND", "mask"
    )
    assert flat in found
    assert [(item.path, item.kind) for item in found if item != flat] == [
        (masks / "readme.txt", ".txt"),
        (masks / "crack" / "020_mask.gif", ".gif"),
    ]


def test_a_mask_that_was_moved_as_advised_is_read(tile: Path):
    write_image(tile / "ground_truth" / "020_mask.png", MASK)
    (tile / "ground_truth" / "020_mask.png").rename(tile / "ground_truth" / "crack" / "020_mask.png")
    found = MVTEC.test(tile, DEFAULT, {})
    assert ("test/crack/020.png", True, "crack", "020_mask.png") in summary(found) and found.left_out == ()


def test_the_pattern_of_mvtec_masks_is_a_setting(tile: Path):
    (tile / "ground_truth" / "crack" / "021_mask.png").rename(tile / "ground_truth" / "crack" / "gt-021.png")
    rows = summary(MVTEC.test(tile, DataSettings(mask_pattern="gt-{stem}"), {}))
    assert rows[1] == ("test/crack/021.png", True, "crack", "gt-021.png")


def test_mvtec_masks_without_images(tile: Path):
    write_image(tile / "ground_truth" / "crack" / "099_mask.png", MASK)
    problem = "1 of 2 masks match no image, first: 099_mask.png (images are named like 020.png)"
    with mistake(problem, tile / "ground_truth" / "crack", "rename them to STEM_mask"):
        MVTEC.test(tile, DEFAULT, {})
    shutil.rmtree(tile / "test" / "crack")
    with mistake("masks of kind 'crack' have no images", tile / "ground_truth" / "crack", "add test/crack"):
        MVTEC.test(tile, DEFAULT, {})


def test_mvtec_without_a_test_folder(tile: Path):
    shutil.rmtree(tile / "test")
    with mistake("there are no labelled test images", tile, "add test/good and test/KIND folders"):
        open_test_data(tile, DEFAULT)


def test_mvtec_has_pixel_metrics_if_there_are_masks(tile: Path, monkeypatch):
    assert MVTEC.protocol(tile, DEFAULT) == Protocol("tile", "all", ())
    monkeypatch.chdir(tile)
    shutil.rmtree(tile / "ground_truth")
    assert MVTEC.protocol(Path("."), DEFAULT) == Protocol("tile", "none", ())


# ---- folders that the recipe names


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    root = tmp_path / "parts"
    write_noise(root / "OK", range(3))
    write_noise(root / "OK" / "monday", range(3, 4))
    write_noise(root / "NG", range(10, 12))
    write_noise(root / "NG" / "dent" / "edge", range(12, 13))
    write_image(root / "masks" / "010_mask.png", MASK)
    write_image(root / "masks" / "dent" / "edge" / "012.png", MASK)
    return root


NAMED = DataSettings(normal="OK", anomalous="NG", masks="masks")


def test_named_folders_give_training_images(parts: Path):
    keys = [image.key for image in FOLDERS.training(parts, NAMED, {}).images]
    assert keys == ["OK/000.png", "OK/001.png", "OK/002.png", "OK/monday/003.png"]


def test_named_folders_give_test_images_with_kinds_and_masks(parts: Path):
    rows = summary(FOLDERS.test(parts, NAMED, {}))
    assert [row[:3] for row in rows[:4]] == [
        (f"OK/{name}.png", False, "good") for name in ("000", "001", "002", "monday/003")
    ]
    assert rows[4:] == [
        ("NG/010.png", True, "NG", "010_mask.png"),
        ("NG/011.png", True, "NG", None),
        ("NG/dent/edge/012.png", True, "dent/edge", "012.png"),
    ]
    assert FOLDERS.protocol(parts, NAMED) == Protocol("parts", "all")
    assert FOLDERS.protocol(parts, DataSettings(normal="OK", anomalous="NG")) == Protocol("parts", "none")


def test_a_named_folder_may_be_outside_the_data_folder(parts: Path):
    settings = DataSettings(normal="../parts/OK", anomalous="NG")
    assert FOLDERS.training(parts, settings, {}).images[0].key == "../parts/OK/000.png"


def test_an_absolute_named_folder_is_refused(parts: Path, tmp_path):
    write_image(tmp_path / "other" / "1.png", noise(0))
    with mistake(
        f"{tmp_path / 'other'} is not relative to {parts}", "data.normal", "name a folder inside, or ../OTHER"
    ):
        FOLDERS.training(parts, DataSettings(normal=str(tmp_path / "other")), {})


@pytest.mark.parametrize(
    ("settings", "setting", "name"),
    [
        (DataSettings(normal="OKAY", anomalous="NG"), "normal", "OKAY"),
        (DataSettings(normal="OK", anomalous="BAD"), "anomalous", "BAD"),
        (DataSettings(normal="OK", anomalous="NG", masks="GT"), "masks", "GT"),
    ],
)
def test_a_missing_named_folder(settings: DataSettings, setting: str, name: str, parts: Path):
    remedy = f"{parts} has folders NG, OK, masks: name one"
    with mistake(f"no such folder: {parts / name}", f"data.{setting}", remedy):
        FOLDERS.test(parts, settings, {})


def test_named_good_images_alone_are_not_a_test_set(parts: Path):
    remedy = "or name folders inside: --set data.normal=OK --set data.anomalous=NG"
    with mistake("there are no labelled test images", parts, remedy):
        open_test_data(parts, DataSettings(normal="OK"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"normal": ".", "anomalous": "NG"}, "data.anomalous NG lies in data.normal ."),
        ({"normal": "NG", "anomalous": "NG"}, "data.anomalous NG lies in data.normal NG"),
        ({"normal": "NG/dent", "anomalous": "NG"}, "data.normal NG/dent lies in data.anomalous NG"),
        ({"normal": "OK", "masks": "OK/../OK/monday"}, "data.masks OK/../OK/monday lies in data.normal OK"),
        ({"normal": "OK", "anomalous": "NG", "masks": "NG/dent"}, "data.masks NG/dent lies in data.anomalous NG"),
    ],
)
def test_named_folders_must_not_contain_each_other(settings: dict, problem: str, parts: Path):
    with mistake(problem, parts, "name folders that do not contain each other, or list the images in a manifest.csv"):
        FOLDERS.training(parts, DataSettings(**settings), {})


def test_masks_in_a_folder_without_images(parts: Path):
    write_image(parts / "masks" / "scratch" / "1_mask.png", MASK)
    problem, remedy = "masks without images, first: 1_mask.png", f"there is no folder {parts / 'NG' / 'scratch'}"
    with mistake(problem, parts / "masks" / "scratch", remedy):
        FOLDERS.test(parts, NAMED, {})

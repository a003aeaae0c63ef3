"""Which sub-folders of one's own folder are good images, and what is said where that cannot be told."""

import shlex
from pathlib import Path

import pytest

from assertions import explained
from flawmap.data.layouts.folder import PlainFolder
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.open_data import find_layout, open_test_data, open_training_data
from flawmap.recipe.settings import DataSettings
from images import noise, write_image

DEFAULT = DataSettings()


def tree(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_image(root / name, noise(seed))
    return root


def keys(location: Path, **settings) -> list[str]:
    return [image.key for image in open_training_data(location, DataSettings(**settings)).images]


def left_out(location: Path, **settings) -> dict[str, str]:
    data = open_training_data(location, DataSettings(**settings))
    return {item.path.relative_to(location).as_posix(): item.kind for item in data.left_out}


def command_of(error) -> list[str]:
    """The words of the command at the end of a remedy."""
    return shlex.split(error.remedy[error.remedy.rindex("flawmap ") :])


# ---- what is read


@pytest.mark.parametrize(
    "names",
    [
        ("2024-05-01/1.png", "2024-05-02/1.png"),
        ("monday/1.png", "tuesday/1.png", "Mittwoch/1.png"),
        ("lot_17/1.png", "lot_18/camera left/1.png", "lot_18/camera right/1.png"),
        ("shift A/1.png", "shift B/1.png", "0.png"),
        ("images/1.png",),
        ("KW12/1/1.png", "KW12/2/1.png", "KW13/1.png", "a.png", "b.png"),
    ],
)
def test_days_lots_and_cameras_are_read_beside_each_other_and_beside_images(names, tmp_path):
    root = tree(tmp_path / "parts", *names)
    assert keys(root) == sorted(names) and left_out(root) == {}


def test_a_folder_around_the_images_is_read_whatever_it_is_called(tmp_path):
    names = ["export of X/bubbles/1.png", "export of X/bubbles/2.png"]
    root = tree(tmp_path / "parts", *names)
    assert keys(root) == names
    tree(root, "export of X/residue/3.png")
    assert "name the folders that hold good images only" in explained(lambda: keys(root)).remedy


@pytest.mark.parametrize("name", ["bad", "masks", "test of old ones"])
def test_a_folder_around_the_images_must_not_be_called_after_defects(name, tmp_path):
    root = tree(tmp_path / "parts", f"export of X/{name}/1.png", f"export of X/{name}/2.png")
    assert explained(lambda: keys(root)).problem.startswith(f"parts/ has folders export of X/{name};")


@pytest.mark.parametrize(
    "name", ["NG", "defects", "scratch", "masks", "ground_truth", "validation", "bubbles", "old NG/cam 1"]
)
def test_other_folders_beside_images_are_left_out_and_said(name, tmp_path):
    root = tree(tmp_path / "parts", "a.png", "lot 1/b.png", f"{name}/c.png", f"{name}/deeper/d.png")
    assert keys(root) == ["a.png", "lot 1/b.png"]
    assert left_out(root) == {name.partition("/")[0]: "folder"}


def test_defects_of_a_day_are_left_out_with_the_images_of_the_day_read(tmp_path):
    root = tree(tmp_path / "parts", "a.png", "2024-05-01/b.png", "2024-05-01/bad/c.png", "2024-05-01/unsure/d.png")
    assert keys(root) == ["2024-05-01/b.png", "a.png"]
    assert left_out(root) == {"2024-05-01/bad": "folder", "2024-05-01/unsure": "folder"}


def test_a_folder_that_is_called_good_is_read_with_what_has_unknown_names(tmp_path):
    root = tree(tmp_path / "good", "red/1.png", "blue/2.png", "NG/3.png", "labels/4.png")
    assert keys(root) == ["blue/2.png", "red/1.png"] and left_out(root) == {"NG": "folder", "labels": "folder"}


def test_a_folder_that_the_recipe_names_is_read_but_for_defects_masks_and_tests(tmp_path):
    root = tree(
        tmp_path / "parts", "red/1.png", "blue/2.png", "scratch/3.png", "masks/4.png", "test/5.png", "train/6.png"
    )
    assert keys(root, normal=".") == ["blue/2.png", "red/1.png", "train/6.png"]
    assert set(left_out(root, normal=".")) == {"scratch", "masks", "test"}


def test_masks_beside_their_images_are_not_trained_on(tmp_path):
    root = tree(tmp_path / "parts", "a.png", "a_mask.png", "b.png", "b_mask.png", "lot 1/c.png", "lot 1/c-gt.png")
    assert keys(root) == ["a.png", "b.png", "lot 1/c.png"]
    assert left_out(root) == {"a_mask.png": "mask", "b_mask.png": "mask", "lot 1/c-gt.png": "mask"}


# ---- what is refused, with advice that does no damage


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (("OK", "NG", "masks"), ["OK"]),
        (("Good", "scratch", "dent"), ["Good"]),
        (("good_parts (old) $1", "bubbles"), ["good_parts (old) $1"]),
        (("2024/good", "2024/bad", "2025/good"), ["2024/good", "2025/good"]),
        (("train/ok", "train/ng", "val/ok", "val/ng"), ["train/ok"]),
        (("2024-05-01", "2024-05-02", "defects"), ["2024-05-01", "2024-05-02"]),
        (("lot 1/cam 1", "lot 1/NG", "lot 2"), ["lot 1/cam 1", "lot 2"]),
        (("Normal",), ["Normal"]),
    ],
)
def test_the_remedy_names_safe_folders_only_and_helps(names, safe, tmp_path):
    root = tree(tmp_path / "my parts", *(f"{name}/{number}.png" for name in names for number in range(2)))
    error = explained(lambda: open_training_data(root, DEFAULT))
    assert error.problem.startswith("my parts/ has folders ") and error.place == str(root)
    flawmap, train, *locations = command_of(error)
    assert (flawmap, train) == ("flawmap", "train") and locations == [str(root / name) for name in safe]
    read = {image.path for image in open_training_data(locations, DEFAULT).images}
    assert read == {root / name / f"{number}.png" for name in safe for number in range(2)}


def test_good_images_among_others_are_not_taken_for_all(tmp_path):
    root = tree(tmp_path / "parts", "overview.png", "good/1.png", "bad/2.png")
    assert command_of(explained(lambda: open_training_data(root, DEFAULT))) == ["flawmap", "train", str(root / "good")]


@pytest.mark.parametrize(
    "names", [("a", "b"), ("bubbles", "residue"), ("NG", "scratch"), ("images", "masks"), ("val", "train")]
)
def test_without_a_safe_name_no_folder_is_named(names, tmp_path):
    root = tree(tmp_path / "parts", *(f"{name}/1.png" for name in names))
    error = explained(lambda: open_training_data(root, DEFAULT))
    assert error.remedy == f"name the folders that hold good images only, one or several, in place of {root}"


def test_a_good_and_another_folder_are_offered_as_training_and_test(tmp_path):
    root = tree(tmp_path / "parts", "OK/1.png", "my NG/2.png", "masks/2_mask.png")
    error = explained(lambda: open_training_data(root, DEFAULT))
    words = shlex.split(error.remedy[: error.remedy.index(" takes ")])
    assert words == [
        word
        for pair in (("normal", "OK"), ("anomalous", "my NG"), ("masks", "masks"))
        for word in ("--set", f"data.{pair[0]}={pair[1]}")
    ]
    settings = DataSettings(normal="OK", anomalous="my NG", masks="masks")
    assert len(open_training_data(root, settings).images) == 1 and len(open_test_data(root, settings).samples) == 2


def test_annotations_tell_where_folders_do_not(tmp_path):
    root = tree(tmp_path / "voc", "JPEGImages/1.png", "SegmentationClass/1.png")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "1.xml").write_text("<annotation><filename>1.png</filename></annotation>")
    error = explained(lambda: open_training_data(root, DEFAULT))
    assert "turn the Pascal VOC annotations into a manifest" in error.remedy
    assert command_of(error) == ["flawmap", "manifest", str(root), "--output", "manifest.csv"]


# ---- MVTec AD in any case


@pytest.mark.parametrize(
    ("train", "good", "test", "truth"),
    [("Train", "Good", "Test", "Ground_Truth"), ("TRAIN", "GOOD", "TEST", "GROUND_TRUTH")],
)
def test_mvtec_ad_is_recognised_in_any_case(train, good, test, truth, tmp_path):
    root = tree(
        tmp_path / "tile",
        f"{train}/{good}/1.png",
        f"{test}/{good}/2.png",
        f"{test}/Crack/3.png",
        f"{truth}/crack/3_mask.png",
    )
    assert isinstance(find_layout(root), MvtecAd) and not isinstance(find_layout(root), PlainFolder)
    assert keys(root) == [f"{train}/{good}/1.png"]
    samples = open_test_data(root, DEFAULT).samples
    assert [(s.key, s.kind, s.truth is not None) for s in samples] == [
        (f"{test}/Crack/3.png", "Crack", True),
        (f"{test}/{good}/2.png", "good", False),
    ]
    assert open_test_data(root, DEFAULT).protocol.pixel_pool == "all"


def test_what_no_layout_reads_is_said_in_mvtec_ad(tmp_path):
    root = tree(
        tmp_path / "tile",
        "train/good/1.png",
        "train/good/NG/2.png",
        "train/extra/3.png",
        "extra.png",
        "more/4.png",
        "test/good/5.png",
        "test/flat.png",
        "ground_truth/flat_mask.png",
    )
    (root / "readme.txt").write_text("text")
    assert keys(root) == ["train/good/1.png"]
    kinds = {
        "extra.png": "image",
        "more": "folder",
        "readme.txt": ".txt",
        "train/extra": "folder",
        "train/good/NG": "folder",
    }
    assert left_out(root) == kinds
    test = open_test_data(root, DEFAULT)
    assert [item.path.relative_to(root).as_posix() for item in test.left_out] == [
        "test/flat.png",
        "ground_truth/flat_mask.png",
    ]


def test_a_test_without_good_images_to_train_names_those_that_are_there(tmp_path):
    root = tree(tmp_path / "tile", "train/OK/1.png", "train/NG/2.png", "test/good/3.png")
    assert command_of(explained(lambda: open_training_data(root, DEFAULT))) == [
        "flawmap",
        "train",
        str(root / "train" / "OK"),
    ]

"""Published data sets as their archives unpack, in miniature: training images, test images and ground truth."""

from pathlib import Path

import numpy as np
import pytest

from assertions import mistake
from flawmap.data.checks import check_leak, check_test_data, check_training_data
from flawmap.data.images.truth import read_truth
from flawmap.data.layouts.folder import PlainFolder
from flawmap.data.layouts.mtd import MagneticTiles
from flawmap.data.layouts.mvtec import MvtecAd
from flawmap.data.layouts.mvtec_2 import MvtecAd2
from flawmap.data.layouts.nih import ChestXray14
from flawmap.data.layouts.visa import Visa
from flawmap.data.open_data import find_all_test_data, find_layout, open_test_data, open_training_data
from flawmap.data.sample import Boxes, LabelledImage, MaskFile, Protocol
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from images import noise, truncate, write_image, write_noise

DEFAULT = DataSettings()
MASK = np.eye(12, 16, dtype=np.uint8) * 255


def keys(images) -> list[str]:
    return [image.key for image in images]


def by_key(root: Path | str) -> dict[str, LabelledImage]:
    return {sample.key: sample for sample in open_test_data(root, DEFAULT).samples}


# ---- MVTec AD 2


@pytest.fixture
def can(tmp_path: Path) -> Path:
    root = tmp_path / "can"
    for name in ("000_regular", "001_regular", "001_overexposed"):
        write_image(root / "train" / "good" / f"{name}.png", noise(0))
    write_image(root / "validation" / "good" / "002_regular.png", noise(1))
    write_image(root / "test_public" / "good" / "003_regular.png", noise(2))
    write_image(root / "test_public" / "bad" / "004_overexposed.png", noise(3))
    write_image(root / "test_public" / "ground_truth" / "bad" / "004_overexposed_mask.png", MASK)
    write_image(root / "test_private" / "005.png", noise(4))
    return root


def test_mvtec_ad_2_trains_on_train_good_and_is_tested_on_the_public_set(can: Path):
    training, test = open_training_data(can, DEFAULT), open_test_data(can, DEFAULT)
    assert training.layout == test.layout == "MVTec AD 2 (train/good, test_public)"
    assert keys(training.images) == [f"train/good/{n}.png" for n in ("000_regular", "001_overexposed", "001_regular")]
    (remark,) = training.remarks
    assert remark.text.startswith("1 good images that are not trained on; flawmap calibrate RUN ")
    assert training.left_out == ()
    samples = by_key(can)
    assert set(samples) == {"test_public/good/003_regular.png", "test_public/bad/004_overexposed.png"}
    bad = samples["test_public/bad/004_overexposed.png"]
    assert (bad.is_anomalous, bad.kind, bad.strata) == (True, "bad", {"light": "overexposed"})
    assert np.array_equal(read_truth(bad, 12, 16), MASK > 0)
    assert test.protocol == Protocol("can", strata=("light",)) and MvtecAd2.published.name == "MVTec AD 2"


def test_what_lies_beside_the_folders_of_mvtec_ad_2_is_named(can: Path):
    write_image(can / "test_private_2" / "0.png", noise(5))
    (can / "license.txt").write_text("CC BY-NC-SA 4.0", encoding="utf-8")
    assert [item.path.name for item in open_training_data(can, DEFAULT).left_out] == ["test_private_2", "license.txt"]


def test_one_light_of_mvtec_ad_2(can: Path):
    assert keys(open_training_data(f"{can}:light=regular", DEFAULT).images) == [
        "train/good/000_regular.png",
        "train/good/001_regular.png",
    ]
    assert set(by_key(f"{can}:light=overexposed")) == {"test_public/bad/004_overexposed.png"}


def test_a_test_set_of_mvtec_ad_2_without_bad_images_is_incomplete(can: Path):
    (can / "test_public" / "bad").rename(can / "elsewhere")
    with mistake("no folder bad in the public test set", can / "test_public", "unpack the archive again"):
        open_test_data(can, DEFAULT)


# ---- VisA


@pytest.fixture
def candle(tmp_path: Path) -> Path:
    images = tmp_path / "candle" / "Data" / "Images"
    for number in range(3):
        write_image(images / "Normal" / f"{number:04d}.JPG", noise(number), format="JPEG")
    write_image(images / "Anomaly" / "000.JPG", noise(9), format="JPEG")
    write_image(tmp_path / "candle" / "Data" / "Masks" / "Anomaly" / "000.png", (MASK > 0) * np.uint8(3))
    rows = [
        "candle,train,normal,candle/Data/Images/Normal/0002.JPG,",
        "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/0001.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
        "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,",
    ]
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(["object,split,label,image,mask", *rows, ""]))
    return tmp_path / "candle"


def test_visa_is_split_by_its_list(candle: Path):
    assert keys(open_training_data(candle, DEFAULT).images) == [
        "Data/Images/Normal/0000.JPG",
        "Data/Images/Normal/0002.JPG",
    ]
    samples = by_key(candle)
    assert [(key, s.is_anomalous, s.kind) for key, s in samples.items()] == [
        ("Data/Images/Normal/0001.JPG", False, "good"),
        ("Data/Images/Anomaly/000.JPG", True, "anomaly"),
    ]
    assert np.array_equal(read_truth(samples["Data/Images/Anomaly/000.JPG"], 12, 16), MASK > 0)
    assert all(s.path.is_file() for s in samples.values()) and find_all_test_data(candle, DEFAULT) is not None


def test_visa_from_within_its_folder(candle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(candle)
    assert len(open_training_data(".", DEFAULT).images) == 2 and open_training_data(".", DEFAULT).name == "candle"


def test_visa_without_its_list_is_explained(candle: Path):
    listed = candle.parent / "split_csv" / "1cls.csv"
    listed.unlink()
    with pytest.raises(UserError, match="the list of splits cannot be read") as caught:
        open_training_data(candle, DEFAULT)
    assert caught.value.place == str(listed) and "list the images in a manifest.csv" in caught.value.remedy


def test_an_anomalous_image_in_visas_training_is_refused(candle: Path):
    listed = candle.parent / "split_csv" / "1cls.csv"
    listed.write_text(listed.read_text().replace("candle,test,anomaly", "candle,train,anomaly"))
    with mistake("candle/Data/Images/Anomaly/000.JPG is in split train but not normal", listed, "unpack"):
        open_training_data(candle, DEFAULT)


# ---- Magnetic Tile Defects


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    root = tmp_path / "tiles"
    for kind, stem, mask in (
        ("Free", "exp1_num_1", MASK * 0),
        ("Free", "exp1_num_2", MASK * 0),
        ("Free", "exp1_num_3", MASK * 0),
        ("Blowhole", "exp1_num_7", MASK),
        ("Uneven", "exp3_num_9", MASK * 0),
    ):
        write_image(root / f"MT_{kind}" / "Imgs" / f"{stem}.jpg", noise(1))
        write_image(root / f"MT_{kind}" / "Imgs" / f"{stem}.png", mask)
    (root / "mtd_train_filenames.txt").write_text("exp1_num_3.jpg\nexp1_num_1.jpg\n")
    return root


def test_magnetic_tiles_as_published_are_split_by_differnets_list(tiles: Path):
    names = ["MT_Free/Imgs/exp1_num_1.jpg", "MT_Free/Imgs/exp1_num_3.jpg"]
    assert keys(open_training_data(tiles, DEFAULT).images) == names
    samples = by_key(tiles)
    assert {key: s.kind for key, s in samples.items()} == {
        "MT_Blowhole/Imgs/exp1_num_7.jpg": "blowhole",
        "MT_Free/Imgs/exp1_num_2.jpg": "good",
        "MT_Uneven/Imgs/exp3_num_9.jpg": "uneven",
    }
    assert np.array_equal(read_truth(samples["MT_Blowhole/Imgs/exp1_num_7.jpg"], 12, 16), MASK > 0)
    uneven = samples["MT_Uneven/Imgs/exp3_num_9.jpg"]
    assert uneven.is_anomalous and read_truth(uneven, 12, 16) is None  # an empty mask does not say where the defect is


def test_magnetic_tiles_need_the_list(tiles: Path):
    (tiles / "mtd_train_filenames.txt").unlink()
    problem = "the split of the magnetic tiles needs DifferNet's list mtd_train_filenames.txt"
    with mistake(problem, tiles / "mtd_train_filenames.txt", "github.com/marco-rudolph/differnet"):
        open_test_data(tiles, DEFAULT)


def test_a_listed_tile_that_is_missing_is_named(tiles: Path):
    (tiles / "mtd_train_filenames.txt").write_text("exp1_num_3.jpg\nexp9_num_1.jpg\n")
    problem = "1 listed images are not in MT_Free, first: exp9_num_1"
    with mistake(problem, tiles / "mtd_train_filenames.txt", "copy the folder MT_Free again"):
        open_training_data(tiles, DEFAULT)


# ---- NIH ChestX-ray14

ENTRIES = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,Original
00000001_000.png,No Finding,0,1,57,M,PA,x
00000002_000.png,No Finding,0,2,58,F,AP,x
00000003_000.png,Mass,0,3,59,M,PA,x
00000004_000.png,No Finding,0,4,60,M,AP,x
00000005_000.png,Mass|Nodule,0,5,61,F,PA,x
00000006_000.png,Nodule,0,6,62,M,PA,x
"""
BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
00000005_000.png,Mass,256.0,512.0,128.0,256.0,,,
00000005_000.png,Nodule,0,0,64,64,,,
"""


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    for number in range(1, 7):
        folder = "images_001/images" if number < 4 else "images_012/images"
        write_image(root / folder / f"{number:08d}_000.png", noise(number, 32, 32))
    (root / "Data_Entry_2017_v2020.csv").write_text(ENTRIES)
    (root / "BBox_List_2017.csv").write_text(BOXES)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000002_000.png\n00000003_000.png\n")
    (root / "test_list.txt").write_text("00000004_000.png\n00000005_000.png\n00000006_000.png\n")
    return root


def test_chest_x_rays_train_on_the_normal_images_of_the_official_list(nih: Path):
    training, test = open_training_data(nih, DEFAULT), open_test_data(nih, DEFAULT)
    assert keys(training.images) == [f"images_001/images/0000000{n}_000.png" for n in (1, 2)]
    assert [(s.path.name[7], s.is_anomalous, s.kind, s.strata) for s in test.samples] == [
        ("4", False, "good", {"sex": "M", "view": "AP"}),
        ("5", True, "several findings", {"sex": "F", "view": "PA"}),
        ("6", True, "Nodule", {"sex": "M", "view": "PA"}),
    ]
    assert test.protocol == Protocol("nih", "truth_only", ("sex", "view"))


def test_the_x_rays_of_a_patient_are_a_group(nih: Path):
    training, test = open_training_data(nih, DEFAULT), open_test_data(nih, DEFAULT)
    assert ([image.group for image in training.images], training.grouped_by) == (["1", "2"], "patient")
    assert ([sample.group for sample in test.samples], test.grouped_by) == (["4", "5", "6"], "patient")
    table = nih / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Patient ID", "Number"))
    without = open_training_data(nih, DEFAULT)
    assert ([image.group for image in without.images], without.grouped_by) == ([None, None], None)


def test_boxes_are_scaled_to_the_images_that_are_there(nih: Path):
    boxed = next(s for s in open_test_data(nih, DEFAULT).samples if s.truth)
    assert boxed.truth == Boxes(((256.0, 512.0, 128.0, 256.0), (0.0, 0.0, 64.0, 64.0)), 1024)
    truth = read_truth(boxed, 32, 32)
    assert truth is not None and truth.sum() == 4 * 8 + 2 * 2 and truth[16:24, 8:12].all() and truth[:2, :2].all()


def test_one_sex_and_one_view(nih: Path):
    assert keys(open_training_data(f"{nih}:sex=M", DEFAULT).images) == ["images_001/images/00000001_000.png"]
    test = open_test_data(f"{nih}:sex=M,view=PA", DEFAULT)
    assert [s.path.name for s in test.samples] == ["00000006_000.png"] and test.name == "nih-M-PA"


def test_the_table_of_2017_calls_the_sex_gender(nih: Path):
    table = nih / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Patient Sex", "Patient Gender"))
    assert {s.strata["sex"] for s in open_test_data(nih, DEFAULT).samples} == {"M", "F"}


def write_lists(nih: Path) -> None:
    (nih / "chest_xray_lists").mkdir()
    for name, content in {
        "norm_MaleAdultPA_train_curated_list": "00000001_000.png",
        "norm_MaleAdultPA_test_curated_list": "00000004_000.png",
        "anomaly_MaleAdultPA_test_curated_list": "00000003_000.png\n00000006_000.png",
    }.items():
        (nih / "chest_xray_lists" / f"{name}.txt").write_text(content + "\n")


def test_the_curated_lists_of_one_sex(nih: Path):
    write_lists(nih)
    assert keys(open_training_data(f"{nih}:list=curated,sex=M", DEFAULT).images) == [
        "images_001/images/00000001_000.png"
    ]
    samples = open_test_data(f"{nih}:list=curated,sex=M", DEFAULT).samples
    assert {(s.path.name[7], s.is_anomalous) for s in samples} == {("4", False), ("3", True), ("6", True)}


def test_the_curated_lists_are_a_test_without_the_official_one(nih: Path):
    write_lists(nih)
    (nih / "test_list.txt").unlink()
    curated = f"{nih}:list=curated,sex=M"
    assert find_all_test_data(nih, DEFAULT) is None and find_all_test_data(curated, DEFAULT) is not None
    (nih / "BBox_List_2017.csv").unlink()
    assert find_all_test_data(curated, DEFAULT) is None


def test_a_list_that_is_missing_or_unknown_is_named(nih: Path):
    write_lists(nih)
    with mistake("the list norm_FemaleAdultPA_train_curated_list.txt is missing", nih, "chest_xray_lists"):
        open_training_data(f"{nih}:list=curated", DEFAULT)
    with mistake("there is no list 'all' of chest X-rays", "list", "one of curated, adult_pa"):
        open_test_data(f"{nih}:list=all", DEFAULT)


def test_a_training_list_with_a_finding_is_refused(nih: Path):
    write_lists(nih)
    listed = nih / "chest_xray_lists" / "norm_MaleAdultPA_train_curated_list.txt"
    listed.write_text("00000001_000.png\n00000003_000.png\n")
    problem = "1 images of the training list have findings, first: 00000003_000.png"
    with mistake(problem, "Data_Entry_2017", "training takes normal images only"):
        open_training_data(f"{nih}:list=curated,sex=M", DEFAULT)


def test_missing_images_are_reported(nih: Path):
    (nih / "images_001" / "images" / "00000002_000.png").unlink()
    with mistake("1 of 2 listed images are missing, first: 00000002_000.png", nih, "unpack all twelve archives"):
        open_training_data(nih, DEFAULT)


@pytest.mark.parametrize("name", ["BBox_List_2017.csv", "test_list.txt"])
def test_only_the_test_needs_the_boxes_and_the_test_list(nih: Path, name: str):
    (nih / name).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        open_test_data(nih, DEFAULT)
    data = open_training_data(nih, DEFAULT)
    assert len(data.images) == 2  # training opens neither
    assert check_leak(check_training_data(data, None), find_all_test_data(nih, DEFAULT)) is None


def test_a_truncated_x_ray_with_a_box_can_be_skipped(nih: Path):
    truncate(nih / "images_012" / "images" / "00000005_000.png")
    with pytest.raises(UserError, match="1 file cannot be decoded"):
        check_test_data(open_test_data(nih, DEFAULT))
    checked = check_test_data(open_test_data(nih, DEFAULT), skip_unreadable=True)
    assert [file.key for file in checked.skipped] == ["images_012/images/00000005_000.png"]


def test_a_name_has_no_characters_that_a_path_cannot_hold(tmp_path: Path):
    write_image(tmp_path / "a.png", noise(0, 32, 32))
    (tmp_path / "manifest.csv").write_text("image,split,label,view\na.png,train,0,L/R\n")
    assert open_training_data(f"{tmp_path}:view=L/R", DEFAULT).name == f"{tmp_path.name}-L_R"


# ---- all layouts


def test_each_layout_is_recognised(can: Path, candle: Path, tiles: Path, nih: Path, tmp_path: Path):
    write_noise(tmp_path / "mvtec" / "train" / "good", range(2))
    layouts = [find_layout(path) for path in (can, candle, tiles, nih, tmp_path / "mvtec", tmp_path)]
    assert [type(layout) for layout in layouts] == [MvtecAd2, Visa, MagneticTiles, ChestXray14, MvtecAd, PlainFolder]


def test_training_reads_no_test_file_of_any_layout(can, candle, tiles, nih, monkeypatch: pytest.MonkeyPatch):
    tested = {s.path.resolve() for root in (can, candle, tiles, nih) for s in open_test_data(root, DEFAULT).samples}
    masks = {
        s.truth.path.resolve()
        for root in (can, candle, tiles)
        for s in open_test_data(root, DEFAULT).samples
        if isinstance(s.truth, MaskFile)
    }
    real = Path.open

    def watched(path: Path, *arguments, **options):
        assert path.resolve() not in tested | masks and path.name not in ("test_list.txt", "BBox_List_2017.csv")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", watched)
    monkeypatch.setattr(Path, "read_bytes", lambda path: watched(path, "rb").read())
    for root in (can, candle, tiles, nih):
        images = {image.path.resolve() for image in open_training_data(root, DEFAULT).images}
        assert images and not images & tested

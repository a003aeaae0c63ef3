"""The files for MVTec AD 2's server, against what its checks ask for."""

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assertions import files_and_bytes, mistake
from flawmap.data.images.files import decode_stored
from flawmap.runs.calibration import MapScale
from flawmap_bench.submission import Submitted, main, on_scale, tiff_of, write_submission
from images import noise, striped, write_image
from made_up_model import made_up_calibration
from tiny_detector import fitted_detector


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    fitted_detector().save_pretrained(folder)
    return folder


@pytest.fixture
def can(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec_ad_2" / "can"
    write_image(root / "train" / "good" / "000_regular.png", striped(0))
    write_image(root / "test_public" / "good" / "000_regular.png", striped(1))
    for number in range(2):
        write_image(root / "test_private" / f"{number:03d}_regular.png", striped(2 + number, 20, 30))
        write_image(root / "test_private_mixed" / f"{number:03d}_mixed.png", noise(number, 20, 30))
    return root


EXPECTED = [
    f"{kind}/can/{test_set}/{number:03d}_{light}.{ending}"
    for kind, ending in (("anomaly_images", "tiff"), ("anomaly_images_thresholded", "png"))
    for test_set, light in (("test_private", "regular"), ("test_private_mixed", "mixed"))
    for number in range(2)
]


def read_float16(path: Path) -> np.ndarray:
    """With flawmap's own reader of TIFF, which knows float16."""
    return np.asarray(decode_stored(path.read_bytes()).image)


def test_a_category_has_a_float16_map_and_a_binary_image_for_each_private_image(run: Path, can: Path, tmp_path: Path):
    output = tmp_path / "submission"
    written = write_submission(run, can, output, "cpu")
    assert list(files_and_bytes(output)) == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == ["mvtec_ad_2", "submission"]
    calibration, n_flagged = fitted_detector().calibration_, 0
    for name in EXPECTED[:4]:
        image = (can.parent / name.removeprefix("anomaly_images/")).with_suffix(".png")
        anomaly_map = fitted_detector().predict(image)
        stored = read_float16(output / name)
        expected = (anomaly_map.anomaly_map - calibration.map_scale.low) / (
            calibration.map_scale.high - calibration.map_scale.low
        )
        assert stored == pytest.approx(expected, rel=2**-10, abs=2**-14)
        with Image.open(output / name.replace("images/", "images_thresholded/").replace("tiff", "png")) as file:
            binary = np.asarray(file)
        above = anomaly_map.anomaly_map > calibration.map_threshold
        assert binary.dtype == np.uint8 and np.array_equal(binary, above * np.uint8(255))
        n_flagged += bool(above.any())
    assert written == Submitted(4, n_flagged)


def test_tiff_says_that_its_16_bits_are_one_float(tmp_path: Path):
    pixels = np.array([[-2.5, 0.0, 1e-7], [0.5, 1.0, 65504.0]], np.float16)
    content = tiff_of(pixels)
    assert np.array_equal(np.asarray(decode_stored(content).image), pixels.astype(np.float32))
    directory = int.from_bytes(content[4:8], "little")
    entries = [content[directory + 2 + 12 * i :][:12] for i in range(int.from_bytes(content[directory:][:2], "little"))]
    tags = {int.from_bytes(e[:2], "little"): int.from_bytes(e[8:10], "little") for e in entries}
    assert content[:4] == b"II*\0"
    assert (tags[256], tags[257], tags[258], tags.get(277, 1), tags[339]) == (3, 2, 16, 1, 3)


def test_the_scale_keeps_the_order_and_has_the_threshold_at_one_half():
    calibration = made_up_calibration(8.0)  # its scale goes from 7 to 9
    values = on_scale(np.array([[7.0, 8.0, 9.0, 11.0, 1e9]], np.float32), calibration)
    assert values.dtype == np.float16 and values.tolist() == [[0.0, 0.5, 1.0, 2.0, 65504.0]]
    assert calibration.map_scale == MapScale(7.0, 9.0)


def test_categories_add_up_and_the_same_one_is_replaced(run: Path, can: Path, tmp_path: Path):
    output = tmp_path / "submission"
    for name in ("rice", "can"):
        folder = can.rename(can.with_name(name)) if name != can.name else can
        write_submission(run, folder, output, "cpu")
        can = folder
    before = files_and_bytes(output)
    assert {Path(name).parts[1] for name in before} == {"rice", "can"} and len(before) == 16
    (can / "test_private" / "001_regular.png").unlink()
    write_submission(run, can, output, "cpu")
    assert set(before) - set(files_and_bytes(output)) == {
        "anomaly_images/can/test_private/001_regular.tiff",
        "anomaly_images_thresholded/can/test_private/001_regular.png",
    }


def test_a_run_without_a_threshold_is_refused_with_the_command_that_sets_one(can: Path, tmp_path: Path):
    detector = copy.copy(fitted_detector())
    detector.calibration_ = None
    model = tmp_path / "model"
    detector.save_pretrained(model)
    remedy = f"flawmap calibrate {model} {can / 'validation' / 'good'}"
    with mistake("the run has no threshold, which the thresholded maps need", model, remedy):
        write_submission(model, can, tmp_path / "submission", "cpu")
    assert not (tmp_path / "submission").exists()


def test_other_data_and_a_missing_private_set_are_refused(run: Path, can: Path, tmp_path: Path, mvtec_folder: Path):
    problem = "no category of MVTec AD 2 (train/good, test_public)"
    with mistake(problem, mvtec_folder, "name the folder of one category"):
        write_submission(run, mvtec_folder, tmp_path / "submission", "cpu")
    for file in (can / "test_private_mixed").iterdir():
        file.unlink()
    problem = "no image in test_private_mixed, and the server needs both private test sets"
    with mistake(problem, can / "test_private_mixed", "as its archive unpacks"):
        write_submission(run, can, tmp_path / "submission", "cpu")


def test_what_cannot_be_scored_leaves_nothing_behind(run: Path, can: Path, tmp_path: Path):
    (can / "test_private_mixed" / "001_mixed.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    output = tmp_path / "submission"
    assert main([str(run), str(can), "--output", str(output), "--device", "cpu"]) == 2
    assert not output.exists() and [path.name for path in tmp_path.iterdir()] == ["mvtec_ad_2"]


def test_the_command_says_what_it_wrote(run: Path, can: Path, tmp_path: Path, capsys):
    output = tmp_path / "submission"
    assert main([str(run), str(can), "--output", str(output), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("can: 4 images, ") and said.endswith(f" with a pixel above the threshold -> {output}\n")

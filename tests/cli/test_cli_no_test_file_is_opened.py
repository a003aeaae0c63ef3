"""No test image, mask or label reaches training or calibration: every file that Python opens meanwhile is watched.

Only the leak check, which ends before training begins and hands nothing on but a count, may decode test images.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from flawmap import check as data_check
from flawmap.data.checks import LeakCheck
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import LabelledImage, NormalImage
from flawmap.detect.good_images import good_images
from flawmap.errors import UserError
from flawmap.recipe.settings import DataSettings
from images import write_category, write_good


class Watch:
    """Refuses to open files below some folders while it is on; Python's audit hooks see every ``open``."""

    def __init__(self) -> None:
        self.forbidden: tuple[str, ...] = ()
        self.refused: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not self.forbidden or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fspath(arguments[0])
        path = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
        if os.path.realpath(path).startswith(self.forbidden):
            self.refused.append(path)
            raise PermissionError(f"{path} belongs to the test")


WATCH = Watch()
sys.addaudithook(WATCH)  # cannot be taken away again; it does nothing while nothing is forbidden


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_category(tmp_path / "tile")


@pytest.fixture
def watch(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Test images and masks are forbidden, but to the leak check."""
    forbidden = tuple(os.path.realpath(data / name) + os.sep for name in ("test", "ground_truth"))
    real = data_check.check_leak

    def allowed(*arguments, **options):
        WATCH.forbidden = ()
        try:
            return real(*arguments, **options)
        finally:
            WATCH.forbidden = forbidden

    monkeypatch.setattr(data_check, "check_leak", allowed)
    WATCH.refused.clear()
    WATCH.forbidden = forbidden
    yield WATCH
    WATCH.forbidden = ()


def test_training_and_calibration_open_no_test_file(cli, watch: Watch, data: Path, trained, tmp_path: Path):
    result = cli("train", data, "--recipe", trained.recipe, "--run", "run", "--device", "cpu")
    assert result.code == 0, result.err
    assert watch.refused == []
    camera = write_good(tmp_path / "camera", 5, first_seed=900)
    assert cli("calibrate", "run", camera).code == 0 and watch.refused == []


def test_the_watch_would_have_noticed(cli, watch: Watch, data: Path, trained, monkeypatch: pytest.MonkeyPatch):
    """A training that looks at one test image fails."""
    secret = data / "test" / "hole" / "000.png"
    real = NormalPixels.__getitem__

    def peeking(pixels: NormalPixels, index: int):
        secret.read_bytes()
        return real(pixels, index)

    monkeypatch.setattr(NormalPixels, "__getitem__", peeking)
    result = cli("train", data, "--recipe", trained.recipe, "--run", "run", "--device", "cpu")
    assert result.code == 2 and "belongs to the test" in result.err
    assert watch.refused == [str(secret)]


def test_other_test_images_and_labels_give_the_same_detector(cli, data: Path, trained):
    """``trained`` has learned from the same good images, beside a test set of another content."""
    (data / "test" / "hole").rename(data / "test" / "was hole")
    (data / "test" / "stain").rename(data / "test" / "hole")
    (data / "test" / "was hole").rename(data / "test" / "stain")
    shutil.rmtree(data / "ground_truth")
    result = cli("train", data, "--recipe", trained.recipe, "--run", "run", "--device", "cpu")
    assert result.code == 0, result.err
    for name in ("model.safetensors", "calibration.json"):
        ours, theirs = (sorted((root / "model").glob(name)) for root in (Path("run"), trained.run))
        assert ours and ours[0].read_bytes() == theirs[0].read_bytes()


def test_the_leak_check_hands_nothing_on_but_a_count():
    assert [field.name for field in fields(LeakCheck)] == ["num_compared", "skipped", "remarks", "left_out"]


def test_a_labelled_image_is_no_training_image(tmp_path: Path):
    normal = NormalImage("a.png", tmp_path / "a.png")
    assert good_images([normal], DataSettings()) == [normal]
    with pytest.raises(UserError) as caught:
        good_images([normal, LabelledImage("b.png", tmp_path / "b.png", False, "good")], DataSettings())
    assert "NormalImage" in caught.value.problem and "LabelledImage" in caught.value.problem
    assert caught.value.place == "AnomalyDetector.fit" and "flawmap.load_images" in caught.value.remedy


def test_what_a_run_records_of_its_data_has_no_label(trained):
    header, *rows = (trained.run / "data_manifest.csv").read_text().splitlines()
    assert not {"label", "kind", "mask", "is_anomalous"} & set(header.split(","))
    assert all("train/good/" in row for row in rows) and len(rows) == 24
    assert "hole" not in json.dumps((trained.run / "recipe.yaml").read_text())

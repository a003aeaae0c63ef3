"""An exported file is measured as its run is: the same images, the same numbers, without torch."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from without_torch import run_without_torch

from assertions import explained
from flawmap.data.open_data import open_test_data
from flawmap.deploy import load
from flawmap.deploy.evaluate_file import evaluate_file
from flawmap.deploy.runtime import load_as_exported
from flawmap.evaluate.evaluate import evaluate
from flawmap.evaluate.test_images import TestImages
from flawmap.recipe.settings import DataSettings
from flawmap.runs.evaluation import read_evaluation, read_per_image
from flawmap.runs.sidecar import FORMAT, Sidecar, sidecar_bytes, sidecar_path
from images import striped, write_good, write_image
from tiny_detector import fitted_detector


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_good(root / "test" / "good", 6, first_seed=400)
    for number in range(6):
        pixels, mask = striped(500 + number), np.zeros((48, 48), np.uint8)
        pixels[8:20, 10:24], mask[8:20, 10:24] = 0, 255
        write_image(root / "test" / "scratch" / f"{number}.png", pixels)
        write_image(root / "ground_truth" / "scratch" / f"{number}_mask.png", mask)
    return root


@pytest.fixture
def parts(tmp_path: Path, onnx_file: Path) -> Path:
    (tmp_path / "line").mkdir()
    return Path(shutil.copy(onnx_file, tmp_path / "line" / "parts.onnx"))


def test_the_numbers_are_those_of_the_detector(parts: Path, labelled: Path, tmp_path: Path):
    by_file = evaluate_file(parts, TestImages([str(labelled)]), tmp_path / "out")
    by_run = evaluate(fitted_detector(), open_test_data(str(labelled), DataSettings()))
    assert (by_file.n_good, by_file.n_anomalous, by_file.n_pixel_images) == (6, 6, 12)
    for mine, theirs in ((by_file.image, by_run.image), (by_file.pixel, by_run.pixel)):
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].value == pytest.approx(theirs[name].value, abs=2e-3), name
    assert by_file.calibration == by_run.calibration and by_file.missed_rate == by_run.missed_rate
    assert by_file.per_scale == () and by_file.single_scale is None
    assert read_evaluation(tmp_path / "out") == by_file
    scores = [load(parts).predict(image.path).score for image in read_per_image(tmp_path / "out")]
    assert [image.score for image in read_per_image(tmp_path / "out")] == scores


def test_the_threshold_beside_the_file_judges(parts: Path, labelled: Path):
    facts = load_as_exported(parts).facts
    for threshold, rates in ((-1e9, (1.0, 0.0)), (1e9, (0.0, 1.0))):
        calibration = replace(facts.calibration, threshold=threshold)
        sidecar = Sidecar(FORMAT, facts.weights_sha256, facts.precision, None, calibration, "0.1.0")
        sidecar_path(parts).write_bytes(sidecar_bytes(sidecar))
        found = evaluate_file(parts, TestImages([str(labelled)]))
        assert (found.realised_false_alarm_rate, found.missed_rate) == rates


def test_the_base_installation_measures(parts: Path, labelled: Path):
    code = """
from pathlib import Path
from flawmap.deploy.evaluate_file import evaluate_file
from flawmap.evaluate.test_images import TestImages
found = evaluate_file(Path(sys.argv[2]), TestImages([sys.argv[3]]))
print(json.dumps([found.image_auroc, found.pixel_auroc, found.drift]))
"""
    image, pixel, drift = run_without_torch(code, parts, labelled)
    native = evaluate_file(parts, TestImages([str(labelled)]))
    assert (image, pixel, drift) == (native.image_auroc, native.pixel_auroc, None)


def test_what_cannot_be_measured_is_refused(parts: Path, labelled: Path, tmp_path: Path):
    asked = TestImages([str(labelled)])
    assert "no such file" in explained(lambda: evaluate_file(tmp_path / "none.onnx", asked)).problem
    assert "no such" in explained(lambda: evaluate_file(parts, TestImages([str(tmp_path / "nowhere")]))).problem
    assert "evaluation size" in explained(lambda: evaluate_file(parts, asked, evaluation_size_px=3)).problem
    sidecar_path(parts).write_text("{torn")
    assert "is damaged" in explained(lambda: evaluate_file(parts, asked)).problem

"""Run against exported files on a test set: what is counted, and the table that tells it."""

import dataclasses

import numpy as np
import pytest

from flawmap.deploy.parity import CheckImage, Parity, compare
from flawmap.deploy.runtime import ExportedModel
from flawmap.detect.detection import Detection
from flawmap_bench.speed import export_parity
from flawmap_bench.speed.export_parity import evenly, parity_table
from images import striped, write_category, write_image
from tiny_detector import fitted_detector


class Shifted(ExportedModel):
    """As the detector, but scores are moved, the more the later an image comes, and the map's first pixel, too."""

    def __init__(self, shifts: list[float]) -> None:
        super().__init__(fitted_detector().facts("tile"), lambda squares, size_px: [])
        self.shifts = iter(shifts)

    def predict(self, image, camera=None) -> Detection:
        native, shift = fitted_detector().predict(image), next(self.shifts)
        anomaly_map = native.anomaly_map.copy()
        anomaly_map[0, 0] += 2 * shift
        score = native.score + shift
        assert native.threshold is not None
        return dataclasses.replace(native, score=score, anomaly_map=anomaly_map, is_anomalous=score > native.threshold)


def test_each_file_has_its_own_differences_from_the_run(tmp_path):
    paths = [write_image(tmp_path / f"{number}.png", striped(number)) for number in range(4)]
    images = [CheckImage(path, number >= 2) for number, path in enumerate(paths)]
    seen = []
    same = compare(fitted_detector(), Shifted([0.0] * 4), images, lambda done, total: seen.append((done, total)))
    far = compare(fitted_detector(), Shifted([0.25, 0.0, 0.0, 1e6]), images)
    lost = compare(fitted_detector(), Shifted([0.0, np.nan, 0.0, 0.0]), images)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (same.max_score_difference, same.max_map_difference, same.n_verdicts_changed) == (0, 0, 0)
    assert same.is_good and same.auroc is not None and same.auroc[0] == same.auroc[1]
    assert far.max_score_difference == pytest.approx(1e6, rel=1e-6)
    assert far.max_map_difference == pytest.approx(2e6, rel=1e-6)
    flips = [fitted_detector().predict(paths[3]).is_anomalous is False]
    score, threshold = fitted_detector().predict(paths[0]).score, fitted_detector().calibration_.threshold
    flips.append(score <= threshold < score + 0.25)
    assert far.n_verdicts_changed == sum(flips) and not far.is_good
    assert np.isnan(lost.max_score_difference) and not lost.is_good and lost.auroc is None


def test_logits_and_maps_have_to_agree_too():
    assert Parity(6, 4.8e-5, 0.1, 0, None, 2e-5, 10.0).is_good
    assert not Parity(6, 4.8e-5, 0.1, 6, None, 2.0, 10.0).is_good  # votes alike, logits apart
    assert not Parity(6, 4.8e-5, 50.0, 6, None, 2e-5, 10.0).is_good  # maps apart
    assert not Parity(6, 4.8e-5, float("nan"), 0, None, 2e-5, 10.0).is_good


def test_the_table_has_a_row_per_file():
    good = Parity(348, 1.23e-5, 0.000456, 0, (0.96812, 0.96809))
    poor = Parity(348, 0.53, 2.0, 7, None)
    text = parity_table(
        {"ONNX Runtime fp32": good, "ONNX Runtime int8": poor}, {"ONNX Runtime fp32": 112.4, "ONNX Runtime int8": 31.0}
    )
    assert text.splitlines()[2:] == [
        "| ONNX Runtime fp32 | 112 | 1.2e-05 | 0.00046 | 0 of 348 | 96.81, 96.81 |",
        "| ONNX Runtime int8 | 31 | 0.53 | 2 | 7 of 348 | – |",
    ]


def test_a_part_of_the_images_is_spread_over_all_of_them(tmp_path):
    images = [CheckImage(tmp_path / str(number)) for number in range(10)]
    assert [one.path.name for one in evenly(images, 4)] == ["0", "2", "5", "7"]
    assert evenly(images, None) == evenly(images, 10) == evenly(images, 99) == images


def test_a_run_that_is_none_is_explained(tmp_path, capsys):
    assert export_parity.main([str(tmp_path), "elpv"]) == 2
    said = capsys.readouterr().err
    assert "error: " in said and "remedy: " in said


@pytest.mark.slow
def test_the_command_writes_every_form_and_prints_one_table(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxscript")
    of_fp32 = tuple(one for one in export_parity.EXPORTS["fp32"] if one[1] == "onnx")
    monkeypatch.setattr(export_parity, "EXPORTS", {"fp32": of_fp32})
    fitted_detector().save_pretrained(tmp_path / "model")
    data = write_category(tmp_path / "tile")
    assert export_parity.main([str(tmp_path / "model"), str(data), "--count", "6"]) == 0
    title, _, _, _, exact, half = capsys.readouterr().out.splitlines()
    assert title.startswith("6 of 18 test images")
    assert exact.startswith("| ONNX Runtime fp32 |") and "| 0 of 6 |" in exact
    assert half.startswith("| ONNX Runtime, weights fp16 |")
    assert float(exact.split("|")[3]) < 1e-3 and 0 < float(half.split("|")[3]) < 0.1

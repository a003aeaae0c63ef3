"""Evaluation on data whose defects saturate (MVTec LOCO): the new measures, in the files and for people."""

import json
from pathlib import Path

import numpy as np
import pytest

from assertions import quantised_scores
from flawmap.cli.evaluate import summary
from flawmap.data.images.truth import truth_of
from flawmap.data.open_data import open_test_data
from flawmap.evaluate.evaluate import evaluate
from flawmap.recipe.settings import DataSettings
from flawmap.report.estimates import headline, kinds
from flawmap.report.run_files import RunFiles
from flawmap.runs.evaluation import METRICS, Evaluation, read_evaluation
from loco_category import write_loco
from saturated_by_definition import by_definition
from tiny_detector import fitted_detector

SATURATED = ("au_spro_30", "au_spro_05")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loco")
    folder = root / "evaluation"
    folder.mkdir()
    evaluate(fitted_detector(), open_test_data(write_loco(root / "box"), DataSettings()), folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    evaluation = read_evaluation(folder)
    assert evaluation is not None
    return evaluation


def test_each_kind_has_the_area_of_the_definition_with_all_good_images(folder: Path, evaluation: Evaluation):
    data = open_test_data(folder.parent / "box", DataSettings())
    for kind, block in evaluation.by_kind.items():
        images = []
        for sample in data.samples:
            if sample.kind in ("good", kind):
                defects = truth_of(sample, 12, 16).defects
                anomaly_map = quantised_scores(fitted_detector().predict(sample.path).anomaly_map)
                images.append((anomaly_map, [(defect.pixels, defect.saturation_px) for defect in defects]))
        assert len(images) == 3
        for name, limit in (("au_spro_30", 0.3), ("au_spro_05", 0.05)):
            assert block.pixel[name].value == pytest.approx(by_definition(images, limit), abs=1e-9)


def test_the_mean_is_over_kinds(evaluation: Evaluation):
    for name in SATURATED:
        values = [block.pixel[name].value for block in evaluation.by_kind.values()]
        assert len(values) == 2 and evaluation.mean_over_kinds(name) == pytest.approx(np.mean(values))
    assert evaluation.mean_over_kinds("no such measure") is None


def test_sizes_have_the_measures_that_all_data_have(evaluation: Evaluation):
    assert all(not set(SATURATED) & set(block.pixel) for block in evaluation.by_size.values())


def test_people_are_told_the_mean_and_each_kind(evaluation: Evaluation):
    line = next(line for line in summary(evaluation).splitlines() if "AU-sPRO at 5 %" in line)
    assert f"{evaluation.mean_over_kinds('au_spro_05'):.3f}, the mean of logical_anomalies " in line
    assert "structural_anomalies" in line
    files = RunFiles(run=Path("run"), evaluation=evaluation)
    head, rows = kinds(files).head, kinds(files).rows
    assert head[-2:] == ("AU-sPRO 30 %", "AU-sPRO 5 %")
    expected = [f"{evaluation.by_kind[row[0]].pixel['au_spro_05'].value:.3f}" for row in rows]
    assert [row[-1] for row in rows] == expected
    titles = [row[0] for row in headline(files).rows]
    assert "AU-sPRO up to 5 % false pixels" in titles and "pixel F1 at the map's threshold" in titles


def test_an_evaluation_of_an_earlier_version_lacks_the_new_measures_and_is_read(folder: Path, tmp_path: Path):
    content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    blocks = [content, *(block for name in ("by_kind", "by_size", "by_stratum") for block in content[name].values())]
    for block in blocks:
        for measures in (block["image"], block["pixel"]):
            for name in (*SATURATED, "f1_at_threshold", "region_precision"):
                measures.pop(name, None)
    (tmp_path / METRICS).write_text(json.dumps(content), encoding="utf-8")
    earlier = read_evaluation(tmp_path)
    assert earlier is not None and list(earlier.image) == ["auroc", "ap", "f1_max", "fpr_at_95_tpr"]
    assert "sPRO" not in summary(earlier) and "F1 at this threshold" not in summary(earlier)
    assert "touch a defect" not in summary(earlier)
    titles = [row[0] for row in headline(RunFiles(run=Path("run"), evaluation=earlier)).rows]
    assert not any("F1 at the" in title or "sPRO" in title for title in titles)


def test_saturation_areas_are_in_pixels_of_the_original_at_any_evaluation_size(folder: Path, evaluation: Evaluation):
    data = open_test_data(folder.parent / "box", DataSettings())
    resized = evaluate(fitted_detector(), data, evaluation_size_px=32)
    assert {name: resized.pixel[name] for name in SATURATED} == {name: evaluation.pixel[name] for name in SATURATED}
    assert resized.pixel["auroc"] != evaluation.pixel["auroc"]

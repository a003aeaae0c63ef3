"""flawmap report --figures on a real run: attention and features come from its model."""

import shutil

import numpy as np
import pytest

from flawmap import AnomalyDetector
from flawmap.advice import install
from flawmap.evaluate import report_inputs
from flawmap.report.run_files import read_run
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.class_token import class_token
from images import NUM_TEST, pixels_of


@pytest.fixture
def evaluated(cli, run_copy, trained):
    """A run that was really evaluated."""
    assert cli("evaluate", run_copy, trained.data, "--device", "cpu").code == 0
    return run_copy


def test_an_evaluation_keeps_the_attention_that_its_report_shows(evaluated):
    shown = [image for image in read_run(evaluated).images if image.attention_file is not None]
    assert len(shown) == min(20, 3 * NUM_TEST)
    encoder = AnomalyDetector.from_pretrained(evaluated, "cpu").scorer_.encoder
    attention = class_token(encoder, pixels_of(shown[0].path), 32).attention
    stored = pixels_of(shown[0].attention_file)
    assert np.array_equal(stored, np.rint(255 * attention / attention.max()).astype(np.uint8))
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert f'alt="where the encoder looks in {shown[0].key}"' in page and "Attention was not saved" not in page


def test_figures_are_written_and_named(cli, evaluated):
    pytest.importorskip("sklearn")
    said = cli("report", evaluated, "--figures", "--json", "--device", "cpu")
    assert said.code == 0 and said.json["missing"] == {}
    names = sorted(path.name for path in (evaluated / "figures").iterdir())
    assert len(names) == len(said.json["figures"]) == 11 and "features.svg" in names
    features = (evaluated / "figures" / "features.svg").read_text(encoding="utf-8")
    assert all(f"{kind} ({NUM_TEST})" in features for kind in ("good", "hole", "stain"))


def test_without_the_test_images_the_rest_is_drawn(cli, evaluated):
    table = evaluated / "evaluation" / "per_image.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("/tile/", "/gone/"), encoding="utf-8")
    shutil.rmtree(evaluated / "evaluation" / "attention")
    said = cli("report", evaluated, "--figures", "--device", "cpu")
    assert said.code == 0
    assert "no features: the test images are gone, or the detector has no encoder" in said.out
    assert "no localization: no test image has a map" in said.out
    assert "scores.svg" in said.out
    assert "Attention was not saved" in (evaluated / "report.html").read_text(encoding="utf-8")


def test_a_run_without_an_evaluation_has_figures_of_its_training(cli, run_copy):
    said = cli("report", run_copy, "--figures", "--json")
    assert said.json["missing"]["features"] == "the run has not been evaluated"
    assert {path.rpartition("/")[2] for path in said.json["figures"]} == {
        *("training.svg", "simulated_defects.svg", "curves_pretrain.svg", "curves_finetune.svg"),
    }


def test_a_plain_report_loads_no_model(cli, evaluated, monkeypatch):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(AnomalyDetector, "from_pretrained", refuse)
    assert cli("report", evaluated).code == 0


def test_of_many_images_four_hundred_give_features(evaluated, monkeypatch):
    monkeypatch.setattr(report_inputs, "MAX_FEATURES", 5)
    detector, seen = AnomalyDetector.from_pretrained(evaluated, "cpu"), []
    images = read_run(evaluated).images
    features = report_inputs.features_of(detector, images, lambda done, total: seen.append((done, total)))
    assert features.vectors.shape == (5, detector.scorer_.encoder.embed_dim)
    assert seen[-1] == (5, 5)
    assert {"good"} < set(features.kinds)  # evenly over the table, so no kind is left out


def test_a_scorer_without_our_encoder_shows_neither(evaluated):
    detector = AnomalyDetector.from_pretrained(evaluated, "cpu")
    detector.scorer_ = None
    shutil.rmtree(evaluated / "evaluation" / "attention")
    report_inputs.keep_attention(RunFolder(evaluated), detector)
    assert not (evaluated / "evaluation" / "attention").exists()
    assert report_inputs.features_of(detector, read_run(evaluated).images, lambda done, total: None) is None


def test_without_torch_the_figures_that_need_no_model_are_drawn(cli, evaluated, monkeypatch):
    monkeypatch.setattr("flawmap.cli.report.find_spec", lambda name: None)
    said = cli("report", evaluated, "--figures", "--json")
    assert said.json["missing"] == {"features": f"needs the model: {install('train')}"}
    assert len(said.json["figures"]) == 10

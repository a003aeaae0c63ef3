"""Models on the hub, with a folder in the hub's place: what is sent, what is fetched, and what the card says."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from flawmap import AnomalyDetector, load_images
from flawmap.detect.pretrained import refresh_card
from flawmap.errors import UserError
from flawmap.runs.model_record import record_of_run
from images import striped, write_good
from tiny_detector import fitted_detector

FIVE = ["README.md", "calibration.json", "config.json", "model.safetensors", "recipe.yaml"]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that huggingface_hub's client reads and writes in place of the network."""
    root = tmp_path / "hub"

    class FolderApi:
        def create_repo(self, repository, private, exist_ok):
            assert exist_ok
            (root / repository).mkdir(parents=True, exist_ok=True)
            (root / repository / ".private").write_text(str(private))

        def upload_folder(self, repo_id, folder_path, allow_patterns):
            for name in allow_patterns:
                shutil.copy(Path(folder_path) / name, root / repo_id / name)
            return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(repository, revision, allow_patterns):
        if not (root / repository).is_dir():
            raise OSError("404: no such repository\nand more")
        place = tmp_path / "cache" / f"{repository.replace('/', '--')}-{revision}"
        place.mkdir(parents=True)
        for name in allow_patterns:
            shutil.copy(root / repository / name, place / name)
        return str(place)

    monkeypatch.setattr(huggingface_hub, "HfApi", FolderApi)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


def test_what_was_pushed_comes_back_the_same(hub):
    ours = fitted_detector()
    assert ours.push_to_hub("ana/tiles") == "https://hub.example/ana/tiles/commit/1"
    assert (hub / "ana/tiles/.private").read_text() == "True"
    assert sorted(path.name for path in (hub / "ana/tiles").iterdir()) == [".private", *FIVE]  # and no image
    theirs = AnomalyDetector.from_pretrained("hub:ana/tiles@v1", "cpu")
    assert theirs.predict(striped(5)).score == ours.predict(striped(5)).score
    assert theirs.calibration_ == ours.calibration_


@pytest.mark.parametrize("name", ["hub:tiles", "hub:", "hub:a/b/c", "hub:../../etc"])
def test_a_name_that_is_none_is_refused_before_the_network(hub, name):
    with pytest.raises(UserError, match="names no repository") as caught:
        AnomalyDetector.from_pretrained(name)
    assert "hub:OWNER/NAME" in caught.value.remedy
    with pytest.raises(UserError, match="names no repository"):
        fitted_detector().push_to_hub("tiles")


def test_a_model_that_cannot_be_fetched_is_explained(hub):
    with pytest.raises(UserError) as caught:
        AnomalyDetector.from_pretrained("hub:ana/none")
    assert caught.value.problem == "the model cannot be fetched (404: no such repository)"
    assert caught.value.place == "hub:ana/none" and caught.value.remedy


def test_a_folder_of_such_a_name_asks_no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # a call would fail
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder: ana/tiles"):
        AnomalyDetector.from_pretrained("ana/tiles")


def test_a_second_training_forgets_what_was_known_of_the_first(run, tmp_path):
    detector = AnomalyDetector.from_pretrained(run, "cpu")
    assert detector.record_["data"]["train"] == 2
    detector.fit(load_images(write_good(tmp_path / "good")), device="cpu")
    assert detector.record_ == {}


# ---- the card


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with a model, a list of images, and an evaluation."""
    run = tmp_path / "run"
    fitted_detector().save_pretrained(run / "model")
    rows = [("a.png", "11" * 32, "train"), ("b.png", "00" * 32, "train"), ("c.png", "22" * 32, "held_out")]
    with (run / "data_manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "sha256", "split"), *rows])
    (run / "environment.json").write_text(json.dumps({"data": "elpv"}))
    (run / "evaluation").mkdir()
    metrics = {
        "data": "tile",
        "n_good": 2,
        "n_anomalous": 2,
        "image": {"auroc": {"value": 0.98, "low": 0.9, "high": 1.0}, "ap": None},
        "pixel": {"aupro_30": {"value": 0.75, "low": 0.5, "high": 0.875}},
        "missed_rate": 0.5,
        "threshold": 0.25,
    }
    (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_the_record_knows_data_and_evaluation(run):
    record = record_of_run(run)
    # sha256 of "00..\n11..\n22..": sorted, so names and order do not matter
    joined = "\n".join(["00" * 32, "11" * 32, "22" * 32]).encode()
    assert record["data"]["sha256"] == hashlib.sha256(joined).hexdigest()
    assert (record["data"]["train"], record["data"]["held_out"]) == (2, 1)
    assert record["data"]["licence"].startswith("CC BY-NC-SA 4.0")
    measured = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert record["evaluation"]["image"] == {"auroc": measured["image"]["auroc"]}  # as the report has it
    assert record["evaluation"]["pixel"] == measured["pixel"]
    assert record_of_run(run / "model") == {}


def test_the_card_says_data_metrics_licences_and_use_and_travels_with_the_model(run, tmp_path):
    before = AnomalyDetector.from_pretrained(run, "cpu").predict(striped(1)).score
    refresh_card(run)
    AnomalyDetector.from_pretrained(run, "cpu").save_pretrained(tmp_path / "copy")
    for folder in (run / "model", tmp_path / "copy"):
        card = (folder / "README.md").read_text()
        for part in (
            "library_name: flawmap",
            "2 good images to train, 1 held out",
            record_of_run(run)["data"]["sha256"],
            "| image AUROC | 0.980 | 0.900 to 1.000 |",
            "| pixel AUPRO up to 30 % FPR | 0.750 | 0.500 to 0.875 |",
            "| missed rate at the threshold 0.25 | 50.0% | |",
            "false alarms, from 2 held-out normal images",
            "licence of the initial weights: none",
            "CC BY-NC-SA 4.0",
            "## Intended use",
            "Not a medical device",
        ):
            assert part in card, part
    assert AnomalyDetector.from_pretrained(tmp_path / "copy", "cpu").predict(striped(1)).score == before


def test_a_damaged_evaluation_is_explained(run):
    (run / "evaluation" / "metrics.json").write_text("{")
    AnomalyDetector.from_pretrained(run, "cpu")  # is no reason not to detect
    with pytest.raises(UserError, match="the evaluation cannot be read") as caught:
        record_of_run(run)
    assert caught.value.place == str(run / "evaluation") and caught.value.remedy == "flawmap evaluate RUN DATA"

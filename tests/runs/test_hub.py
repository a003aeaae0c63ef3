"""Models on the hub, with a folder in the hub's place: what is sent, what is fetched, and what the card says."""

import copy
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from flawmap import AnomalyDetector, load_images
from flawmap.errors import UserError
from flawmap.runs.evaluation import Measure, read_evaluation, write_evaluation
from flawmap.runs.manifest import ManifestRow, write_manifest
from flawmap.runs.model_config import ModelRecord, record_of_run
from flawmap.runs.model_folder import refresh_card
from flawmap.runs.run_folder import RunFolder, create_run
from images import striped, write_good
from made_up_evaluation import made_up_evaluation
from tiny_detector import fitted_detector

FIVE = ["README.md", "calibration.json", "config.json", "model.safetensors", "recipe.yaml"]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that huggingface_hub's client reads and writes in place of the network."""
    root = tmp_path / "hub"

    def copy(source, target, patterns):
        for file in [file for pattern in patterns for file in source.glob(pattern)]:
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))

    class FolderApi:
        def create_repo(self, repository, private, exist_ok):
            assert exist_ok
            (root / repository).mkdir(parents=True, exist_ok=True)
            (root / repository / ".private").write_text(str(private))

        def upload_folder(self, repo_id, folder_path, allow_patterns):
            copy(Path(folder_path), root / repo_id, allow_patterns)
            return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(repository, revision, allow_patterns):
        if not (root / repository).is_dir():
            raise OSError("404: no such repository\nand more")
        place = tmp_path / "cache" / f"{repository.replace('/', '--')}-{revision}"
        copy(root / repository, place, allow_patterns)
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


def test_the_thresholds_of_cameras_travel_with_the_model(hub):
    ours = copy.copy(fitted_detector())
    own = replace(ours.calibration_, threshold=12.5)
    ours.calibrations_ = ours.calibrations_.replaced("left", own)
    ours.push_to_hub("ana/tiles")
    theirs = AnomalyDetector.from_pretrained("hub:ana/tiles", "cpu", camera="left")
    assert theirs.calibration_ == own and theirs.calibrations_ == ours.calibrations_


def test_weights_that_changed_on_the_way_are_refused(hub):
    fitted_detector().push_to_hub("ana/tiles")
    path = hub / "ana/tiles" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(UserError, match="the weights are not those that were saved") as caught:
        AnomalyDetector.from_pretrained("hub:ana/tiles", "cpu")
    kept = Path(caught.value.place)
    assert caught.value.remedy == f"remove this file, so that it is downloaded again: rm {kept}"
    fitted_detector().push_to_hub("ana/tiles")
    kept.unlink()
    AnomalyDetector.from_pretrained("hub:ana/tiles", "cpu")


@pytest.mark.parametrize("name", ["hub:tiles", "hub:", "hub:a/b/c", "hub:../../etc"])
def test_an_invalid_name_is_refused_before_the_network(hub, name):
    with pytest.raises(UserError, match="is not the name of a repository") as caught:
        AnomalyDetector.from_pretrained(name)
    assert "hub:OWNER/NAME" in caught.value.remedy
    with pytest.raises(UserError, match="is not the name of a repository"):
        fitted_detector().push_to_hub("tiles")


def test_a_model_that_cannot_be_fetched_is_explained(hub):
    with pytest.raises(UserError) as caught:
        AnomalyDetector.from_pretrained("hub:ana/none")
    assert caught.value.problem == "the model cannot be downloaded (404: no such repository)"
    assert caught.value.place == "hub:ana/none" and caught.value.remedy


def test_a_folder_of_such_a_name_asks_no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # a call would fail
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder: ana/tiles"):
        AnomalyDetector.from_pretrained("ana/tiles")


def test_a_second_training_forgets_what_was_known_of_the_first(run, tmp_path):
    detector = AnomalyDetector.from_pretrained(run.path, "cpu")
    assert detector.record_.data.train == 2
    detector.fit(load_images(write_good(tmp_path / "good")), device="cpu")
    assert detector.record_ == ModelRecord()


# ---- the card


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run folder with a model, a list of images, and an evaluation."""
    run = create_run(tmp_path / "run", "elpv", fitted_detector().recipe)
    fitted_detector().save_pretrained(run.model)
    images = [("a.png", "11", "train"), ("b.png", "00", "train"), ("c.png", "22", "held_out")]
    rows = [ManifestRow(key, digits * 32, split, 48, 48, "p") for key, digits, split in images]
    write_manifest(run.manifest, rows)
    run.write_environment({"data": "elpv"})
    run.evaluation.mkdir()
    calibration = replace(fitted_detector().calibration_, threshold=0.25)
    measured = {
        "image": {"auroc": Measure(0.98, 0.9, 1.0), "ap": None},
        "pixel": {"aupro_30": Measure(0.75, 0.5, 0.875)},
    }
    evaluation = made_up_evaluation(2, 2, data="tile", calibration=calibration, missed_rate=0.5, **measured)
    write_evaluation(run.evaluation, evaluation)
    return run


def test_the_record_knows_data_and_evaluation(run):
    data, test = record_of_run(run).data, record_of_run(run).evaluation
    # sha256 of "00..\n11..\n22..": sorted, so names and order do not matter
    joined = "\n".join(["00" * 32, "11" * 32, "22" * 32]).encode()
    assert data.sha256 == hashlib.sha256(joined).hexdigest()
    assert (data.train, data.held_out) == (2, 1)
    assert data.licence.startswith("CC BY-NC-SA 4.0")
    measured = read_evaluation(run.evaluation)
    assert (test.image, test.pixel, test.missed_rate) == (measured.image, measured.pixel, 0.5)
    assert (test.n_good, test.n_anomalous, test.threshold) == (2, 2, 0.25)
    assert record_of_run(RunFolder(run.model)) == ModelRecord()


def test_the_card_says_data_metrics_licences_and_use_and_travels_with_the_model(run, tmp_path):
    before = AnomalyDetector.from_pretrained(run.path, "cpu").predict(striped(1)).score
    refresh_card(run.path)
    AnomalyDetector.from_pretrained(run.path, "cpu").save_pretrained(tmp_path / "copy")
    for folder in (run.model, tmp_path / "copy"):
        card = (folder / "README.md").read_text()
        for part in (
            "library_name: flawmap",
            "2 good images to train, 1 held out",
            record_of_run(run).data.sha256,
            "| image AUROC | 0.980 | 0.900–1.000 |",
            "| AUPRO up to 30 % false pixels | 0.750 | 0.500–0.875 |",
            "| missed rate at the threshold 0.25 | 50.0% | |",
            "false alarms, from 2 good images",
            "licence of the initial weights: none",
            "CC BY-NC-SA 4.0",
            "## Intended use",
            "Not a medical device",
        ):
            assert part in card, part
    assert AnomalyDetector.from_pretrained(tmp_path / "copy", "cpu").predict(striped(1)).score == before


def test_a_damaged_evaluation_is_explained(run):
    (run.evaluation / "metrics.json").write_text("{")
    AnomalyDetector.from_pretrained(run.path, "cpu")  # is no reason not to detect
    with pytest.raises(UserError, match=r"metrics\.json") as caught:
        record_of_run(run)
    assert caught.value.place == str(run.evaluation / "metrics.json")
    assert caught.value.remedy == "flawmap evaluate RUN DATA"

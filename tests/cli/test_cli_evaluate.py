"""flawmap evaluate and report on a real run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from assertions import files_and_bytes, quantised_scores
from flawmap import AnomalyDetector
from images import NUM_TEST, pixels_of, striped, write_category, write_good, write_image


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- evaluate


def test_metrics_are_scikit_learns_on_what_was_written(cli, run_copy, trained):
    said = cli("evaluate", run_copy, trained.data, "--json", "--device", "cpu")
    assert said.code == 0 and "evaluate" in said.err
    metrics, folder = said.json, run_copy / "evaluation"
    assert metrics == json.loads((folder / "metrics.json").read_text())
    rows = rows_of(folder)
    labels = np.array([int(row["is_anomalous"]) for row in rows])
    assert (metrics["n_good"], metrics["n_anomalous"]) == (NUM_TEST, 2 * NUM_TEST)
    scores = [float(row["score"]) for row in rows]
    assert metrics["image"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    detector = AnomalyDetector.from_pretrained(run_copy, "cpu")
    pooled = [row for row in rows if row["kind"] in ("good", "hole")]  # stains have no masks
    maps = np.stack([detector.predict(row["path"]).anomaly_map for row in pooled])
    truth = np.stack([truth_of(folder, row) for row in pooled])
    expected = roc_auc_score(truth.ravel(), quantised_scores(maps).ravel())
    assert metrics["pixel"]["auroc"]["value"] == pytest.approx(expected, abs=1e-9)
    assert sorted(metrics["by_kind"]) == ["hole", "stain"] and metrics["seconds_per_image"] > 0
    assert metrics["command"] == f"flawmap evaluate {run_copy} {trained.data} --json --device cpu"
    assert (run_copy / "report.html").stat().st_size > 10_000


def truth_of(folder: Path, row: dict[str, str]) -> np.ndarray:
    return pixels_of(folder / row["truth"]) > 0 if row["truth"] else np.zeros((48, 48), bool)


def test_the_summary_sets_one_scale_against_all_and_the_vote_against_the_mean(cli, run_copy, trained):
    said = cli("evaluate", run_copy, trained.data)
    metrics = json.loads((run_copy / "evaluation" / "metrics.json").read_text())
    lines = {line.split()[0]: line for line in said.out.splitlines()}
    scores, single = metrics["image_scores"], metrics["per_scale"][0]  # trained at 32 px
    assert lines["data"].split("  ")[-1].strip() == "tile: 6 good, 12 anomalous"
    image, pixel = metrics["image"]["auroc"], metrics["pixel"]["auroc"]
    assert f"AUROC {image['value']:.3f} [{image['low']:.3f}, {image['high']:.3f}]  by mean_logit" in lines["image"]
    assert f"AUROC {pixel['value']:.3f} [{pixel['low']:.3f}, {pixel['high']:.3f}]  on 12 images" in lines["pixel"]
    for name, measure in (("F1-max", metrics["image"]["f1_max"]), ("AUPRO at 30 %", metrics["pixel"]["aupro_30"])):
        assert f"{name} {measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]" in said.out
    assert lines["large"].split()[:3] == ["large", "defects", "n=6"]
    assert lines["drift"].endswith(metrics["drift"]["text"])
    stain = metrics["by_kind"]["stain"]["image"]["auroc"]
    interval = f"[{stain['low']:.3f}, {stain['high']:.3f}]"
    assert lines["stain"].split("  ")[-2:] == [f"image {stain['value']:.3f} {interval}", "pixel -"]
    assert f"32 px alone: image {single['image_auroc']:.3f}  pixel {single['pixel_auroc']:.3f};" in lines["scales"]
    assert f"all 2 scales: image {scores['mean_logit']:.3f}  pixel {pixel['value']:.3f}" in lines["scales"]
    assert f"vote {scores['vote']:.3f}, vote then mean logit {scores['vote_mean']:.3f}" in lines["score"]
    assert f"mean logit {scores['mean_logit']:.3f}, map's peak {scores['map_max']:.3f}" in lines["score"]
    assert f"{metrics['missed_rate']:.1%} missed" in lines["threshold"]
    assert "s per image" in lines["time"]


def test_an_earlier_evaluation_is_kept(cli, run_copy, trained):
    few = ("--set", "data.test_subset=1")
    cli("evaluate", run_copy, trained.data, *few)
    first = files_and_bytes(run_copy / "evaluation")
    for name in ("evaluation-earlier", "evaluation-earlier-2"):
        assert cli("evaluate", run_copy, trained.data, *few).code == 0
        assert (run_copy / name / "metrics.json").is_file()
    assert files_and_bytes(run_copy / "evaluation-earlier") == first
    assert sorted(p.name for p in run_copy.glob("evaluation*")) == [
        "evaluation",
        "evaluation-earlier",
        "evaluation-earlier-2",
    ]


def test_an_evaluation_that_is_cut_off_leaves_the_earlier_one_in_its_place(cli, run_copy, trained, monkeypatch):
    cli("evaluate", run_copy, trained.data, "--set", "data.test_subset=1")
    before = files_and_bytes(run_copy)
    analyse, calls = AnomalyDetector.analyse_many, []

    def stop_at_the_third(self, images, *more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return analyse(self, images, *more)

    monkeypatch.setattr(AnomalyDetector, "analyse_many", stop_at_the_third)
    said = cli("evaluate", run_copy, trained.data)
    assert (said.code, said.out) == (130, "") and said.err.endswith("interrupted\n")
    assert files_and_bytes(run_copy) == before


def test_an_output_folder_takes_the_results_and_a_taken_one_is_left_alone(cli, trained):
    before = files_and_bytes(trained.run)
    Path("mine").mkdir()
    Path("mine/photo.txt").write_text("precious")
    said = cli("evaluate", trained.run, trained.data, "--output", "mine", "--set", "data.test_subset=1")
    assert said.code == 0
    assert files_and_bytes(Path("mine")) == {"photo.txt": b"precious"}
    assert (Path("mine-2") / "metrics.json").is_file() and len(rows_of(Path("mine-2"))) == 2
    assert files_and_bytes(trained.run) == before


def test_a_model_folder_alone_is_evaluated_without_leaving_anything(cli, trained, tmp_path):
    model = Path(shutil.copytree(trained.run / "model", tmp_path / "model-alone"))
    before = files_and_bytes(tmp_path)
    said = cli("evaluate", model, trained.data, "--json", "--set", "data.test_subset=2")
    assert said.code == 0 and (said.json["n_good"], said.json["n_anomalous"]) == (2, 2)
    assert files_and_bytes(tmp_path) == before


def test_without_masks_pixel_metrics_are_null(cli, trained, tmp_path):
    write_good(tmp_path / "d" / "OK", 3, first_seed=30)
    write_good(tmp_path / "d" / "NG", 3, first_seed=40)
    sets = ("--set", "data.normal=OK", "--set", "data.anomalous=NG")
    said = cli("evaluate", trained.run, tmp_path / "d", *sets, "--output", "out", "--json")
    assert said.code == 0 and said.json["pixel"] is None and said.json["image"]["auroc"] is not None
    text = cli("evaluate", trained.run, tmp_path / "d", *sets, "--output", "out")
    assert "pixel      no AUROC: no image has ground truth for its pixels" in text.out


def test_pixels_can_be_compared_at_a_fixed_size(cli, trained):
    words = ("--set", "data.test_subset=2", "--evaluation-size", "24", "--output")
    said = cli("evaluate", trained.run, trained.data, *words, "out")
    metrics = json.loads((Path("out") / "metrics.json").read_text())
    assert metrics["evaluation_size_px"] == 24 and "images at 24 x 24 px" in said.out


@pytest.mark.parametrize("size", ["0", "-256", "5000"])
def test_an_impossible_evaluation_size_is_refused(cli, trained, forbidden, size):
    said = cli("evaluate", trained.run, trained.data, f"--evaluation-size={size}")
    assert said.code == 2 and f"is {size}, must be 16 to 4096 px\n  at: --evaluation-size" in said.err
    assert "remedy: for example 256" in said.err


def test_only_data_settings_can_change_after_training(cli, trained, forbidden):
    said = cli("evaluate", trained.run, trained.data, "--set", "detect.sizes_px=64")
    assert said.code == 2 and "error: --set detect.sizes_px=64" in said.err
    assert "remedy: only data.NAME=VALUE" in said.err


def test_unreadable_test_images_are_found_before_any_is_scored(cli, trained, tmp_path, forbidden):
    data = write_category(tmp_path / "tile")
    (data / "test" / "hole" / "003.png").write_bytes(b"\x89PNG broken")
    said = cli("evaluate", trained.run, data)
    assert (
        said.code == 2 and "1 file cannot be decoded: test/hole/003.png" in said.err and "--skip-unreadable" in said.err
    )


def test_unreadable_test_images_can_be_skipped_and_are_listed(cli, trained, tmp_path):
    data = write_category(tmp_path / "tile")
    (data / "test" / "hole" / "003.png").write_bytes(b"\x89PNG broken")
    said = cli("evaluate", trained.run, data, "--skip-unreadable", "--output", "out", "--json")
    assert said.code == 0 and said.json["n_anomalous"] == 2 * NUM_TEST - 1
    assert [one["key"] for one in said.json["skipped"]] == ["test/hole/003.png"]


def test_a_mask_of_another_size_is_found_before_any_image_is_scored(cli, trained, tmp_path, forbidden):
    data = write_category(tmp_path / "tile")
    mask = write_image(data / "ground_truth" / "hole" / "005_mask.png", np.full((10, 12), 255, np.uint8))
    for words in (("evaluate", trained.run, data), ("check", data)):
        said = cli(*words)
        assert said.code == 2 and said.out == ""
        assert "the mask is 12 x 10 px, its image 48 x 48 px" in said.err
        assert f"at: {mask}" in said.err and "remedy: save the mask at the size of its image" in said.err


def test_images_that_the_run_has_seen_are_no_test_images(cli, trained, tmp_path, forbidden):
    data = tmp_path / "d"
    write_good(data / "NG", 2, first_seed=40)
    write_good(data / "OK", 2, first_seed=50)
    write_image(data / "OK" / "seen.png", striped(7))  # train/good/007.png
    sets = ("--set", "data.normal=OK", "--set", "data.anomalous=NG")
    said = cli("evaluate", trained.run, data, *sets)
    assert said.code == 2 and "OK/seen.png is also in training as train/good/007.png" in said.err


# ---- report


def test_evaluate_says_where_the_report_is(cli, run_copy, trained):
    said = cli("evaluate", run_copy, trained.data)
    assert said.out.splitlines()[-1] == f"report     {run_copy / 'report.html'}"
    elsewhere = cli("evaluate", run_copy, trained.data, "--output", "elsewhere")
    assert "report  " not in elsewhere.out


def test_report_writes_the_page_again_and_says_where(cli, run_copy):
    said = cli("report", run_copy)
    assert said.code == 0 and said.err == "" and Path(said.out.strip()).samefile(run_copy / "report.html")
    Path(said.out.strip()).unlink()
    assert Path(cli("report", run_copy, "--json").json["report"]).is_file()


def test_report_of_no_run_is_explained(cli):
    said = cli("report", ".")
    assert said.code == 2 and "not a run folder" in said.err and "remedy: flawmap train DATA first" in said.err


def test_pictures_are_found_when_the_report_is_written_from_elsewhere(cli, run_copy, tmp_path, monkeypatch):
    data = write_category(tmp_path / "tile")
    write_image(data / "test" / "good" / "new.png", striped(5))
    monkeypatch.chdir(tmp_path)
    cli("evaluate", run_copy, "tile")
    monkeypatch.chdir("/")
    cli("report", run_copy)
    assert "The image is no longer at" not in (run_copy / "report.html").read_text(encoding="utf-8")

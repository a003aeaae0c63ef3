"""flawmap calibrate on a real run: a new threshold, one per camera, and the way back."""

import csv
import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from assertions import assert_explained, files_and_bytes
from flawmap import AnomalyDetector, UserError
from flawmap.deploy.reviews import ReviewFile, make_review
from flawmap.runs.result_folders import exclusive
from images import write_good


def test_a_new_threshold_replaces_the_old_one_which_is_kept(cli, run_copy, tmp_path):
    camera = write_good(tmp_path / "camera2", 9, first_seed=900)
    former = (run_copy / "model" / "calibration.json").read_bytes()
    said = cli("calibrate", run_copy, camera, "--false-alarm-rate", "0.2", "--json")
    scores = np.sort(AnomalyDetector.from_pretrained(run_copy, "cpu").score_samples(sorted(camera.iterdir())))
    assert said.code == 0 and said.json["threshold"] == scores[7]  # two of ten, a new one included, may be above
    calibration = said.json
    drift = calibration.pop("drift")
    assert [calibration.pop(name) for name in ("product", "camera", "version", "undone")] == [None, None, 1, None]
    assert calibration.pop("left_out") == []
    assert calibration == json.loads((run_copy / "model" / "calibration.json").read_text())
    before = json.loads(former)["held_out_scores"]
    assert (drift["n_calibration"], drift["n_now"]) == (len(before), 9)
    assert drift["p_value"] == pytest.approx(ks_2samp(before, scores, method="exact").pvalue, abs=1e-9)
    (kept,) = (run_copy / "versions").glob("0001-*-calibrate/former/calibration.json")
    assert kept.read_bytes() == former
    assert "for 20.00% false alarms, from 9 good images" in (run_copy / "model" / "README.md").read_text()
    again = cli("calibrate", run_copy / "model", camera, "--false-alarm-rate", "0.2")
    threshold, line, version = again.out.splitlines()
    assert threshold == (
        f"threshold  {scores[7]:.4g} for 20.00% false alarms, from 9 images "
        f"(cannot resolve below 10.0%); was {scores[7]:.4g}"
    )
    assert line == (
        "drift      1 false alarm on these 9 images with the former threshold: that fits the wanted 20 % "
        "(a rate from 0.281 % to 48.2 %). 9 and 9 images are too few to compare their scores (p = 1)."
    )
    assert version == f"version    2; to take it back: flawmap calibrate {run_copy / 'model'} --undo"
    assert not list((run_copy / "model").glob("*earlier*"))


def test_a_rate_that_so_few_images_cannot_promise_is_said(cli, run_copy, tmp_path):
    camera = write_good(tmp_path / "camera2", 9, first_seed=900)
    said = cli("calibrate", run_copy, camera, "--false-alarm-rate", "0.01")
    first, second, *_ = said.out.splitlines()
    assert "for 1.00% false alarms, from 9 images (cannot resolve below 10.0%)" in first
    assert second.strip() == "only 10.0% can be guaranteed; 1.00% needs 99 good images"


def test_too_few_good_images_set_no_threshold(cli, run_copy, tmp_path, forbidden):
    before = files_and_bytes(run_copy)
    said = cli("calibrate", run_copy, write_good(tmp_path / "few", 4, first_seed=900))
    problem = "4 images are here, too few for a threshold: at least 5 are needed"
    assert_explained(said, (problem,), str(tmp_path / "few"), ("add good images that training has not seen",))
    facts = AnomalyDetector.from_pretrained(run_copy, "cpu").facts("")
    review = make_review("a.png", "ab" * 32, facts.model_id, -1.5, 1.0, 0.5, "agree", "")
    ReviewFile(tmp_path / "reviews.csv").append(review)
    said = cli("calibrate", run_copy, tmp_path / "reviews.csv")
    problem = "1 image is reviewed as good, too few for a threshold: at least 5 are needed"
    assert_explained(said, (problem,), str(tmp_path / "reviews.csv"), ("review more good parts on the page",))
    assert files_and_bytes(run_copy) == before


def test_a_rate_in_percent_or_with_a_comma_is_explained(cli, trained, forbidden):
    for rate in ("5%", "0,05"):
        said = cli("calibrate", trained.run, trained.data, "--false-alarm-rate", rate)
        assert_explained(
            said, (f"--false-alarm-rate is {rate}, must be a number",), "flawmap calibrate", ("0.01 stands for 1 %",)
        )


def test_a_recalibrated_model_can_go_to_a_folder_of_its_own(cli, trained, tmp_path):
    camera = write_good(tmp_path / "camera2", 5, first_seed=900)
    before = files_and_bytes(trained.run)
    assert cli("calibrate", trained.run, camera, "--output", "camera2-model").code == 0
    assert AnomalyDetector.from_pretrained("camera2-model", "cpu").calibration_.n_held_out == 5
    assert files_and_bytes(trained.run) == before
    taken = cli("calibrate", trained.run, camera, "--output", "camera2-model")
    assert taken.code == 2 and "this folder already holds a model\n  at: camera2-model\nremedy: " in taken.err


def test_images_that_were_trained_on_set_no_threshold(cli, trained, forbidden):
    said = cli("calibrate", trained.run, trained.data)
    assert said.code == 2
    assert f"22 of these images were trained on, first: {trained.data / 'train' / 'good'}" in said.err
    assert f"at: {trained.run / 'data_manifest.csv'}" in said.err and "remedy: give good images that" in said.err


@pytest.mark.parametrize("rate", ["0", "1", "-1", "2e3"])
def test_an_impossible_rate_is_refused(cli, trained, tmp_path, rate, forbidden):
    camera = write_good(tmp_path / "camera2", 2, first_seed=900)
    said = cli("calibrate", trained.run, camera, f"--false-alarm-rate={rate}")
    assert said.code == 2 and f"the false-alarm rate is {float(rate):g}, must be between 0 and 1" in said.err


def test_two_calibrations_at_once_do_not_mix(cli, run_copy, tmp_path, forbidden):
    good, before = write_good(tmp_path / "camera2", 3, first_seed=900), files_and_bytes(run_copy)
    with exclusive(run_copy):  # as another process holds it
        said = cli("calibrate", run_copy / "model", good)
    assert_explained(said, ("another process works in this folder",), str(run_copy), ("wait until it is done",))
    assert files_and_bytes(run_copy) == before


# ---- cameras


def test_each_camera_has_its_own_threshold_and_the_default_stays(cli, run_copy, tmp_path):
    default = AnomalyDetector.from_pretrained(run_copy, "cpu").calibration_
    thresholds = {}
    for camera, first_seed in (("left", 900), ("right", 950)):
        good = write_good(tmp_path / camera, 9, first_seed=first_seed)
        said = cli("calibrate", run_copy, good, "--camera", camera, "--false-alarm-rate", "0.2", "--json")
        assert said.code == 0 and (said.json["camera"], said.json["n_held_out"]) == (camera, 9), said.err
        thresholds[camera] = said.json["threshold"]
    assert len({default.threshold, *thresholds.values()}) == 3
    for camera, threshold in ((None, default.threshold), *thresholds.items()):
        detector = AnomalyDetector.from_pretrained(run_copy, "cpu", camera=camera)
        assert detector.calibration_.threshold == threshold and detector.camera_ == camera
        assert detector.predict(sorted(good.iterdir())[0]).threshold == threshold
    again = cli("calibrate", run_copy, good, "--camera", "right", "--json")
    assert again.json["false_alarm_rate"] == 0.2  # as before, of this camera


def test_a_new_camera_is_compared_with_the_default_and_takes_its_rate(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    first = cli("calibrate", run_copy, good, "--camera", "left").out.splitlines()
    assert first[0].startswith("threshold  camera left: ") and "for 1.00% false alarms" in first[0]
    assert "; was" not in first[0] and "with the default threshold" in first[2]
    assert first[3] == f"version    1; to take it back: flawmap calibrate {run_copy} --undo --camera left"
    second = cli("calibrate", run_copy, good, "--camera", "left").out.splitlines()
    assert "; was" in second[0] and "with the former threshold" in second[2]


def test_another_folder_takes_all_cameras_with_it(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    assert cli("calibrate", run_copy, good, "--camera", "left").code == 0
    before = files_and_bytes(run_copy)
    said = cli("calibrate", run_copy, good, "--camera", "right", "--output", "copy")
    assert said.code == 0 and len(said.out.splitlines()) == 3  # nothing to take back
    assert files_and_bytes(run_copy) == before
    ours, copied = (AnomalyDetector.from_pretrained(path, "cpu").calibrations_ for path in (run_copy, "copy"))
    assert list(copied.cameras) == ["left", "right"] and copied.cameras["left"] == ours.cameras["left"]
    assert copied.default == ours.default


def test_a_camera_without_a_threshold_is_refused_with_the_command_that_helps(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    assert cli("calibrate", run_copy, good, "--camera", "left").code == 0
    with pytest.raises(UserError, match="no threshold for camera 'top'; known cameras: left") as caught:
        AnomalyDetector.from_pretrained(run_copy, "cpu", camera="top")
    words = shlex.split(caught.value.remedy.replace("GOOD_IMAGES", str(good)))
    assert words[0] == "flawmap" and cli(*words[1:]).code == 0
    assert AnomalyDetector.from_pretrained(run_copy, "cpu", camera="top").calibration_ is not None


@pytest.mark.parametrize("name", ["con", "a/b", "..", "a b", "Default", "x" * 65])
def test_a_name_that_no_file_can_have_is_refused(cli, trained, tmp_path, forbidden, name):
    good = write_good(tmp_path / "left", 2, first_seed=900)
    said = cli("calibrate", trained.run, good, "--camera", name)
    assert_explained(said, ("a camera cannot be named",), "--camera", ("--camera ",))


@pytest.mark.parametrize("camera", [(), ("--camera", "left")])
def test_a_damaged_threshold_is_mended_by_the_command_that_the_error_names(cli, run_copy, tmp_path, camera):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    assert cli("calibrate", run_copy, good, "--camera", "left").code == 0
    file = run_copy / "model" / ("cameras/left.json" if camera else "calibration.json")
    file.write_bytes(file.read_bytes()[:100])
    refused = cli("detect", good, "--model", run_copy)
    assert refused.code == 2 and f"at: {file}" in refused.err
    remedy = (
        refused.err.partition("remedy: ")[2].strip().replace("RUN", str(run_copy)).replace("GOOD_IMAGES", str(good))
    )
    assert remedy == f"flawmap calibrate {run_copy} {good}{' --camera left' if camera else ''}"
    assert cli(*shlex.split(remedy)[1:]).code == 0
    assert cli("detect", good, "--model", run_copy).code == 0


# ---- versions


def test_a_version_lists_command_and_images(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    words = ("calibrate", run_copy, good, "--camera", "left")
    assert cli(*words).code == 0
    (folder,) = (run_copy / "versions").iterdir()
    change = json.loads((folder / "version.json").read_text())["change"]
    assert change["command"] == shlex.join(["flawmap", *map(str, words)])
    assert (change["camera"], change["locations"], change["n_images"]) == ("left", [str(good)], 9)
    assert change["drift"].startswith("No false alarm on these 9 images") or "with the default" in change["drift"]
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(path.name for path in good.iterdir())
    for row in rows:
        assert row["sha256"] == hashlib.sha256((good / row["path"]).read_bytes()).hexdigest()


def test_undo_says_what_it_was_and_is_and_the_list_shows_all(cli, run_copy, tmp_path):
    file = run_copy / "model" / "calibration.json"
    states = [file.read_bytes()]
    none = cli("calibrate", run_copy, "--versions")
    assert none.code == 0 and none.out == "no change of a threshold is recorded since the training\n"
    for seed in (900, 950):
        good = write_good(tmp_path / str(seed), 9, first_seed=seed)
        assert cli("calibrate", run_copy, good).code == 0
        states.append(file.read_bytes())
    first, second, third = (json.loads(state)["threshold"] for state in states)
    undone = cli("calibrate", run_copy, "--undo")
    assert undone.code == 0 and file.read_bytes() == states[1]
    line, _, undo = undone.out.splitlines()
    assert line.startswith(f"threshold  {second:.4g} for") and line.endswith(f"; was {third:.4g}")
    assert undo.startswith("undone     version 2 of ") and undo.endswith(f": flawmap calibrate {run_copy} {good}")
    again = cli("calibrate", run_copy, "--undo", "--json")
    assert file.read_bytes() == states[0]
    assert (again.json["threshold"], again.json["version"], again.json["undone"]) == (first, 4, 1)
    refused = cli("calibrate", run_copy, "--undo")
    assert_explained(refused, ("no change of the default threshold",), str(run_copy), ("--versions",))
    listed = cli("calibrate", run_copy, "--versions").out.splitlines()
    assert [line.split()[0] for line in listed] == ["1", "2", "3", "4"]
    assert listed[3].endswith(f"undo: {second:.4g} -> {first:.4g} (takes back version 1)")
    as_json = cli("calibrate", run_copy, "--versions", "--json").json
    assert [version["change"]["undoes"] for version in as_json["versions"]] == [None, None, 2, 1]
    assert as_json["without_effect"] == as_json["damaged"] == []


def test_undo_of_one_camera_leaves_the_others(cli, run_copy, tmp_path):
    good = write_good(tmp_path / "left", 9, first_seed=900)
    for camera in ((), ("--camera", "left")):
        assert cli("calibrate", run_copy, good, *camera).code == 0
    default = (run_copy / "model" / "calibration.json").read_bytes()
    said = cli("calibrate", run_copy, "--undo", "--camera", "left")
    assert said.out.splitlines()[0].startswith("threshold  camera left: none, as before the first calibration; was ")
    assert (run_copy / "model" / "calibration.json").read_bytes() == default
    assert cli("calibrate", run_copy, "--undo", "--camera", "left").code == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "no good images are given"),
        (("good", "--undo"), "--undo goes without GOOD_IMAGES"),
        (("--undo", "--false-alarm-rate", "0.1"), "--undo goes without --false-alarm-rate"),
        (("good", "--versions", "--output", "x"), "--versions goes without GOOD_IMAGES and --output"),
        (("--undo", "--versions"), "not allowed with argument"),
    ],
)
def test_contradictions_are_refused(cli, trained, words, problem):
    before = files_and_bytes(trained.run)
    said = cli("calibrate", trained.run, *words)
    assert said.code == 2 and problem in said.err and "remedy: " in said.err
    assert files_and_bytes(trained.run) == before


@pytest.mark.parametrize("words", [("good",), ("--undo",), ("--versions",)])
def test_where_there_is_no_model_nothing_is_made(cli, words):
    write_good(Path("good"), 2)
    said = cli("calibrate", "nowhere", *words)
    assert said.code == 2 and "no such folder: nowhere" in said.err
    assert [path.name for path in Path().iterdir()] == ["good"]

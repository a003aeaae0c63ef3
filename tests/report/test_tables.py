"""The words and numbers of the report."""

from dataclasses import replace

from flawmap.metrics.score_drift import Drift
from flawmap.report import tables
from flawmap.report.html import write_report
from flawmap.report.run_files import read_run
from flawmap.runs.calibration import calibration_bytes
from flawmap.runs.cameras import calibration_file
from flawmap.runs.model_folder import replace_calibration
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.versions import CALIBRATE, UNDO, Change, Version, former_content, write_version


def cells(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_verdict_counts_the_images(made_up) -> None:
    n_found = int((made_up.anomalous > 0.6).sum())
    verdict = tables.verdict_of(read_run(made_up.run))
    assert verdict.sentence == f"It finds {n_found} of 40 anomalous images and raises 1 false alarm on 60 good images."
    assert verdict.remarks == ("Threshold 0.6, for 5 % false alarms, from 40 good images.",)


def test_verdict_says_when_the_promise_is_finer_than_the_held_out_images(made_up, recalibrate) -> None:
    recalibrate(false_alarm_rate=0.01)
    assert "less than 2.44 %" in tables.verdict_of(read_run(made_up.run)).remarks[0]


def test_verdict_repeats_the_evaluations_words_where_something_has_changed(made_up, change, recalibrate) -> None:
    for finding in ({"alarms": "more"}, {"alarms": "fewer"}, {"scores": "higher"}, {"scores": "lower"}):
        change(drift=Drift(40, 60, 0.5, 0.001, "Said once.", 12, 0.05, 0.1, 0.3, **finding))
        remarks = tables.verdict_of(read_run(made_up.run)).remarks
        assert remarks[1:] == ("Said once.",)
    for finding in ({"alarms": "as wanted"}, {"alarms": "too few images"}, {"scores": "too few images"}):
        change(drift=Drift(40, 60, 0.5, 0.2, "Said once.", 1, 0.05, 0.0, 0.3, **finding))
        assert len(tables.verdict_of(read_run(made_up.run)).remarks) == 1
    change(drift=Drift(40, 60, 0.5, 0.001, "Said once.", 12, 0.05, 0.1, 0.3, "more"))
    recalibrate(threshold=0.7)  # which the evaluation's drift says nothing of
    assert not [remark for remark in tables.verdict_of(read_run(made_up.run)).remarks if "Said once." in remark]


def test_verdict_says_when_the_threshold_is_another_now(made_up, recalibrate) -> None:
    recalibrate(threshold=0.7)
    first, second = tables.verdict_of(read_run(made_up.run)).remarks
    assert first.startswith("Threshold 0.7, ")
    assert "since the evaluation" in second and second.endswith("the threshold 0.6.")


def test_commands_make_the_run_again_in_order(made_up, change) -> None:
    model = made_up.run / "model"

    def calibrate(number: int, threshold: float, camera: str | None = None) -> Version:
        content = calibration_bytes(replace(read_run(made_up.run).calibration, threshold=threshold))
        done = Change(CALIBRATE, f"calibrate {number}", camera, threshold, None, 0.05)
        version = write_version(model, done, {calibration_file(camera): content}, ())
        replace_calibration(model, camera, content)
        return version

    def commands() -> list[str]:
        return tables.commands(read_run(made_up.run))

    RunFolder(made_up.run).write_environment({"command": "train"})
    change(command="evaluate")
    assert commands() == ["train", "evaluate"]
    calibrate(1, 0.7)
    assert commands() == ["train", "evaluate", "calibrate 1"]  # it was evaluated with the threshold of the training
    calibrate(2, 0.9, "left")
    taken_back = calibrate(3, 0.8)
    change(command="evaluate", calibration=read_run(made_up.run).calibration)
    assert commands() == ["train", "calibrate 1", "calibrate 2", "calibrate 3", "evaluate"]
    undo = Change(UNDO, "undo", None, 0.7, 0.8, 0.05, undoes=taken_back.number)
    content = former_content(model, taken_back, "calibration.json")
    write_version(model, undo, {"calibration.json": content}, ())
    replace_calibration(model, None, content)
    change(command="evaluate", calibration=read_run(made_up.run).calibration)
    assert commands() == ["train", "calibrate 1", "evaluate", "calibrate 2"]
    assert "train\ncalibrate 1\nevaluate\ncalibrate 2\n" in write_report(made_up.run).read_text()


def test_simulated_defects_are_apart_from_test_results(made_up) -> None:
    config = read_run(made_up.run).config
    table = tables.simulated(config)
    assert table.rows == (("image AUROC", "0.988", "32 images, each with and without a defect"),)
    assert tables.simulated(replace(config, held_out_simulated_defects=None)).rows == ()
    calibration, proxy = read_run(made_up.run).calibration, config.held_out_simulated_defects
    scores = tuple(calibration.threshold + step for step in (-0.2, -0.1, 0.0, 0.1))  # the threshold itself is good
    known = replace(config, held_out_simulated_defects=replace(proxy, defect_scores=scores))
    assert tables.simulated(known, calibration).rows[-1] == (
        "missed at the threshold",
        "75%",
        "4 simulated defects; real ones differ",
    )
    assert tables.simulated(None).rows == ()


def test_verdict_without_one_of_the_classes(made_up) -> None:
    files = read_run(made_up.run)
    sentence = tables.verdict_of(replace(files, images=files.images[:60])).sentence
    assert "no defects" in sentence and sentence.startswith("It raises 1 false alarm")
    sentence = tables.verdict_of(replace(files, images=files.images[60:])).sentence
    assert "no good images" in sentence and sentence.startswith("It finds")


def test_comparisons_emphasize_what_is_in_use(made_up) -> None:
    evaluation = read_run(made_up.run).evaluation
    scores, sizes = tables.image_scores(evaluation), tables.scales(evaluation)
    assert [scores.rows[i] for i in scores.strong] == [("votes, ties by mean logit", "0.931")]
    assert cells(scores)["highest value of the map"] == ("–",)
    assert sizes.rows[0] == ("224 px alone (nearest to training's)", "0.901", "0.774")
    assert [sizes.rows[i] for i in sizes.strong] == [("all sizes together", "0.922", "0.842")]
    of_tokens = replace(evaluation, image_scores={"mean_logit": 0.5, "map_max": 0.4}, image_score="mean_logit")
    table = tables.image_scores(of_tokens)
    assert table.rows == (("the model's own", "0.500"), ("highest value of the map", "0.400"))
    assert tables.scales(replace(evaluation, per_scale=evaluation.per_scale[:1])).rows == ()  # nothing to compare


def test_nested_settings_become_rows() -> None:
    source = {"a": {"b": [1, 2], "c": None}, "d": "x"}
    assert tables.flat(source) == [("a.b", "1, 2"), ("a.c", "–"), ("d", "x")]


def test_weights_and_data_have_their_licences(made_up) -> None:
    page = write_report(made_up.run).read_text()
    for name, text in (("weights", "dinov2"), ("licence of the weights", "Apache-2.0")):
        assert f'<th scope="row">{name}</th><td>{text}</td>' in page
    assert '<th scope="row">licence of the data</th><td>CC BY-NC-SA 4.0</td>' in page

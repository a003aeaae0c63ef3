"""The words and numbers of the report."""

import json

from flawmap.report import tables
from flawmap.report.run_files import read_run


def cells(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_verdict_counts_the_pictures(made_up) -> None:
    n_found = int((made_up.anomalous > 0.6).sum())
    verdict = tables.verdict_of(read_run(made_up.run))
    assert (
        verdict.sentence == f"It finds {n_found} of 40 anomalous pictures and raises 1 false alarm on 60 good pictures."
    )
    assert verdict.remarks == ("Threshold 0.6, for 5 % false alarms, from 40 held-out good pictures.",)


def test_verdict_says_when_the_promise_is_finer_than_the_held_out_images(made_up) -> None:
    file = made_up.run / "model" / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"false_alarm_rate": 0.01}))
    assert "cannot promise less than 2.44 %" in tables.verdict_of(read_run(made_up.run)).remarks[0]


def test_verdict_says_when_false_alarms_contradict_the_promise(made_up) -> None:
    table = made_up.run / "evaluation" / "per_image.csv"
    lines = table.read_text().splitlines()
    flagged = [line.replace(",0,maps", ",1,maps") if i <= 12 else line for i, line in enumerate(lines)]
    table.write_text("\n".join(flagged))
    remarks = tables.verdict_of(read_run(made_up.run)).remarks
    assert "More false alarms than promised (20.0 % against 5 %)" in remarks[1]


def test_verdict_says_when_the_threshold_is_another_now(made_up) -> None:
    file = made_up.run / "model" / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threshold": 0.7}))
    first, second = tables.verdict_of(read_run(made_up.run)).remarks
    assert first.startswith("Threshold 0.7, ")
    assert second.endswith("since the evaluation: the counts are those of the threshold 0.6.")


def test_simulated_defects_are_apart_from_test_results(made_up) -> None:
    table = tables.simulated(read_run(made_up.run).config)
    assert table.rows == (("image AUROC", "0.988", "32 pictures, each with and without a defect"),)
    assert tables.simulated({"held_out_simulated_defects": None}).rows == ()


def test_verdict_without_one_of_the_classes(made_up) -> None:
    table = made_up.run / "evaluation" / "per_image.csv"
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *lines[:60]]))
    files = read_run(made_up.run)
    assert tables.verdict_of(files).sentence.endswith("the test data has no defects, so what it would find is unknown.")
    table.write_text("\n".join([head, *lines[60:]]))
    files = read_run(made_up.run)
    assert tables.verdict_of(files).sentence.endswith("no good pictures, so false alarms are unknown.")


def test_comparisons_emphasize_what_is_in_use(made_up) -> None:
    metrics = read_run(made_up.run).metrics
    scores, sizes = tables.image_scores(metrics), tables.scales(metrics)
    assert [scores.rows[i] for i in scores.strong] == [("votes, ties by mean logit", "0.931")]
    assert cells(scores)["highest value of the map"] == ("–",)
    assert sizes.rows[0] == ("224 px alone (nearest to training's)", "0.901", "0.774")
    assert [sizes.rows[i] for i in sizes.strong] == [("all sizes together", "0.922", "0.842")]
    of_tokens = tables.image_scores({"image_scores": {"mean_logit": 0.5, "map_max": 0.4}, "image_score": "mean_logit"})
    assert of_tokens.rows == (("the model's own", "0.500"), ("highest value of the map", "0.400"))
    only = tables.scales({"single_scale": {"size_px": 96, "image_auroc": 0.5}, "image_auroc": 0.6})
    assert only.rows == ()  # one size has nothing to be compared with
    assert tables.scales({}).rows == ()


def test_nested_settings_become_rows() -> None:
    source = {"a": {"b": [1, 2], "c": None}, "d": "x"}
    assert tables.flat(source) == [("a.b", "1, 2"), ("a.c", "–"), ("d", "x")]
    assert tables.provenance({"licences": {"data": "CC0"}, "size": 3}) == [("licences.data", "CC0")]
    assert tables.provenance({"record": {"data": {"licence": "CC0"}}}) == [("licence of the data", "CC0")]

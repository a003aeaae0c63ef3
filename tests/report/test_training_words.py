"""What is said about a training follows from its recipe and its log."""

import math

import pytest

from flawmap.recipe.files import PRESETS, load_recipe, to_yaml
from flawmap.report.html import write_report
from flawmap.report.training_words import (
    collapse_sentence,
    known_defects_sentences,
    no_curves_sentence,
    num_prototypes,
    sample_columns,
    samples_sentence,
)
from flawmap.runs.known_defects import KnownDefectScores, ScoredDefect


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_masked_views_are_shown_where_stage_1_hides_patches(preset: str) -> None:
    recipe = load_recipe(preset)
    assert ("masked" in sample_columns(recipe)) == recipe.pretrain.enabled
    assert ("patches are hidden" in samples_sentence(recipe)) == recipe.pretrain.enabled
    remembers = recipe.method == "memory"
    assert ("does not learn from simulated defects" in samples_sentence(recipe)) == remembers
    assert ("treated as training treats its own" in samples_sentence(recipe)) != remembers
    assert ("nothing step by step" in no_curves_sentence(recipe)) == (remembers and not recipe.pretrain.enabled)


def test_without_a_recipe_everything_is_shown() -> None:
    assert list(sample_columns(None)) == ["input", "attention", "masked", "simulated", "map"]
    assert no_curves_sentence(None) == "The run holds no log of training."


def test_the_page_has_no_column_of_masked_views_where_none_are_made(trained_run) -> None:
    assert ">masked view</span>" in write_report(trained_run).read_text()
    recipe = load_recipe("standard", ["method=memory", "pretrain.enabled=false"])
    (trained_run / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    (trained_run / "log.jsonl").unlink()
    page = write_report(trained_run).read_text()
    assert "masked view" not in page and "learns nothing step by step" in page


def test_collapse_is_judged_by_the_entropy_of_the_last_steps() -> None:
    uniform = [{"stage": "pretrain", "target_entropy": math.log(20), "prototypes_used_recently": 1}] * 5
    clear = [{"stage": "pretrain", "target_entropy": 2.5, "prototypes_used_recently": 17}] * 20
    sentence = collapse_sentence([*uniform, *clear, {"stage": "finetune", "loss": 1.0}], 20)
    assert "17 of 20 prototypes are in use" in sentence
    assert sentence.endswith("2.50 of at most ln 20 = 3.00 (83%): not collapsed.")
    assert "collapsed: uniform targets" in collapse_sentence(uniform * 4, 20)
    assert "17 prototypes are in use; the targets' entropy is 2.50." in collapse_sentence(clear, None)
    assert collapse_sentence([{"stage": "finetune", "loss": 1.0}], 20) == ""


def test_the_number_of_prototypes_is_that_of_our_objective() -> None:
    assert num_prototypes(load_recipe("paper")) == 20
    assert num_prototypes(load_recipe("paper", ["pretrain.objective=dino"])) is None
    assert num_prototypes(None) is None


def test_the_missed_defects_are_those_of_the_training() -> None:
    found, missed = ScoredDefect("a.png", 3.0, True), ScoredDefect("b.png", 1.0, False)
    scores = KnownDefectScores(2.0, 0.05, (found, missed))
    count, which = known_defects_sentences(scores)
    assert count.startswith("1 of 2 known defects missed at 5.00% false alarms")
    assert which == "Missed, the lowest score first: b.png."
    assert known_defects_sentences(scores, is_updated=True)[:2] == (count, which)
    assert "flawmap update does not measure it again" in known_defects_sentences(scores, is_updated=True)[2]
    assert known_defects_sentences(None, is_updated=True) == ()

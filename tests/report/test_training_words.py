"""What is said of a training follows from what its recipe trains."""

import pytest

from flawmap.recipe.files import PRESETS, load_recipe, to_yaml
from flawmap.report.html import write_report
from flawmap.report.training_words import no_curves_sentence, sample_columns, samples_sentence


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_masked_views_are_shown_where_stage_1_hides_patches(preset: str) -> None:
    recipe = load_recipe(preset)
    text = to_yaml(recipe)
    assert ("masked" in sample_columns(text)) == recipe.pretrain.enabled
    assert ("patches are hidden" in samples_sentence(text)) == recipe.pretrain.enabled
    remembers = recipe.method == "memory"
    assert ("learns from no simulated defect" in samples_sentence(text)) == remembers
    assert ("treated as training treats its own" in samples_sentence(text)) != remembers
    assert ("nothing step by step" in no_curves_sentence(text)) == (remembers and not recipe.pretrain.enabled)


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "pretrain: 3"])
def test_without_a_readable_recipe_everything_is_shown(text: str) -> None:
    assert list(sample_columns(text)) == ["input", "attention", "masked", "simulated", "map"]
    assert no_curves_sentence(text) == "The run holds no log of training."


def test_the_page_has_no_column_of_masked_views_where_none_are_made(trained_run) -> None:
    assert ">masked view</span>" in write_report(trained_run).read_text()
    (trained_run / "recipe.yaml").write_text("method: memory\npretrain:\n  enabled: false\n")
    (trained_run / "log.jsonl").unlink()
    page = write_report(trained_run).read_text()
    assert "masked view" not in page and "learns nothing step by step" in page

"""Stages of the scorers on tokens, done again: what their keys depend on, and going on after a stop."""

from pathlib import Path

import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import choose_compute
from flawmap.engine.tensor_files import read_tensors
from flawmap.memory import head_training, shards
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.runs.training_log import LogFile
from images import write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=6", "residual.simulated_images=6"),
)
STAGES = ("encoding", "memory", "residual", "expectation")
ON_MEMORY = STAGES[1:]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return load_images(write_good(tmp_path_factory.mktemp("good"), 20)).images


def trained(folder: Path, good, *changes: str, scoring: str = "fused") -> tuple[RunFolder, dict[str, str]]:
    recipe = tiny_recipe(*SMALL, f"method={scoring}", *changes)
    run = create_run(folder / "run", "test", recipe)
    result = fit_scorer(good, recipe, run, choose_compute("cpu", "fp32"), save_every_seconds=0.0)
    return run, result.stage_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory, good) -> dict[str, str]:
    """Of a training without changes."""
    return trained(tmp_path_factory.mktemp("unchanged"), good)[1]


QUICK = (
    ("compute.precision=int8", STAGES),
    ("memory.tokens=30", ON_MEMORY),
    ("expectation.images=5", STAGES),  # which images keep all their tokens
    ("memory.image_share=0.5", ("expectation",)),  # read from the memory, not built into it
    ("fusion.map_weights=[1, 1]", ()),
    ("residual.simulation.simulator=cutpaste", ("residual", "expectation")),
    ("calibration.folds=3", ON_MEMORY),
)
SLOW = (
    ("memory.relative=true", STAGES),
    ("memory.blocks=[1]", STAGES),
    ("seed=1", STAGES),
    ("memory.candidates=99", STAGES),
    ("memory.spacing_neighbours=3", ON_MEMORY),
    ("residual.simulated_images=5", ("residual", "expectation")),
    ("memory.map_scale_images=3", ()),
    ("expectation.min_neighbours=3", ("expectation",)),
    ("model.drop_path_rate=0.3", ()),
    ("residual.steps=3", ("residual", "expectation")),
    ("calibration.false_alarm_rate=0.2", ()),
    ("detect.image_score=map_max", ()),
)


@pytest.mark.parametrize(
    ("change", "stages"), [*QUICK, *(pytest.param(*change, marks=pytest.mark.slow) for change in SLOW)]
)
def test_a_key_changes_with_what_its_stage_depends_on(
    tmp_path: Path, good, keys: dict[str, str], change: str, stages: tuple[str, ...]
):
    _, after = trained(tmp_path, good, change)
    assert tuple(stage for stage in STAGES if keys[stage] != after[stage]) == stages


def test_scorers_of_one_memory_share_it(tmp_path: Path, good):
    fused, residual, memory = (
        trained(tmp_path / scoring, good, scoring=scoring)[1] for scoring in ("fused", "residual", "memory")
    )
    assert fused["memory"] == residual["memory"] == memory["memory"] and fused["residual"] == residual["residual"]
    assert len({keys["expectation"] for keys in (fused, residual, memory)}) == 3


def test_a_head_that_is_trained_again_after_a_stop_is_the_same_head(tmp_path: Path, good, monkeypatch):
    whole, _ = trained(tmp_path / "whole", good)
    recipe = tiny_recipe(*SMALL, "method=fused")
    run = create_run(tmp_path / "broken" / "run", "test", recipe)
    compute = choose_compute("cpu", "fp32")
    write = head_training.StepLog.write

    def stopped(self: head_training.StepLog, step: int, *rest: object) -> None:
        write(self, step, *rest)
        if step == 4:
            raise RuntimeError("stopped")

    monkeypatch.setattr(head_training.StepLog, "write", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_scorer(good, recipe, run, compute)
    assert run.stage_output("memory").is_file() and not run.stage_output("residual").exists()
    monkeypatch.setattr(head_training.StepLog, "write", write)
    monkeypatch.setattr(shards, "encode_good_images", None)  # good images are not encoded again
    fit_scorer(good, recipe, run, compute)
    for stage in STAGES:
        found, expected = read_tensors(run.stage_output(stage)), read_tensors(whole.stage_output(stage))
        assert found.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
    steps = [record["step"] for record in LogFile(run.log).records() if record["stage"] == "residual"]
    assert steps == list(range(6))  # what the stopped training logged is gone

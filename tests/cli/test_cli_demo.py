"""flawmap demo, with a recipe that takes seconds instead of minutes."""

import json
from pathlib import Path

import pytest

import flawmap.cli.demo as verb
from flawmap.recipe.files import to_yaml
from tiny_detector import tiny_recipe


@pytest.mark.slow
def test_the_demo_trains_evaluates_reports_and_is_not_repeated_in_vain(cli, monkeypatch):
    pytest.importorskip("elpv_dataset")
    subsets = ("data.train_subset=24", "data.test_subset=4", "pretrain.enabled=false", "finetune.steps=1")
    Path("tiny.yaml").write_text(to_yaml(tiny_recipe(*subsets)), encoding="utf-8")
    monkeypatch.setattr(verb, "RECIPE", "tiny.yaml")
    result = cli("demo", "--device", "cpu")
    assert result.code == 0, result.err
    assert "data       elpv: 4 good, 4 anomalous" in result.out and "report     runs/demo/report.html" in result.out
    model = Path("runs/demo/model/model.safetensors").stat().st_mtime_ns
    again = cli("demo", "--device", "cpu", "--json")
    assert again.json == json.loads(Path("runs/demo/evaluation/metrics.json").read_text())
    assert Path("runs/demo/model/model.safetensors").stat().st_mtime_ns == model
    assert "finetune" not in again.err  # nothing was trained again

"""Planted defects: which images they replace, and that a training on such a board is that of the product."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import fit
from flawmap.metrics.ranking import auroc
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap_bench.trials import planted_defects
from flawmap_bench.trials.encoded_board import Board, open_board
from flawmap_bench.trials.planted_defects import planted, row_of, train_and_score

RECIPE = {
    "base": "standard",
    "data": {"image_size_px": 64},
    "model": {"weights": "random", "architecture": "test_vit", "drop_path_rate": 0.0},
    "memory": {"blocks": [1, 3], "tokens": 60, "image_share": 0.2},
    "expectation": {"min_neighbours": 3},
}


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture
def board(recipe_path: Path, mvtec_folder: Path, tmp_path: Path) -> Board:
    return open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")


def test_defects_take_the_place_of_good_images_and_leave_the_test(board: Board):
    some = planted(board, 0.1, seed=0)
    assert some.is_planted.sum() == 2 and (~some.stays).sum() == 2 and len(some.board.good) == len(board.good)
    assert all(sample.is_anomalous for sample, stays in zip(board.test.samples, some.stays, strict=True) if not stays)
    key_of = {f"planted/{sample.key}": number for number, sample in enumerate(board.test.samples)}
    for place, (image, tokens) in enumerate(zip(some.board.good, some.board.encoded_good.tokens, strict=True)):
        if some.is_planted[place]:
            assert (
                torch.equal(tokens, board.encoded_test.tokens[key_of[image.key]]) and not some.stays[key_of[image.key]]
            )
        else:
            assert image == board.good[place] and torch.equal(tokens, board.encoded_good.tokens[place])


def test_draws_differ_by_seed_only_and_are_at_most_all_defects(board: Board):
    first, same, other = (planted(board, 0.1, seed).is_planted for seed in (0, 0, 1))
    assert (first == same).all() and (first != other).any()
    everything = planted(board, 0.9, seed=0)
    assert everything.is_planted.sum() == sum(sample.is_anomalous for sample in board.test.samples)
    nothing = planted(board, 0.0, seed=0)
    assert nothing.board.good == board.good and nothing.stays.all() and not nothing.is_planted.any()


def test_good_images_score_as_in_a_training(board: Board, tmp_path: Path):
    recipe = replace(board.recipe, method="memory", memory=replace(board.recipe.memory, shifts=0))
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    context = StageContext(run, choose_compute("cpu", "fp32"), 0, 64, {})
    simulation = recipe.residual.simulation
    unseen = fit(board.good, board.encoder, recipe, context, simulator_by_name(simulation.simulator, simulation)).unseen
    assert unseen is not None
    scored = train_and_score(board, 0)
    np.testing.assert_allclose(scored.unseen, unseen.image_scores, atol=0.02, rtol=0.02)  # tokens in float16
    assert scored.references.tolist() == unseen.images


def test_a_row_counts_what_is_found(board: Board):
    some, scored = planted(board, 0.1, seed=0), train_and_score(board, 0)
    scores = np.where(some.is_planted, 99.0, np.linspace(-1, 1, len(scored.unseen)))
    row = row_of(some, replace(scored, unseen=scores), scored)
    assert row[3:] == ["2 of 2", "2 and 0"] and row[2] == "+0.00"
    is_anomalous = np.array([sample.is_anomalous for sample in board.test.samples])[some.stays]
    assert row[0] == row[1] == f"{100 * auroc(scored.test[some.stays], is_anomalous):.2f}"
    none = row_of(planted(board, 0.0, seed=0), scored, scored)
    assert none[3] == "–"


def test_the_command_prints_a_row_for_each_share_and_seed(
    board: Board, recipe_path: Path, mvtec_folder: Path, tmp_path: Path, monkeypatch, capsys
):
    words = [
        f"{mvtec_folder}:{recipe_path}",
        "--cache",
        str(tmp_path / "cache"),
        "--shares",
        "0.1",
        "--seeds",
        "0",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["planted_defects", *words])
    planted_defects.main()
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \| [+-][\d.]+ \|", capsys.readouterr().out, re.M)
    assert rows == [("0", "0"), ("0", "0.1"), ("1", "0"), ("1", "0.1")]

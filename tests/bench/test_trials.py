"""The trials: encoded images, scores that equal those of a training, and what is printed of variants."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from flawmap.data.images.files import read_image
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import LabelledImage
from flawmap.engine.stage import StageContext
from flawmap.memory.fit import fit
from flawmap.memory.scorer import TokenScorer
from flawmap.metrics.ranking import auroc
from flawmap.runs.run_folder import RunFolder
from flawmap.simulators.by_name import simulator_by_name
from flawmap.vit.inputs import channels_first, normalise
from flawmap_bench.trials import early_exit, head_shares
from flawmap_bench.trials.encoded_board import Board, encode_squares, open_board
from flawmap_bench.trials.fitted_board import fit_board, head_examples
from flawmap_bench.trials.measures import PIXEL_MEASURES, Truths, auroc_difference, weighted_auroc
from flawmap_bench.trials.variant_scores import appearance_of, patches_of, score_test_images
from images import texture
from vit_variants import tiny_encoder

SIZE_PX = 64
RECIPE = {
    "base": "standard",
    "data": {"image_size_px": SIZE_PX},
    "model": {"weights": "random", "architecture": "test_vit", "drop_path_rate": 0.0},
    "memory": {"blocks": [1, 3], "tokens": 60, "image_share": 0.2},
    "residual": {"simulated_images": 8, "steps": 10, "hidden": 16, "warmup_steps": 2},
    "expectation": {"min_neighbours": 3, "appearance": "mean_token"},
}


@pytest.fixture(params=["fused", "memory, relative"])
def recipe_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    recipe = dict(RECIPE)
    if request.param != "fused":
        recipe = recipe | {"base": "chest_xray", "expectation": {"min_neighbours": 3, "appearance": "cls"}}
        recipe.pop("residual")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@torch.no_grad()
def test_encoded_squares_are_what_each_block_gives():
    encoder = tiny_encoder("registers")
    squares = [texture(seed, 48, 48) for seed in range(3)]
    found = encode_squares(encoder, squares, (0, 1))
    x = encoder.embed(normalise(torch.stack([channels_first(square) for square in squares])), None)
    for number, block in enumerate(encoder.vit.blocks):
        x = block(x)
        patches = F.layer_norm(x[:, encoder.vit.num_prefix_tokens :], (64,))
        if number < 2:
            torch.testing.assert_close(found.cls[:, number], x[:, 0])
            torch.testing.assert_close(found.means[:, number], patches.mean(dim=1))
            torch.testing.assert_close(found.tokens[:, :, number].float(), patches, atol=4e-3, rtol=0)
    torch.testing.assert_close(found.cls[:, 2], encoder.vit.norm(x)[:, 0])
    assert found.attention.shape == (3, 3, 3) and found.means.shape[1] == 2


def test_images_are_encoded_once(
    recipe_path: Path, mvtec_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")
    monkeypatch.delattr("flawmap_bench.trials.encoded_board.encode_squares")
    again = open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")
    assert torch.equal(first.encoded_test.tokens, again.encoded_test.tokens)
    assert len(first.encoded_good.tokens) == len(first.good) == 24


def trained(board: Board, seed: int, folder: Path) -> TokenScorer:
    """The scorer of a training without folds and shifted images."""
    recipe = board.recipe
    memory, calibration = replace(recipe.memory, shifts=0), replace(recipe.calibration, folds=0)
    recipe = replace(recipe, memory=memory, calibration=calibration)
    context = fit_board(board, seed, folder / "trial").context
    context = StageContext(RunFolder(folder / "run"), context.compute, seed, SIZE_PX, {})
    context.run.path.mkdir()
    simulation = board.recipe.residual.simulation
    simulate = simulator_by_name(simulation.simulator, simulation)
    fitted = fit(board.good, board.encoder, recipe, context, simulate)
    assert isinstance(fitted.scorer, TokenScorer)
    return fitted.scorer


@pytest.mark.parametrize("seed", [0, 3])
def test_scores_are_those_of_a_training(recipe_path: Path, mvtec_folder: Path, tmp_path: Path, seed: int):
    board = open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")
    expected = trained(board, seed, tmp_path)
    variants = early_exit.scores_of(board, fit_board(board, seed, tmp_path / "cache"))
    is_mean = board.recipe.expectation.appearance == "mean_token"
    variant = variants["mean of block 5" if is_mean else early_exit.LAST_CLS]
    squares = [resize_image(read_image(sample.path), SIZE_PX, SIZE_PX) for sample in board.test.samples]
    with torch.no_grad():
        output = expected.score(normalise(torch.stack([channels_first(square) for square in squares])))
    # tokens of test images are kept in float16
    np.testing.assert_allclose(variant.image, output.image.numpy(), atol=0.02, rtol=0.02)
    torch.testing.assert_close(variant.evidence, output.evidence, atol=0.05, rtol=0.02)


def samples_of(labels: list[bool], groups: list[str | None]) -> list[LabelledImage]:
    pairs = zip(labels, groups, strict=True)
    return [LabelledImage(str(n), Path(str(n)), label, "x", group=group) for n, (label, group) in enumerate(pairs)]


def test_weighted_auroc_is_that_of_repeated_images():
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 6, 20).astype(np.float32), generator.random(20) < 0.4
    weights = generator.integers(0, 4, (5, 20)).astype(np.float64)
    expected = [auroc(np.repeat(scores, row.astype(int)), np.repeat(labels, row.astype(int))) for row in weights]
    np.testing.assert_allclose(weighted_auroc(scores, labels, weights), expected)


def test_equal_scores_differ_by_nothing_and_perfect_ones_from_their_reverse_by_one():
    samples = samples_of([False] * 6 + [True] * 6, [None] * 12)
    rising = np.arange(12, dtype=np.float32)
    assert auroc_difference(samples, [rising], [rising]) == (0, 0, 0)
    assert auroc_difference(samples, [rising], [-rising]) == (1, 1, 1)
    assert auroc_difference(samples, [rising, -rising], [-rising, -rising])[0] == 0.5


def test_groups_are_drawn_as_a_whole():
    generator = np.random.default_rng(1)
    a, b = generator.random((2, 24)).astype(np.float32)
    labels = [False] * 12 + [True] * 12
    alone = auroc_difference(samples_of(labels, [None] * 24), [a], [b])
    grouped = auroc_difference(samples_of(labels, [str(n // 2) for n in range(24)]), [a], [b])
    assert alone[0] == grouped[0] and alone[1:] != grouped[1:]


def test_maps_that_are_the_truth_are_perfect(recipe_path: Path, mvtec_folder: Path, tmp_path: Path):
    board = open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")
    truths = Truths.of(board.test)
    assert sorted(truths.masks) == list(range(12)) and sum(mask.any() for mask in truths.masks.values()) == 6
    evidence = torch.stack([torch.from_numpy(truths.masks[number].astype(np.float32)) for number in range(12)])
    assert truths.measures(evidence) == pytest.approx(dict.fromkeys(PIXEL_MEASURES, 1.0))


def test_a_share_is_described_by_its_mean_and_its_paired_difference():
    def measures(value: float) -> dict[str, float]:
        return dict.fromkeys(PIXEL_MEASURES, value)

    cells = head_shares.described([measures(0.5), measures(0.54)], [measures(0.4), measures(0.4)])
    assert cells == ["52.00 (+12.00 ± 2.00)"] * 4
    assert head_shares.described([measures(0.5)], [measures(0.5)]) == ["50.00 (+0.00)"] * 4


def test_shares_reach_the_head(recipe_path: Path, mvtec_folder: Path, tmp_path: Path):
    board = open_board(f"{mvtec_folder}:{recipe_path}", tmp_path / "cache")
    if board.recipe.method != "fused":
        pytest.skip("no head")
    fitted, truths = fit_board(board, 0, tmp_path / "cache"), Truths.of(board.test)
    first = head_shares.measures_of_share(fitted, truths, 0.5, 0)
    assert first == head_shares.measures_of_share(fitted, truths, 0.5, 0)
    assert first != head_shares.measures_of_share(fitted, truths, 1.0, 0)
    assert first != head_shares.measures_of_share(fitted, truths, 0.5, 1)
    assert len(head_examples(fitted).beside) > 0
    scores = score_test_images(fitted, patches_of(fitted), appearance_of(board))
    expected = truths.measures(scores.evidence)
    assert expected == head_shares.measures_of_share(fitted, truths, 0.5, 1)


def test_both_commands_print_a_table(
    recipe_path: Path,
    mvtec_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    place = [f"{mvtec_folder}:{recipe_path}", "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr(sys, "argv", ["early_exit", *place, "--seeds", "0", "1"])
    early_exit.main()
    out = capsys.readouterr().out
    assert re.search(r"^\| last \[CLS\] \| [\d.]+ [\d.]+ \| [\d.]+ \| \+0\.00 \[\+0\.00, \+0\.00\] \|", out, re.M)
    assert "| mean of blocks 1, 3 |" in out
    if "fused" in recipe_path.read_text() or "standard" in recipe_path.read_text():
        monkeypatch.setattr(sys, "argv", ["head_shares", *place, "--head-seeds", "0", "--shares", "0.5", "1"])
        head_shares.main()
        assert re.search(r"^\| 1 \| [\d.]+ \([+-][\d.]+\) \|", capsys.readouterr().out, re.M)

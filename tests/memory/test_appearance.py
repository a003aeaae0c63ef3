"""What is taken of an image beside its tokens, by how many blocks, and what models of earlier versions take."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.memory.appearance import AppearanceAndTokens, appearance_block
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import ExpectationSettings, MemorySettings, Recipe
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.onnx_graph import onnx_graph
from images import striped, write_good
from tiny_detector import tiny_recipe
from vit_variants import noise, tiny_encoder

SMALL = ("method=memory", "data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false")


def taken(appearance: str, blocks: tuple[int, ...], relative: bool) -> AppearanceAndTokens:
    recipe = Recipe(
        memory=MemorySettings(blocks=blocks, relative=relative), expectation=ExpectationSettings(appearance=appearance)
    )
    return AppearanceAndTokens(tiny_encoder(), recipe)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("blocks", [(1,), (1, 2), (1, 3)])
@torch.no_grad()
def test_the_mean_token_is_that_of_the_second_of_three_blocks_whatever_the_memory_holds(
    blocks: tuple[int, ...], relative: bool
):
    encoder, images = tiny_encoder(), noise(48, 48, 2)
    ours, numbers = taken("mean_token", blocks, relative), [block - 1 for block in blocks]
    expected = encoder.tokens_of(images, (1,)).mean(dim=(1, 2)), encoder.tokens_of(images, numbers, relative)
    found = ours.of_images(FrozenEncoder(encoder), images)
    of_output = ours.in_output(FrozenEncoder(encoder).encode(images, ours.wanted))
    for parts in (found, of_output):
        for part, one in zip(parts, expected, strict=True):
            torch.testing.assert_close(part, one, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_cls_is_the_last_token_after_the_final_norm():
    encoder, images = tiny_encoder(), noise(48, 48, 2)
    ours = taken("cls", (1, 2), relative=True)
    for parts in (
        ours.of_images(FrozenEncoder(encoder), images),
        ours.in_output(FrozenEncoder(encoder).encode(images, ours.wanted)),
    ):
        torch.testing.assert_close(parts[0], encoder(images).cls, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(parts[1], encoder.tokens_of(images, (0, 1), relative=True), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("appearance", "num_blocks"), [("mean_token", 2), ("cls", 3)])
@torch.no_grad()
def test_blocks_after_the_last_one_that_is_needed_are_not_computed(appearance: str, num_blocks: int):
    encoder = tiny_encoder()
    with mock.patch("flawmap.vit.frozen_encoder.onnx_graph", side_effect=onnx_graph) as written:
        taken(appearance, (1,), relative=False).of_images(FrozenEncoder(encoder), noise(48, 48))
    graph = written.call_args.args
    softmaxes_and_attentions = onnx_graph(encoder, graph[1]).model.graph.node
    norms = [node for node in softmaxes_and_attentions if "Normalization" in node.op_type]
    assert len(norms) == 2 * num_blocks + (appearance == "cls")  # two of each block, and the final one


@pytest.mark.parametrize(("num_blocks", "expected"), [(12, 9), (24, 19), (40, 32), (6, 4), (3, 1), (1, 0)])
def test_the_block_lies_five_sixths_of_the_way(num_blocks: int, expected: int):
    assert appearance_block(num_blocks) == expected


def test_a_models_recipe_that_names_no_appearance_means_cls(tmp_path: Path):
    path = tmp_path / "old.yaml"
    path.write_text("method: fused\nexpectation:\n  min_neighbours: 12\n")
    assert load_recipe(path, is_of_model=True).expectation.appearance == "cls"
    assert load_recipe(path).expectation.appearance == "mean_token"
    assert load_recipe("chest_xray").expectation.appearance == "cls"
    assert load_recipe("standard").expectation.appearance == Recipe().expectation.appearance == "mean_token"
    assert load_recipe("paper", is_of_model=True) == load_recipe("paper")


def test_a_model_of_an_earlier_version_scores_as_before(tmp_path: Path):
    recipe = tiny_recipe(*SMALL, "memory.blocks=[1, 2]", "memory.tokens=40", "expectation.min_neighbours=2")
    images = load_images(write_good(tmp_path / "good"))
    scores = {}
    for appearance in ("cls", "mean_token"):
        settings = replace(recipe.expectation, appearance=appearance)
        detector = AnomalyDetector(replace(recipe, expectation=settings)).fit(images, device="cpu")
        detector.save_pretrained(tmp_path / appearance)
        scores[appearance] = detector.predict(striped(5000)).score
    old = tmp_path / "cls" / "recipe.yaml"
    old.write_text("".join(line for line in old.read_text().splitlines(True) if "  appearance: cls" not in line))
    opened = AnomalyDetector.from_pretrained(tmp_path / "cls")
    assert opened.predict(striped(5000)).score == scores["cls"] != scores["mean_token"]
    new = AnomalyDetector.from_pretrained(tmp_path / "mean_token")
    assert new.predict(striped(5000)).score == scores["mean_token"]

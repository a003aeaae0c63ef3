"""Good images encoded in shards: one shard is one process, several keep the references and cover the same tokens."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flawmap.data.images.files import read_image
from flawmap.data.open_data import load_images
from flawmap.data.sample import NormalImage
from flawmap.detect.detector import AnomalyDetector
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import choose_compute
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.memory import shards
from flawmap.memory.coreset import greedy_coreset
from flawmap.memory.folds import deal_with, moved_together
from flawmap.memory.good_images import GoodImages
from flawmap.memory.update import Learned
from flawmap.recipe.settings import MemorySettings, Recipe
from flawmap.runs.run_folder import create_run
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "memory.shifts=0"),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[NormalImage, ...]:
    return load_images(write_good(tmp_path_factory.mktemp("good"), 64)).images


def fitted(folder: Path, good, *changes: str, elsewhere=None) -> tuple[dict[str, torch.Tensor], GoodImages]:
    """The model's tensors, and what the encoder gave."""
    recipe = tiny_recipe(*SMALL, *changes)
    run = create_run(folder / "run", "test", recipe)
    found = fit_scorer(good, recipe, run, choose_compute("cpu", "fp32"), elsewhere=elsewhere)
    assert not run.shards.exists()
    return found.scorer.state_dict(), GoodImages.of(read_tensors(run.stage_output("encoding")))


def other_processes(work, tasks):
    """As a cluster does it: all is pickled, and the last task is done first."""
    for number in reversed(range(len(tasks))):
        again, task = pickle.loads(pickle.dumps((work, tasks[number])))
        yield number, pickle.loads(pickle.dumps(again(task, read_image)))


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize(
    ("images", "wanted", "count"),
    [(761, None, 1), (4000, None, 1), (4001, None, 2), (1_000_000, None, 250), (761, 8, 8), (30, 8, 1), (100, 8, 5)],
)
def test_how_many_shards_there_are(images: int, wanted: int | None, count: int):
    assert shards.number_of_shards(images, Recipe(memory=MemorySettings(shards=wanted))) == count


def test_one_shard_is_one_process_here_and_elsewhere(tmp_path, good):
    plain, encoded = fitted(tmp_path / "a", good)
    assert_equal(plain, fitted(tmp_path / "b", good, "memory.shards=1")[0])
    assert_equal(plain, fitted(tmp_path / "c", good, elsewhere=other_processes)[0])
    for block in range(2):  # and it is the greedy choice from all tokens
        chosen = greedy_coreset(encoded.candidates[:, block], 40, torch.Generator().manual_seed(0))
        assert torch.equal(plain["memory.tokens"][block], encoded.candidates[chosen, block])


def test_several_shards_keep_the_references_and_tokens_of_the_images_they_name(tmp_path, good):
    plain, whole = fitted(tmp_path / "a", good, "expectation.images=7")
    model, found = fitted(tmp_path / "b", good, "expectation.images=7", "memory.shards=3")
    for name in ("attention", "references", "reference_appearances", "reference_tokens", "images", "originals_px"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    assert 3 * 40 <= len(found.candidates) <= 3 * 2 * 40 and len(whole.candidates) == 64 * 16
    for block in range(2):
        for token, source in zip(found.candidates[:, block], found.sources[:, block].tolist(), strict=True):
            assert (whole.candidates[whole.sources == source, block] == token).all(dim=1).any()
    assert model["memory.tokens"].shape == plain["memory.tokens"].shape
    assert not torch.equal(model["memory.tokens"], plain["memory.tokens"])


def test_where_all_tokens_are_kept_shards_change_nothing(tmp_path, good):
    settings = "memory.tokens=2000", "calibration.folds=0"
    plain, _ = fitted(tmp_path / "a", good, *settings)
    assert_equal(plain, fitted(tmp_path / "b", good, *settings, "memory.shards=3")[0])


def test_other_processes_give_what_this_one_gives_in_any_order(tmp_path, good):
    here, _ = fitted(tmp_path / "a", good, "memory.shards=3")
    assert_equal(here, fitted(tmp_path / "b", good, "memory.shards=3", elsewhere=other_processes)[0])


def test_shards_that_a_stopped_training_has_encoded_are_not_encoded_again(tmp_path, good, monkeypatch):
    recipe, encoded = tiny_recipe(*SMALL, "memory.shards=3"), []
    run, cpu = create_run(tmp_path / "run", "test", recipe), choose_compute("cpu", "fp32")
    original = shards.encode_shard

    def stopping(shard, read, **how):
        encoded.append(shard.first_image)
        if encoded == [0, 21]:
            raise KeyboardInterrupt
        return original(shard, read, **how)

    monkeypatch.setattr(shards, "encode_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit_scorer(good, recipe, run, cpu)
    found = fit_scorer(good, recipe, run, cpu)
    assert encoded == [0, 21, 21, 42]
    assert_equal(found.scorer.state_dict(), fitted(tmp_path / "b", good, "memory.shards=3")[0])


def test_an_image_that_cannot_be_read_is_named(tmp_path, good):
    broken = (*good[:40], replace(good[40], path=tmp_path / "no.png", sha256="0" * 64), *good[41:])
    with pytest.raises(UserError, match="cannot be read") as caught:
        fitted(tmp_path, broken, "memory.shards=3")
    assert caught.value.place == str(tmp_path / "no.png")


def test_folds_are_dealt_before_and_like_images_and_groups_then_share_that_of_the_first():
    identities = [("group", "a"), ("group", "a"), *(("image", str(number)) for number in range(10))]
    before = deal_with([], identities, 5, seed=0)
    assert before[0] == before[1] and sorted(torch.bincount(before).tolist()) == [2, 2, 2, 3, 3]
    moved = moved_together(before, [(1, 7), (7, 9)], identities)
    assert moved[[0, 1, 7, 9]].unique().tolist() == [before[0]]
    others = [2, 3, 4, 5, 6, 8, 10, 11]
    assert torch.equal(moved[others], before[others])


@pytest.mark.slow
def test_tiles_are_encoded_in_shards_too_and_the_model_can_be_updated(tmp_path, good):
    folder = tmp_path / "large"
    for number in range(44):
        write_image(folder / f"{number:02d}.png", striped(number, 128, 128))
    changes = "data.tiles=64", "calibration.folds=4"
    recipes = [tiny_recipe(*SMALL, *changes), tiny_recipe(*SMALL, *changes, "memory.shards=2")]
    runs = [create_run(tmp_path / str(number) / "run", "test", recipe) for number, recipe in enumerate(recipes)]
    models = [AnomalyDetector(recipe).fit(folder, run, "cpu") for recipe, run in zip(recipes, runs, strict=True)]
    tiles = [GoodImages.of(read_tensors(run.stage_output("tiles_encoding"))) for run in runs]
    assert tiles[1].is_of_shards and not tiles[0].is_of_shards
    for name in ("attention", "references", "reference_tokens", "images"):
        assert torch.equal(getattr(tiles[0], name), getattr(tiles[1], name)), name
    bad = striped(5001, 128, 128)
    bad[20:60, 20:60] = 0
    assert models[1].predict(bad).score > models[1].predict(striped(5000, 128, 128)).score
    new = tmp_path / "new"
    for number in range(100, 104):
        write_image(new / f"{number}.png", striped(number, 128, 128))
    learned = GoodImages.of(read_tensors(runs[1].stage_output("encoding")))
    assert learned.is_of_shards
    models[1].learned_ = Learned(load_images(folder).images, frozenset(), learned, tiles[1])
    models[1].update(new, device="cpu")
    assert models[1].learned_.whole.is_of_shards and len(models[1].learned_.images) == 48
    assert models[1].predict(bad).score > models[1].predict(striped(5000, 128, 128)).score

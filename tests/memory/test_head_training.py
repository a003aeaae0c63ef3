"""The residual head's training: which tokens it sees, with what targets, and what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.errors import UserError
from flawmap.memory.fit import fit_memory
from flawmap.memory.good_images import GoodImages, encode_good_images
from flawmap.memory.head_training import (
    ANOMALOUS_SHARE,
    BESIDE_PER_IMAGE,
    TOKENS_PER_STEP,
    HeadExamples,
    encode_examples,
    looked_up,
    simulated_items,
    train_head,
)
from flawmap.memory.patch_memory import Lookup
from flawmap.memory.scorer import ResidualScorer, build_scorer
from flawmap.memory.token_pool import TokenPool
from flawmap.recipe.settings import MemorySettings, NormalAugmentation, Recipe, ResidualSettings
from flawmap.runs.run_folder import RunFolder
from flawmap.runs.training_log import LogFile
from flawmap.simulators.dataset import SimulationDataset
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator
from flawmap.vit.encoder import Encoder
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import build_vit
from images import striped

SIZE_PX, IMAGES = 64, 6
AS_IT_IS = NormalAugmentation(min_crop=1.0, horizontal_flip=False, jitter=0.0)
RECIPE = Recipe(
    method="residual",
    memory=MemorySettings(blocks=(1, 2), tokens=80),
    residual=ResidualSettings(hidden=16, simulated_images=8, steps=40, warmup_steps=2, augmentation=AS_IT_IS),
)


class BlackCorner(Simulator):
    """Its defect covers two by two patches, touches a fifth one, and is easy to see."""

    def __init__(self, patch_px: int) -> None:
        self._patch_px = patch_px

    def simulate(self, image: np.ndarray, generator: np.random.Generator) -> SimulatedAnomaly:
        footprint, side = np.zeros(image.shape[:2], bool), 2 * self._patch_px
        footprint[:side, :side] = True
        footprint[side, 0] = True  # one pixel of another patch
        black = np.where(footprint[..., None], np.uint8(0), image)
        return SimulatedAnomaly(black, footprint, footprint.astype(np.float32), 1)


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[ResidualScorer, GoodImages, Lookup, SimulationDataset, StageContext]:
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval().requires_grad_(False)
    images = [striped(seed, SIZE_PX, SIZE_PX) for seed in range(IMAGES)]
    context = StageContext(RunFolder(tmp_path), choose_compute("cpu", "fp32"), seed=0, size_px=SIZE_PX, inputs={})
    good = encode_good_images(FrozenEncoder(encoder), images, RECIPE, context)
    state = fit_memory(good, torch.arange(len(good.attention)) % 2, RECIPE, context)
    of_others = Lookup(state.pop("of_others.distances"), state.pop("of_others.indices"))
    scorer = build_scorer(encoder, RECIPE, memory_tokens=state["tokens"].shape[1])
    assert isinstance(scorer, ResidualScorer)
    scorer.memory.load_state_dict({name: state[name] for name in scorer.memory.state_dict()})
    attention = good.attention.float().numpy()
    defects = SimulationDataset(images, attention, SIZE_PX, AS_IT_IS, BlackCorner(encoder.patch_size_px), 0)
    return scorer, good, of_others, defects, context


def test_patches_under_a_defect_are_anomalous_and_those_it_only_touches_are_not_judged(fitted):
    scorer, good, of_others, defects, context = fitted
    examples = encode_examples(scorer, good, of_others, defects, RECIPE.residual, context)
    patches = (SIZE_PX // scorer.encoder.patch_size_px) ** 2
    assert len(examples.anomalous) == 8 * 4 and len(examples.beside) == 8 * BESIDE_PER_IMAGE
    assert len(examples.good) == IMAGES * patches
    torch.testing.assert_close(examples.good.tokens, good.reference_tokens.flatten(0, 1))
    epoch, number = min(simulated_items(IMAGES, 8, 0), key=lambda item: item[1])
    image = defects[epoch, number]["anomalous"]
    with torch.no_grad():
        tokens = scorer.encoder.tokens_of(normalise(image[None]), scorer.blocks)
        of_others_too = scorer.memory.lookup(tokens, torch.tensor([number])).indices[0]
    corner = [0, 1, SIZE_PX // scorer.encoder.patch_size_px, SIZE_PX // scorer.encoder.patch_size_px + 1]
    torch.testing.assert_close(examples.anomalous.tokens[:4].float(), tokens[0, corner], atol=4e-3, rtol=0)
    assert torch.equal(examples.anomalous.nearest[:4].long(), of_others_too[corner])
    corners = {tuple(token) for token in examples.anomalous.tokens.flatten(1).tolist()}
    assert not corners & {tuple(token) for token in examples.beside.tokens.flatten(1).tolist()}
    for block in range(2):  # no token is compared with one of its own image
        assert (scorer.memory.sources[block][examples.anomalous.nearest[:4, block].long()] != number).all()


def test_the_examples_are_the_same_where_more_images_share_a_pass(fitted, monkeypatch):
    scorer, good, of_others, defects, context = fitted
    one = encode_examples(scorer, good, of_others, defects, RECIPE.residual, context)
    for size in (1, 5):
        on = classmethod(lambda cls, device, per_image, on_processor=1, size=size: cls(size))
        monkeypatch.setattr(ImagesAtOnce, "on", on)
        other = encode_examples(scorer, good, of_others, defects, RECIPE.residual, context)
        assert torch.equal(other.anomalous.tokens, one.anomalous.tokens)  # ONNX Runtime gives each image its own pass
        assert torch.equal(other.anomalous.nearest, one.anomalous.nearest)
        assert len(other.beside) == len(one.beside)


def test_the_head_learns_and_nothing_else_changes(fitted):
    scorer, good, of_others, defects, context = fitted
    before = {name: tensor.clone() for name, tensor in scorer.state_dict().items()}
    settings = replace(RECIPE.residual, learning_rate=1e-2)
    state = train_head(scorer, good, of_others, defects, settings, context)
    for name, tensor in scorer.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("head."), name
    records = LogFile(context.run.log).records()
    assert [record["step"] for record in records] == list(range(40))
    assert records[-1]["loss"] < 0.2 * records[0]["loss"] and records[-1]["found"] > 0.9
    black = channels_first(
        BlackCorner(scorer.encoder.patch_size_px)(striped(77, SIZE_PX, SIZE_PX), np.random.default_rng(0)).image
    )
    with torch.no_grad():
        tokens = scorer.encoder.tokens_of(normalise(black[None]), scorer.blocks)
        logits = scorer.head(tokens, scorer.memory.nearest(tokens).tokens)[0]
    columns = SIZE_PX // scorer.encoder.patch_size_px
    assert logits.view(columns, columns)[:2, :2].min() > logits.view(columns, columns)[3:, 3:].max()
    again = train_head(scorer, good, of_others, defects, settings, context)
    assert all(torch.equal(state[name], again[name]) for name in state)


@given(sizes=st.tuples(*[st.integers(1, 60)] * 3), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_quarter_of_a_step_is_anomalous_and_a_share_of_the_rest_comes_from_beside_the_defects(
    sizes: tuple[int, int, int], share: float, seed: int
):
    def pool(value: float, count: int) -> TokenPool:
        return TokenPool(torch.full((count, 1, 1), value), torch.arange(count)[:, None])

    anomalous, beside, good = (pool(value, count) for value, count in zip((1.0, 2.0, 3.0), sizes, strict=True))
    batch, targets = HeadExamples(anomalous, beside, good).batch(torch.Generator().manual_seed(seed), share)
    values = batch.tokens.flatten()
    assert len(values) == TOKENS_PER_STEP and targets.sum() == ANOMALOUS_SHARE * TOKENS_PER_STEP
    assert torch.equal(targets == 1, values == 1)
    num_normal = int(TOKENS_PER_STEP - targets.sum())
    assert abs(int((values == 2).sum()) - share * num_normal) <= 0.5
    assert int((values == 2).sum() + (values == 3).sum()) == num_normal
    for value, count in zip((1.0, 2.0, 3.0), sizes, strict=True):
        assert batch.nearest[values == value].numel() == 0 or batch.nearest[values == value].max() < count


@given(num_images=st.integers(1, 50), count=st.integers(1, 120), seed=st.integers(0, 9))
def test_no_image_is_simulated_on_again_before_all_others_were(num_images: int, count: int, seed: int):
    items = simulated_items(num_images, count, seed)
    assert len(items) == count == len(set(items))
    times = np.bincount([number for _, number in items], minlength=num_images)
    assert times.max() - times.min() <= 1
    assert items == simulated_items(num_images, count, seed)


class Nothing(Simulator):
    """It never changes an image."""

    def simulate(self, image: np.ndarray, generator: np.random.Generator) -> SimulatedAnomaly:
        nothing = np.zeros(image.shape[:2], bool)
        return SimulatedAnomaly(image, nothing, nothing.astype(np.float32), 0)


class Everything(Simulator):
    """It changes every pixel."""

    def simulate(self, image: np.ndarray, generator: np.random.Generator) -> SimulatedAnomaly:
        everything = np.ones(image.shape[:2], bool)
        return SimulatedAnomaly(255 - image, everything, everything.astype(np.float32), 1)


def test_defects_that_cover_no_patch_are_an_error_and_those_that_cover_all_are_learned(fitted):
    scorer, good, of_others, _, context = fitted
    images = [striped(seed, SIZE_PX, SIZE_PX) for seed in range(IMAGES)]
    attention = good.attention.float().numpy()
    none = SimulationDataset(images, attention, SIZE_PX, AS_IT_IS, Nothing(), 0)
    with pytest.raises(UserError, match="none of 8 simulated defects covers a patch") as caught:
        train_head(scorer, good, of_others, none, RECIPE.residual, context)
    assert caught.value.place == "stage residual" and "--gallery" in caught.value.remedy
    everywhere = SimulationDataset(images, attention, SIZE_PX, AS_IT_IS, Everything(), 0)
    examples = encode_examples(scorer, good, of_others, everywhere, RECIPE.residual, context)
    assert len(examples.anomalous) == 8 * (SIZE_PX // scorer.encoder.patch_size_px) ** 2
    assert examples.beside is examples.good  # there is nothing beside such defects


def test_only_the_chosen_tokens_are_looked_up_and_as_if_all_were(fitted):
    scorer, good, _, _, _ = fitted
    tokens, numbers = good.reference_tokens[:3].float(), torch.tensor([0, 1, 2])
    everywhere = scorer.memory.lookup(tokens, exclude=numbers).indices  # (3, p, l)
    chosen = torch.tensor([[2, 1], [0, 5], [2, 1], [0, 0]])  # one twice, and none of the second image
    pool = looked_up(scorer.memory, tokens, chosen, numbers)
    rows, patches = torch.tensor([[0, 5], [0, 0], [2, 1], [2, 1]]).T  # image by image
    torch.testing.assert_close(pool.tokens, tokens[rows, patches].half(), rtol=0, atol=0)
    assert torch.equal(pool.nearest, everywhere[rows, patches].int())


def test_of_no_tokens_nothing_is_looked_up(fitted):
    scorer, good, _, _, _ = fitted
    pool = looked_up(scorer.memory, good.reference_tokens.float(), torch.empty(0, 2, dtype=torch.long), good.references)
    assert len(pool) == 0 and pool.nearest.shape == (0, 2)

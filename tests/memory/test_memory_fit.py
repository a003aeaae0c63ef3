"""Memory and residual head: what they are made from, what learns, and that a run can be repeated and gone on with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.batch_size import ImagesAtOnce
from flawmap.engine.compute import choose_compute
from flawmap.engine.stage import StageContext
from flawmap.errors import UserError
from flawmap.memory import fit as memory_fit
from flawmap.memory.appearance import AppearanceAndTokens
from flawmap.memory.fit import fit_memory
from flawmap.memory.good_images import GoodImages, encode_good_images
from flawmap.memory.patch_memory import PatchMemory
from flawmap.memory.scorer import TokenScorer, build_scorer
from flawmap.recipe.settings import ExpectationSettings, MemorySettings, Recipe, ResidualSettings
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.vit.encoder import Encoder, mean_cls_attention
from flawmap.vit.frozen_encoder import FrozenEncoder
from flawmap.vit.inputs import channels_first, normalise
from flawmap.vit.weights import build_vit
from images import striped, write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")


@pytest.fixture
def sharing(monkeypatch):
    """Lets so many images share a pass wherever they are given in batches, read by three threads."""

    def share(size: int) -> None:
        on = classmethod(lambda cls, device, per_image, on_processor=1: cls(size))
        monkeypatch.setattr(ImagesAtOnce, "on", on)
        for module in ("vit.inputs", "memory.head_training"):
            monkeypatch.setattr(f"flawmap.{module}.reading_threads", lambda device: 3)

    return share


TOKENS = ("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false")
SMALL = (*TOKENS, "memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=12", "residual.simulated_images=8")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(build_vit("test_vit", 0.0)).eval()


def recipe_of(
    tokens: int = 30, relative: bool = False, candidates: int = 200_000, shifts: int = 0, **expectation: int
) -> Recipe:
    return Recipe(
        memory=MemorySettings(
            blocks=(1, 2), relative=relative, candidates=candidates, shifts=shifts, tokens=tokens, image_share=0.1
        ),
        residual=ResidualSettings(hidden=16),
        expectation=ExpectationSettings(**expectation),
    )


CONTEXT = StageContext(RunFolder(Path()), choose_compute("cpu", "fp32"), seed=0, size_px=64, inputs={})


def encoded(encoder: Encoder, images: list[np.ndarray], recipe: Recipe) -> GoodImages:
    return encode_good_images(FrozenEncoder(encoder), images, recipe, CONTEXT)


def memory_of(encoder: Encoder, images: list[np.ndarray], tokens: int = 30):
    recipe = recipe_of(tokens)
    return memory_on(encoded(encoder, images, recipe), recipe)


def memory_on(good: GoodImages, recipe: Recipe) -> PatchMemory:
    state = fit_memory(good, torch.arange(len(good.attention)) % 2, recipe, CONTEXT)
    memory = PatchMemory(*state["tokens"].shape)
    memory.load_state_dict({name: state[name] for name in memory.state_dict()})
    return memory


def test_a_memory_holds_tokens_of_the_images_it_was_given(encoder: Encoder):
    images = [striped(seed, 64, 64) for seed in range(4)]
    memory = memory_of(encoder, images)
    assert memory.tokens.shape == (2, 30, encoder.embed_dim)
    assert memory.tokens.dtype == torch.float16
    torch.testing.assert_close(memory.unit.norm(dim=-1), torch.ones(2, 30), atol=1e-6, rtol=0)
    with torch.no_grad():
        encoded = encoder.tokens_of(normalise(torch.stack([channels_first(image) for image in images])), (0, 1))
    for block in range(2):
        unit = torch.nn.functional.normalize(encoded[:, :, block], dim=-1)
        for token, source in zip(memory.unit[block], memory.sources[block].tolist(), strict=True):
            assert (unit[source] @ token).max().item() == pytest.approx(1, abs=1e-3)  # candidates are kept in fp16


def test_the_scale_is_that_of_distances_to_other_images(encoder: Encoder):
    images = [striped(seed, 64, 64) for seed in range(3)]
    memory = memory_of(encoder, images, tokens=10_000)  # more than there are: all are kept
    with torch.no_grad():
        encoded = encoder.tokens_of(normalise(torch.stack([channels_first(image) for image in images])), (0, 1))
    for block in range(2):
        unit = torch.nn.functional.normalize(encoded[:, :, block], dim=-1)
        spaced = []
        for i in range(3):
            others = memory.sources[block] != i
            similarity, nearest = (unit[i] @ memory.unit[block][others].T).max(dim=1)
            spaced.append((1 - similarity) / memory.spacing[block][others][nearest])
        distances = torch.stack(spaced)
        assert memory.spacing[block].std() > 0.05
        assert memory.mean[block].item() == pytest.approx(distances.mean().item(), rel=2e-2)
        assert memory.deviation[block].item() == pytest.approx(distances.std(correction=0).item(), rel=2e-2)


def test_one_pass_gives_the_tokens_and_the_attention(encoder: Encoder):
    images = [striped(seed, 64, 64) for seed in range(11)]  # more than a batch
    normal = encoded(encoder, images, recipe_of(relative=True))
    rows, columns = encoder.grid(64, 64)
    assert normal.sources.tolist() == torch.arange(11).repeat_interleave(rows * columns).tolist()
    for number in (0, 10):
        pixels = normalise(channels_first(images[number])[None])
        with torch.no_grad():
            tokens = encoder.tokens_of(pixels, (0, 1), relative=True)[0]
            attention = mean_cls_attention(encoder(pixels))
        found = normal.candidates[normal.sources == number].float()
        torch.testing.assert_close(found, tokens, atol=4e-3, rtol=0)  # fp16
        torch.testing.assert_close(normal.attention[number].float().flatten()[None], attention, atol=1e-6, rtol=1e-3)
    assert torch.equal(normal.references, torch.arange(11))
    assert torch.equal(normal.reference_tokens.flatten(0, 1), normal.candidates)


def test_of_many_images_a_memory_gets_some_tokens_and_the_references_keep_all(encoder: Encoder):
    images = [striped(seed, 64, 64) for seed in range(11)]
    normal = encoded(encoder, images, recipe_of(candidates=55, images=3))
    assert normal.sources.tolist() == torch.arange(11).repeat_interleave(5).tolist() and len(normal.candidates) == 55
    assert normal.references.tolist() == [0, 5, 10]
    for place, number in enumerate((0, 5, 10)):
        pixels = normalise(channels_first(images[number])[None])
        with torch.no_grad():
            appearance, tokens = AppearanceAndTokens(encoder, recipe_of()).of_images(FrozenEncoder(encoder), pixels)
        torch.testing.assert_close(normal.reference_appearances[place], appearance[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(normal.reference_tokens[place].float(), tokens[0], atol=4e-3, rtol=0)
        for candidate in normal.candidates[normal.sources == number]:
            assert (normal.reference_tokens[place] == candidate).flatten(1).all(dim=1).any()
    settings = ExpectationSettings(images=3, tokens=2 * normal.reference_tokens.shape[1])
    few = encoded(encoder, images, replace(recipe_of(candidates=55), expectation=settings))
    assert few.references.tolist() == [0, 10]


def test_where_all_tokens_are_candidates_but_not_all_images_references_each_token_knows_its_image(
    encoder: Encoder,
):
    images, recipe = [striped(seed, 64, 64) for seed in range(5)], recipe_of(images=3)
    normal = encoded(encoder, images, recipe)
    patches = normal.reference_tokens.shape[1]
    assert normal.sources.tolist() == torch.arange(5).repeat_interleave(patches).tolist()
    for place, number in enumerate((0, 2, 4)):
        own = normal.candidates[normal.sources == number]
        assert (own[:, None] == normal.reference_tokens[place]).flatten(2).all(dim=2).any(dim=0).all()
    assert memory_on(normal, recipe).tokens.isfinite().all()


@pytest.mark.parametrize("shifts", [1, 3])
@pytest.mark.parametrize("relative", [False, True])
def test_tokens_of_shifted_images_are_candidates_that_know_their_image(encoder: Encoder, shifts: int, relative: bool):
    images = [striped(seed, 64, 64) for seed in range(11)]  # more than a batch
    recipe = recipe_of(shifts=shifts, relative=relative)
    normal, plain = encoded(encoder, images, recipe), encoded(encoder, images, recipe_of(relative=relative))
    rows, columns = encoder.grid(64, 64)
    count = len(plain.candidates)
    assert torch.equal(normal.candidates[:count], plain.candidates)  # the order of the unshifted ones may not change
    assert torch.equal(normal.sources[:count], plain.sources)
    assert torch.equal(normal.reference_tokens, plain.reference_tokens)
    half = encoder.patch_size_px // 2
    for number in (0, 10):
        expected = []
        for down, right in ((half, half), (half, 0), (0, half))[:shifts]:
            moved = np.pad(images[number], ((0, down), (0, right), (0, 0)), mode="edge")[down:, right:]
            with torch.no_grad():
                tokens = encoder.tokens_of(normalise(channels_first(moved)[None]), (0, 1), relative)[0]
            on_grid = tokens.unflatten(0, (rows, columns))
            expected.append(on_grid[: rows - (down > 0), : columns - (right > 0)].flatten(0, 1))
        found = normal.candidates[count:][normal.sources[count:] == number].float()
        torch.testing.assert_close(found, torch.cat(expected), atol=4e-3, rtol=0)  # fp16
    assert len(normal.sources) == len(normal.candidates)
    reopened = GoodImages.of(normal.tensors())
    assert torch.equal(reopened.candidates, normal.candidates)


def test_memories_of_one_seed_are_equal(encoder: Encoder):
    images = [striped(seed, 64, 64) for seed in range(3)]
    first, second = memory_of(encoder, images), memory_of(encoder, images)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("scoring", ["memory", "fused"])
def test_a_detector_on_tokens_finds_a_hole_and_comes_back_from_its_folder(tmp_path: Path, scoring: str):
    images = load_images(write_good(tmp_path / "good"))
    recipe = tiny_recipe(*SMALL, f"method={scoring}")
    run = create_run(tmp_path / "runs" / "a", "test", recipe)
    detector = AnomalyDetector(recipe).fit(images, run, device="cpu")
    assert isinstance(detector.scorer_, TokenScorer)
    good, bad = striped(5000), striped(5001)
    bad[10:30, 10:30] = 0
    assert detector.predict(bad).score > detector.predict(good).score
    found = detector.predict(bad).anomaly_map
    assert found[12:28, 12:28].mean() > found[34:, 34:].mean()
    detector.save_pretrained(tmp_path / "saved")
    again = AnomalyDetector.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.predict(bad).score == detector.predict(bad).score
    np.testing.assert_array_equal(again.predict(bad).anomaly_map, found)
    repeated = AnomalyDetector(recipe).fit(images, create_run(tmp_path / "other" / "b", "test", recipe), device="cpu")
    assert repeated.predict(bad).score == detector.predict(bad).score
    assert repeated.stage_keys_ == detector.stage_keys_ and "memory" in detector.stage_keys_


def test_stages_that_are_done_already_give_the_same_model(tmp_path: Path):
    images, recipe = load_images(write_good(tmp_path / "good")), tiny_recipe(*SMALL, "method=fused")
    run = create_run(tmp_path / "run", "test", recipe)
    first = AnomalyDetector(recipe).fit(images, run, device="cpu").scorer_.state_dict()
    again = AnomalyDetector(recipe).fit(images, run, device="cpu").scorer_.state_dict()
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


def test_without_folds_the_scales_come_from_all_images_each_without_its_own_tokens(tmp_path: Path):
    # Shifted stripes are nearly equal, so that the last digit says which is nearest.
    recipe = tiny_recipe(*SMALL, "method=memory", "calibration.folds=0", "memory.shifts=0")
    images = load_images(write_good(tmp_path / "good"))
    detector = AnomalyDetector(recipe).fit(images, device="cpu")
    assert detector.calibration_ is None
    scorer = detector.scorer_
    assert isinstance(scorer, TokenScorer)
    found = [(float(scale.mean), float(scale.deviation)) for scale in scorer.map_scales]
    train = images.images
    squares = NormalPixels(train, detector.sizes_px[0])
    evidence = []
    with torch.no_grad():
        for i in range(len(train)):
            pixels = normalise(channels_first(squares[i])[None])
            appearance, tokens = scorer.taken.of_images(scorer.frozen, pixels)
            evidence.append(scorer.evidence_in(appearance, tokens, scorer.memory.nearest(tokens, torch.tensor([i]))))
        scorer.fit_map_scales(evidence)
    expected = [(float(scale.mean), float(scale.deviation)) for scale in scorer.map_scales]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)  # stored tokens are float16
    assert abs(detector.predict(striped(5000)).score) < 50  # standard deviations


@pytest.mark.parametrize(("part", "stage"), [("fit_memory", "memory"), ("fit_expectation", "expectation")])
def test_out_of_memory_outside_training_is_the_users_error(tmp_path: Path, monkeypatch, part: str, stage: str):
    def too_much(*_: object) -> None:
        torch.empty(2**46, dtype=torch.float64)  # more than any machine has

    monkeypatch.setattr(memory_fit if part == "fit_memory" else TokenScorer, part, too_much)
    recipe = tiny_recipe(*SMALL, "method=memory")
    run = create_run(tmp_path / "run", "test", recipe)
    with pytest.raises(UserError, match="out of memory with batches of 8 images of 64 px") as caught:
        AnomalyDetector(recipe).fit(load_images(write_good(tmp_path / "good")), run, device="cpu")
    assert caught.value.place == f"stage {stage}"
    assert caught.value.remedy == "--set data.image_size_px=SMALLER"


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        (("detect.image_score=vote",), "has no votes", "mean_logit"),
        (("memory.blocks=[2, 1]",), "memory.blocks is [2, 1]", "ascending"),
    ],
)
def test_settings_that_contradict_the_scoring_are_named(changes: tuple[str, ...], problem: str, remedy: str):
    with pytest.raises(UserError) as caught:
        tiny_recipe(*SMALL, "method=memory", *changes)
    assert problem in caught.value.problem and remedy in caught.value.remedy


def test_a_block_that_the_encoder_lacks_is_named(encoder: Encoder):
    with pytest.raises(UserError, match="the encoder has") as caught:
        build_scorer(encoder, tiny_recipe(*TOKENS, "method=memory", "memory.blocks=[99]"))
    assert caught.value.place == "memory.blocks"


def test_a_training_on_tokens_says_what_it_computes_with(tmp_path: Path, capsys):
    images = load_images(write_good(tmp_path / "good"))
    recipe = tiny_recipe(*TOKENS[1:], "data.image_size_px=70", "method=memory", "memory.blocks=[1]")
    AnomalyDetector(recipe).fit(images, device="cpu")
    said = capsys.readouterr().err
    assert "device     cpu, fp32: " in said and "bf16" not in said  # whatever the processor could do
    assert "size       64 px: data.image_size_px is 70, not a multiple of the encoder's patches of 16 px" in said
    assert "by onnxruntime" in said


def test_several_devices_are_refused_where_one_computes():
    with pytest.raises(UserError, match="the method memory computes on one device") as caught:
        tiny_recipe(*SMALL, "method=memory", "compute.devices=2")
    assert caught.value.place == "compute.devices"
    assert tiny_recipe("compute.devices=2", "method=paper", "pretrain.batch_size=4").compute.devices == 2


# ---- batches


@pytest.mark.parametrize("size", [2, 64])
def test_a_fit_is_the_same_where_images_share_passes(size: int, sharing, monkeypatch, tmp_path):
    images = load_images(write_good(tmp_path / "good", 24))
    recipe = tiny_recipe(*SMALL, "method=memory", "calibration.held_out_fraction=0.3")
    alone = AnomalyDetector(recipe).fit(images, device="cpu")
    sharing(size)
    encode = FrozenEncoder.encode

    def at_most_five(self, images, blocks=()):
        if len(images) > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(self, images, blocks)

    monkeypatch.setattr(FrozenEncoder, "encode", at_most_five)
    together = AnomalyDetector(recipe).fit(images, device="cpu")
    for name, expected in alone.scorer_.state_dict().items():
        torch.testing.assert_close(together.scorer_.state_dict()[name], expected, atol=1e-5, rtol=1e-5)
    assert together.calibration_.held_out_scores == pytest.approx(alone.calibration_.held_out_scores, abs=1e-4)
    assert together.calibration_.map_threshold == pytest.approx(alone.calibration_.map_threshold, abs=1e-4)
    assert together.proxy_.n == alone.proxy_.n
    assert together.proxy_.image_auroc == pytest.approx(alone.proxy_.image_auroc)


def test_the_lookup_among_others_is_the_same_for_any_batch(encoder, sharing):
    images = [striped(number, 64, 64) for number in range(9)]
    recipe = recipe_of()
    good = encoded(encoder, images, recipe)
    memory = memory_on(good, recipe)
    expected = memory_fit.lookup_of_others(memory, good)
    for size in (1, 4, 16):
        sharing(size)
        found = memory_fit.lookup_of_others(memory, good)
        assert torch.equal(found.indices, expected.indices) and torch.equal(found.distances, expected.distances)

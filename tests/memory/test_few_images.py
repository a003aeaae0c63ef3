"""Few good images: one is enough to train on, views of them fill the memory, and folds say which views help."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.memory.few_images import (
    ANOTHER,
    ViewTokens,
    kinds_that_help,
    nearest,
    views_among,
    with_tokens,
    with_views_as_others,
    without_views,
)
from flawmap.memory.good_images import GoodImages
from flawmap.memory.views import FEW, SAFE, VIEWS, views_of
from flawmap.reproducibility import file_sha256
from flawmap.runs.manifest import ManifestRow, write_manifest
from flawmap.runs.run_folder import RunFolder, create_run
from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=60", "memory.image_share=0.1", "data.tiles=none"),
    *("residual.steps=4", "residual.simulated_images=6", "expectation.appearance=mean_token"),
)
LEFT = json.dumps({"inside": [{"rectangle": [0, 0, 0.5, 1]}]})


def trained(folder: Path, count: int, *changes: str, roi: str | None = None) -> tuple[AnomalyDetector, RunFolder]:
    images = folder / f"good{count}"
    for number in range(count):
        if not (images / f"{number:02d}.png").is_file():
            write_image(images / f"{number:02d}.png", striped(number, 96, 96))
    recipe = tiny_recipe(*SMALL, *changes)
    recipe = replace(recipe, data=replace(recipe.data, roi=roi))
    run = create_run(folder / "run", "test", recipe)
    return AnomalyDetector(recipe).fit(load_images(images), run, device="cpu"), run


def encoding_of(run: RunFolder, name: str = "encoding") -> GoodImages:
    return GoodImages.of(read_tensors(run.path / "checkpoints" / f"{name}.safetensors"))


def made_up(images: int, patches: int = 4, dim: int = 8) -> GoodImages:
    generator = torch.Generator().manual_seed(images)
    tokens = torch.randn(images, patches, 2, dim, generator=generator).half()
    sources = torch.arange(images, dtype=torch.int32)
    return GoodImages(
        attention=torch.ones(images, 2, 2),
        references=torch.arange(images),
        reference_appearances=torch.randn(images, dim, generator=generator),
        reference_tokens=tokens,
        candidates=tokens.flatten(0, 1).clone(),
        sources=sources.repeat_interleave(patches),
        images=sources,
        originals_px=torch.full((images, 2), 64, dtype=torch.int32),
    )


# ---- which views help


@pytest.mark.parametrize(
    ("gains", "safe_is_kept", "other_is_kept"),
    [
        ([0.20, 0.22, 0.21], True, True),
        ([0.2, -0.1, 0.1], True, False),  # by chance
        ([-0.20, -0.22, -0.21], False, False),
        ([0.3], True, False),  # one image tells nothing
        ([], True, False),
        ([0.0, 0.0], True, False),
        ([0.1, 0.3], True, False),  # t = 2, and 3.08 are needed with two images
    ],
)
def test_safe_views_stay_unless_they_harm_and_others_must_help(gains, safe_is_kept: bool, other_is_kept: bool):
    found = kinds_that_help({"tilted": np.array(gains), "turned": np.array(gains)})
    assert ("tilted" in found) == safe_is_kept and ("turned" in found) == other_is_kept


def test_distances_to_the_nearest_are_those_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    tokens, others = torch.randn(2, 3, 2, 8, generator=generator), torch.randn(20, 2, 8, generator=generator)
    expected = 1 - torch.cosine_similarity(tokens[:, :, None], others, dim=-1).amax(dim=2)
    torch.testing.assert_close(nearest(tokens, others.half()), expected, atol=2e-3, rtol=1e-3)
    assert (nearest(tokens, others[:0]) == 2).all()


# ---- tokens of views among the candidates


def test_views_come_last_and_can_be_taken_out_again():
    good = made_up(3)
    added = ViewTokens(torch.ones(5, 2, 8).half(), torch.tensor([0, 0, 1, 2, 2]), torch.tensor([4, 7, 4, 4, 7]))
    both = GoodImages.of(with_tokens(good, added).tensors())
    assert both.numbers_of_views == (4, 7) and len(both.candidates) == len(both.sources) == len(both.views) == 17
    again = views_among(both)
    assert torch.equal(again.tokens, added.tokens) and again.sources.tolist() == [0, 0, 1, 2, 2]
    plain = without_views(both)
    assert plain.views is None and torch.equal(plain.candidates, good.candidates)
    assert torch.equal(plain.sources, good.sources) and without_views(good) is good
    assert with_views_as_others(both) is both, "there are others"


def test_views_of_one_image_stand_in_for_another():
    added = ViewTokens(torch.ones(2, 2, 8).half(), torch.tensor([0, 0]), torch.tensor([0, 1]))
    good = with_views_as_others(with_tokens(made_up(1), added))
    assert good.sources.tolist() == [0] * 4 + [ANOTHER] * 2


# ---- trainings


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnomalyDetector, RunFolder]:
    return trained(tmp_path_factory.mktemp("one"), 1)


def test_one_image_trains_and_sets_no_threshold(one, tmp_path: Path):
    detector, run = one
    good = encoding_of(run)
    assert good.numbers_of_views == views_of(SAFE)
    assert detector.calibration_ is None and detector.proxy_ is None
    assert not detector.predict(striped(0, 96, 96)).is_anomalous
    same, other = (detector.predict(image).score for image in (striped(0, 96, 96), np.zeros((96, 96, 3), np.uint8)))
    assert np.isfinite([same, other]).all() and other > same
    scorer = detector.scorer_
    assert scorer.memory.sources.unique().tolist() == [0, ANOTHER]
    assert float(scorer.image_scales[0].deviation) == 1.0, "one image has no deviation: that of its patches counts"
    detector.save_pretrained(tmp_path / "model")
    assert AnomalyDetector.from_pretrained(tmp_path / "model", "cpu").predict(striped(0, 96, 96)).score == same


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 7))])
def test_each_of_few_images_is_judged_by_a_fit_to_the_others(count: int, tmp_path: Path):
    detector, run = trained(tmp_path, count, "method=memory")
    calibration, proxy = detector.calibration_, detector.proxy_
    assert calibration.n_held_out == count and calibration.is_estimate
    assert calibration.smallest_resolvable_rate == 1 / (count + 1) and not calibration.is_resolved
    assert calibration.threshold > max(calibration.held_out_scores), "the smallest rate that so many images support"
    assert calibration.threshold == pytest.approx(max(calibration.held_out_scores))
    assert f"only {1 / (count + 1):.1%} can be expected" in calibration.words[1]
    assert proxy.n == -(-32 // count) * count >= len(proxy.defect_scores) > 20, "some defects change nothing"
    missed = sum(score <= calibration.threshold for score in proxy.defect_scores)
    found = f"it misses {missed} of {len(proxy.defect_scores)} simulated defects"
    assert proxy.missed_words(calibration.threshold).startswith(found)
    assert set(encoding_of(run).numbers_of_views) <= set(range(len(VIEWS)))


@pytest.mark.slow
def test_images_of_views_are_left_out_with_their_image(tmp_path: Path, monkeypatch):
    from flawmap.memory import fitted as fitted_module

    kept = []
    unseen_scores = fitted_module.unseen_scores
    monkeypatch.setattr("flawmap.memory.fit.unseen_scores", lambda *of: kept.append(unseen_scores(*of)) or kept[-1])
    trained(tmp_path, 4, "method=memory")
    (unseen,) = kept
    assert sorted(unseen.folds) == [0, 1, 2, 3]
    for number, fold in enumerate(unseen.folds):
        memory = unseen.scorer_without(fold).memory
        assert len(memory.sources[0]) == 60 and (memory.sources != number).all()


def test_with_many_images_no_view_is_encoded(tmp_path: Path):
    detector, run = trained(tmp_path, FEW, "method=memory")
    assert encoding_of(run).views is None and len(encoding_of(run).candidates) == FEW * (16 + 9)
    assert detector.proxy_.n == FEW


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_tiles_of_few_images_have_the_views_of_the_whole_images(count: int, tmp_path: Path):
    detector, run = trained(tmp_path, count, "data.tiles=64", "method=memory")
    whole, tiles = encoding_of(run), encoding_of(run, "tiles_encoding")
    assert tiles.numbers_of_views == whole.numbers_of_views
    assert np.isfinite(detector.predict(striped(50, 96, 96)).score)
    assert (detector.calibration_ is None) == (count == 1)


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_views_show_nothing_outside_the_region_of_interest(count: int, tmp_path: Path):
    detector, run = trained(tmp_path, count, "method=memory", roi=LEFT)
    good = encoding_of(run)
    inside = int(good.inside[0].sum())
    counts = torch.bincount(good.views[good.views >= 0].long(), minlength=len(VIEWS))
    assert (counts <= inside * count).all()
    changed = striped(0, 96, 96).copy()
    changed[:, 48:] = 0
    assert detector.predict(changed).score == detector.predict(striped(0, 96, 96)).score


# ---- updates


def test_a_model_of_one_image_learns_from_more(one, tmp_path: Path):
    detector, run = one
    detector.save_pretrained(run.path / "model")
    path = run.path.parent / "good1" / "00.png"
    write_manifest(run.path / "data_manifest.csv", [ManifestRow("00.png", file_sha256(path), "train", 96, 96, "", "")])
    updated = AnomalyDetector.from_pretrained(run.path, "cpu")
    for number in range(1, 4):
        write_image(tmp_path / "new" / f"{number:02d}.png", striped(number, 96, 96))
    updated.update(load_images(tmp_path / "new"), device="cpu")
    assert updated.calibration_.n_held_out == 4
    good = updated.learned_.whole
    assert good.numbers_of_views == views_of(SAFE)
    assert (torch.bincount(good.sources.long())[0] == torch.bincount(good.sources.long())).all()
    assert not updated.predict(striped(2, 96, 96)).is_anomalous
    write_good(tmp_path / "more", FEW)
    updated.update(load_images(tmp_path / "more"), device="cpu")
    good = updated.learned_.whole
    assert good.views is None and len(good.images) == 4 + FEW
    assert torch.bincount(good.sources.long()).tolist() == [16 + 9] * (4 + FEW)


def test_no_image_is_too_few(tmp_path: Path):
    recipe = tiny_recipe(*SMALL)
    with pytest.raises(UserError, match="no good images"):
        AnomalyDetector(recipe).fit([], device="cpu")

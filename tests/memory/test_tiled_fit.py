"""Whole images and tiles: what is fitted to which, how scores are joined, and that a saved model does the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.tensor_files import read_tensors
from flawmap.errors import UserError
from flawmap.memory import tiled_fit
from flawmap.memory.tiled_scorer import MAP_SHARES, TiledScorer
from flawmap.runs.run_folder import create_run
from flawmap.scorer import average_maps
from flawmap.vit.inputs import channels_first, normalise
from images import striped, write_image
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

HEIGHT, WIDTH, COUNT = 120, 180, 20
TILES = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    for number in range(COUNT):
        write_image(folder / "good" / f"{number:02d}.png", striped(number, HEIGHT, WIDTH))
    return folder


def fit(folder: Path, run_name: str, *changes: str) -> AnomalyDetector:
    recipe = tiny_recipe(*TILES, *changes)
    images = load_images(folder / "good")
    return AnomalyDetector(recipe).fit(images, create_run(folder / run_name, "test", recipe), device="cpu")


@pytest.fixture(scope="module")
def tiled(folder: Path) -> AnomalyDetector:
    return fit(folder, "run", "data.tiles=100")


def test_tiles_have_a_memory_head_and_expectation_of_their_own_and_share_the_encoder(tiled):
    scorer = tiled.scorer_
    assert isinstance(scorer, TiledScorer)
    assert scorer.tiling.grid(HEIGHT, WIDTH) == (5, 7)  # 0.64 of the image's pixels, patches of 16 px
    assert scorer.tiling.count(HEIGHT, WIDTH) == 6
    assert scorer.whole.memory.tokens.shape[1] == scorer.tiles.memory.tokens.shape[1] == 40
    assert not torch.equal(scorer.whole.memory.tokens, scorer.tiles.memory.tokens)
    assert scorer.whole.encoder is scorer.tiles.encoder is scorer.encoder
    assert len(scorer.whole.expectation.appearances) == COUNT
    assert len(scorer.tiles.expectation.appearances) == 6 * COUNT
    assert set(scorer.tiles.memory.sources.unique().tolist()) <= set(range(COUNT)), "sources are images, not tiles"
    names = [name for name in scorer.state_dict() if "encoder" in name]
    assert names and all(name.startswith("encoder.") for name in names), "the encoder is stored once"


def test_scores_and_maps_are_joined_from_the_whole_and_its_tiles(tiled):
    image = striped(50, HEIGHT, WIDTH)
    analysis = tiled.analyse(image)
    whole, tiles = analysis.scales
    assert analysis.scores["mean_logit"] == pytest.approx((whole.logit + tiles.logit) / 2)
    assert whole.evidence.shape == (4, 4) and tiles.evidence.shape == (5, 7)
    both = [torch.from_numpy(scale.evidence)[None] for scale in analysis.scales]
    expected = MAP_SHARES[0] * average_maps(both[:1], HEIGHT, WIDTH) + MAP_SHARES[1] * average_maps(
        both[1:], HEIGHT, WIDTH
    )
    np.testing.assert_allclose(analysis.anomaly_map, expected[0].numpy(), rtol=1e-5, atol=1e-5)
    scorer, tiling = tiled.scorer_, tiled.scorer_.tiling
    with torch.no_grad():
        alone = [scorer.tiles.score(normalise(channels_first(tile)[None])) for tile in tiling.tiles(image)]
    highest = max(float(output.image[0]) for output in alone)
    expected = (highest - float(scorer.highest.mean)) / float(scorer.highest.deviation)
    assert tiles.logit == pytest.approx(expected, abs=1e-4)
    joined = tiling.joined(np.stack([output.evidence[0].numpy() for output in alone]), (5, 7))
    np.testing.assert_allclose(tiles.evidence, joined, atol=1e-4)


def test_a_saved_model_gives_the_same(tiled, folder):
    tiled.save_pretrained(folder / "model")
    loaded = AnomalyDetector.from_pretrained(folder / "model", "cpu")
    image = striped(51, HEIGHT, WIDTH)
    assert loaded.predict(image).score == tiled.predict(image).score
    np.testing.assert_array_equal(loaded.predict(image).anomaly_map, tiled.predict(image).anomaly_map)
    assert isinstance(loaded.scorer_, TiledScorer)
    assert loaded.scorer_.tiles.frozen is loaded.scorer_.whole.frozen, "one session for both"


@pytest.mark.slow
def test_the_threshold_rests_on_joined_scores_of_fits_that_have_not_seen_the_image(folder, monkeypatch):
    kept = []
    joined = tiled_fit.joined_scores
    monkeypatch.setattr(tiled_fit, "joined_scores", lambda *args: kept.append(joined(*args)) or kept[-1])
    detector = fit(folder, "unseen", "data.tiles=100")
    (unseen,) = kept
    assert unseen.images == list(range(COUNT)) and sorted(set(unseen.folds)) == [0, 1, 2, 3, 4]
    highest = [scales[1].logit for scales in unseen.scales]
    assert np.mean(highest) == pytest.approx(0, abs=1e-5) and np.std(highest) == pytest.approx(1, abs=1e-5)
    for row, (number, fold) in enumerate(zip(unseen.images, unseen.folds, strict=True)):
        without = unseen.scorer_without(fold)
        of_image = torch.tensor(unseen.folds)
        for part in (without.whole, without.tiles):
            assert (of_image[part.memory.sources.long()] != fold).all()
        assert len(without.tiles.expectation.appearances) == 6 * sum(other != fold for other in unseen.folds)
        afresh = AnomalyDetector(detector.recipe)
        afresh.scorer_ = without
        analysis = afresh.analyse(striped(number, HEIGHT, WIDTH))
        assert analysis.scores["mean_logit"] == pytest.approx(unseen.image_scores[row], abs=0.05)  # kept in float16
        assert float(analysis.anomaly_map.max()) == pytest.approx(unseen.map_peaks[row], abs=0.05)
    scores = sorted(unseen.image_scores)
    assert detector.calibration_ is not None
    assert scores[-2] <= detector.calibration_.threshold <= scores[-1] + 1e-9


def test_a_training_goes_on_from_the_stages_that_are_finished(folder, tiled, capsys):
    capsys.readouterr()
    again = fit(folder, "again", "data.tiles=100")
    said = capsys.readouterr().err
    assert said.count("reused, the same as in an earlier run") == 8
    image = striped(52, HEIGHT, WIDTH)
    assert again.predict(image).score == tiled.predict(image).score
    stored = read_tensors(folder / "run" / "checkpoints" / "tiles_encoding.safetensors")
    assert stored["images"].tolist() == [number for number in range(COUNT) for _ in range(6)]
    about = json.loads((folder / "run" / "checkpoints" / "tiles_memory.json").read_text())
    assert about["stage"] == "tiles_memory"


def test_without_folds_there_is_no_threshold_and_the_scale_is_still_set(folder):
    detector = fit(folder, "no-folds", "data.tiles=100", "calibration.folds=0")
    assert detector.calibration_ is None and isinstance(detector.scorer_, TiledScorer)
    assert float(detector.scorer_.highest.deviation) != 1.0


@pytest.mark.slow
def test_auto_takes_no_tiles_where_the_whole_image_is_seen(folder, tmp_path, capsys):
    for number in range(COUNT):
        write_image(tmp_path / "good" / f"{number:02d}.png", striped(number, 64, 64))
    detector = fit(tmp_path, "small", "data.tiles=auto")
    assert not isinstance(detector.scorer_, TiledScorer)
    assert "tiles      none: 4 tiles per image would not show 1.5 times as much" in capsys.readouterr().err
    larger = fit(folder, "auto", "data.tiles=auto")
    assert isinstance(larger.scorer_, TiledScorer) and larger.scorer_.tiling.count(HEIGHT, WIDTH) <= 5


def test_the_smallest_defect_chooses_the_tiles(folder, capsys):
    detector = fit(folder, "defect", "data.tiles=auto", "data.smallest_defect_px=12")
    scorer = detector.scorer_
    assert isinstance(scorer, TiledScorer) and scorer.tiling.patch_of_original_px == pytest.approx(24)
    count = scorer.tiling.count(HEIGHT, WIDTH)
    said = f"{count:.1f} per image, so that an image takes {count + 1:.1f} times as long as with data.tiles none"
    assert said in capsys.readouterr().err
    enough = fit(folder, "coarse", "data.tiles=auto", "data.smallest_defect_px=500")
    assert not isinstance(enough.scorer_, TiledScorer)
    assert "tiles      none: the whole images show the smallest defect" in capsys.readouterr().err


def test_tiles_larger_than_every_image_are_refused(folder):
    with pytest.raises(UserError) as caught:
        fit(folder, "too-large", "data.tiles=400")
    assert caught.value.problem == "data.tiles is 400 px, and no good image is larger than that"
    assert caught.value.remedy == "choose fewer pixels, or --set data.tiles=auto"


def test_tiles_of_two_patches_are_refused(folder):
    with pytest.raises(UserError) as caught:
        fit(folder, "two-patches", "data.tiles=auto", "data.image_size_px=32")
    assert caught.value.problem == "a tile of 32 px has 2 patches a side, and neighbouring tiles share 2"
    assert caught.value.remedy == "--set data.image_size_px=64 or more, or --set data.tiles=none"


@pytest.mark.parametrize("value", ["many", "12", "1e3", "-100"])
def test_other_values_of_the_setting_are_refused(value: str):
    with pytest.raises(UserError, match="must be auto, none, or a side from 28 to 100000 px"):
        tiny_recipe(*TILES, f"data.tiles={value}")

"""The fast search against the plain one: what is compared, and what is printed."""

from pathlib import Path

import pytest

from flawmap import AnomalyDetector, load_images
from flawmap.deploy.parity import CheckImage, compare
from flawmap.memory import search
from flawmap_bench.speed.search_parity import main, searching
from images import striped, write_category, write_good
from tiny_detector import fitted_detector, tiny_recipe

ON_TOKENS = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=memory"),
    *("memory.blocks=[1, 2]", "memory.tokens=200"),
)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> AnomalyDetector:
    images = load_images(write_good(tmp_path_factory.mktemp("good"), 24))
    return AnomalyDetector(tiny_recipe(*ON_TOKENS)).fit(images, device="cpu")


def test_searches_of_one_memory_agree_and_share_it(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "SMALLEST_COARSE", 1)
    paths = [write_category(tmp_path / "tile") / "train" / "good" / f"{n:03d}.png" for n in range(1)]
    fast, plain = searching(detector, "int8"), searching(detector, "fp32")
    products = [s.scorer_.memory._searches[0].product for s in (fast, plain)]
    assert products == ["int8", "fp32"]
    assert fast.scorer_.memory.unit is detector.scorer_.memory.unit
    found = compare(detector, fast, [CheckImage(path, False) for path in paths])
    assert 0 <= found.max_score_difference < 1e-3 and found.n_verdicts_changed == 0
    image = striped(3)
    assert plain.predict(image).score == pytest.approx(detector.predict(image).score, abs=1e-4)


def test_the_command_prints_a_row(detector, tmp_path, capsys):
    detector.save_pretrained(tmp_path / "model")
    data = write_category(tmp_path / "tile")
    assert main([str(tmp_path / "model"), str(data), "--count", "3"]) == 0
    out = capsys.readouterr().out
    assert "and fp32 | 3 | " in out and out.count("\n") == 3


def test_a_model_without_a_memory_is_refused(tmp_path: Path, capsys):
    fitted_detector().save_pretrained(tmp_path / "model")
    assert main([str(tmp_path / "model"), str(write_category(tmp_path / "tile"))]) == 2
    assert "has no memory to search" in capsys.readouterr().err

"""How many steps of a head fit before a moment."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.engine.compute import choose_compute
from flawmap.memory.build_memory import build_memory
from flawmap.memory.good_tokens import encode_normals
from flawmap.memory.scorer import ResidualScorer, TokenScorerShape
from flawmap.runs.run_folder import create_run
from flawmap.simulators.by_name import simulator_by_name
from flawmap.simulators.dataset import SimulationDataset
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import build_vit
from flawmap_bench import time_limit
from images import striped, write_good
from tiny_detector import tiny_recipe

pytestmark = pytest.mark.usefixtures("small_heads")

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=12", "residual.batch_size=6"),
)


def fused(tmp_path: Path, *changes: str, until: float | None = None) -> AnomalyDetector:
    recipe = tiny_recipe(*SMALL, "method=fused", *changes)
    run = create_run(tmp_path / "run", "fit", recipe)
    return AnomalyDetector(recipe).fit(load_images(write_good(tmp_path / "good")), run, "cpu", until=until)


def test_a_head_that_is_out_of_time_is_that_of_a_recipe_with_one_step(tmp_path: Path):
    late, short = fused(tmp_path / "a", until=0.0), fused(tmp_path / "b", "residual.steps=1")
    assert json.loads((tmp_path / "a" / "run" / "checkpoints" / "residual.json").read_text())["steps"] == 1
    for name, tensor in short.scorer_.state_dict().items():  # pyright: ignore[reportOptionalMemberAccess]
        torch.testing.assert_close(late.scorer_.state_dict()[name], tensor, rtol=0, atol=0)  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(("until", "steps"), [(30.0, 12), (19.5, 4), (16.9, 1), (0.0, 1)])
def test_steps_in_time_leave_time_for_the_look_at_good_images(monkeypatch, until: float, steps: int):
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    images = [striped(seed, 64, 64) for seed in range(24)]
    compute = choose_compute("cpu", "fp32")
    normal = encode_normals(encoder, images, (0, 1), False, 64, compute, seed=0)
    scorer = ResidualScorer(encoder, TokenScorerShape((0, 1), 30, 16, 0.1))
    scorer.memory.load_state_dict(build_memory(normal, 30, compute, seed=0).state_dict())
    settings = tiny_recipe(*SMALL).residual
    simulator = simulator_by_name(settings.simulation.simulator, settings.simulation)
    dataset = SimulationDataset(images, normal.attention.numpy(), 64, settings.augmentation, simulator, 0)
    before = {name: tensor.clone() for name, tensor in scorer.state_dict().items()}
    ticks = itertools.count()
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: float(next(ticks)))  # a second passes at each look
    # three steps and three looks, at eight of 24 reference images, take 12 s; three such looks come after the last
    limited = replace(compute, until=until)
    assert time_limit.head_steps_in_time(scorer, dataset, normal, settings, 6, limited) == steps
    for name, tensor in scorer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)

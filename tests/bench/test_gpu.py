"""The measurement of a device: its closed forms, the rows of its table, and what it says where it measures nothing."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flawmap.recipe.settings import ModelSettings
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import load_encoder
from flawmap_bench import gpu, gpu_flops, gpu_peer
from flawmap_bench.gpu import Peaks, Plan, Row, main, make_images, peer, table
from flawmap_bench.gpu_flops import encoder_flops, measured_peak, step_flops
from flawmap_bench.method import MethodSettings
from flawmap_bench.peers.anomalib_method import AnomalibMethod
from images import pixels_of
from tiny_detector import tiny_recipe, write_tiny_recipe

FUSED = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6"),
)
ARCHITECTURES = ("test_vit", "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2")


def encoder_of(architecture: str) -> Encoder:
    return load_encoder(ModelSettings("random", architecture))[0].eval()


def counted(work) -> int:
    """Operations of matrix products and convolutions, as torch counts them."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


# ---- operations


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("all_tokens", [False, True])
def test_the_operations_of_a_pass_are_those_that_torch_counts(architecture: str, all_tokens: bool):
    encoder = encoder_of(architecture)
    side = 3 * encoder.patch_size_px
    with torch.no_grad():
        found = counted(lambda: encoder(torch.zeros(2, 3, side, side), patch_tokens=all_tokens))
    assert found == 2 * encoder_flops(encoder, side, all_tokens=all_tokens)


def test_dropped_patches_cost_their_embedding_alone():
    encoder = encoder_of("test_vit")
    with torch.no_grad():
        found = counted(lambda: encoder(torch.zeros(1, 3, 64, 64), keep=torch.tensor([[0, 3, 5]])))
    assert found == encoder_flops(encoder, 64, kept=3) < encoder_flops(encoder, 64)


def test_a_step_of_stage_1_is_counted_view_by_view():
    encoder = encoder_of("test_vit")

    def step() -> None:
        with torch.no_grad():
            encoder(torch.zeros(1, 3, 64, 64))  # teacher
            encoder(torch.zeros(1, 3, 64, 64))  # attention, of a global and of two local views
            encoder(torch.zeros(2, 3, 32, 32))
        keep, keep_local = torch.arange(11)[None], torch.arange(3)[None].expand(2, -1)
        cls = encoder(torch.zeros(1, 3, 64, 64, requires_grad=True), keep=keep).cls.sum()
        (cls + encoder(torch.zeros(2, 3, 32, 32, requires_grad=True), keep=keep_local).cls.sum()).backward()

    assert step_flops(encoder, (64, 32), 2, (11, 3), masks_locals=True) == pytest.approx(counted(step), rel=0.01)


def test_without_dropping_no_attention_is_computed_for_it():
    encoder = encoder_of("test_vit")
    whole, local = encoder_flops(encoder, 64), encoder_flops(encoder, 32)
    assert step_flops(encoder, (64, 32), 2, None, masks_locals=True) == 4 * whole + 6 * local
    masked = step_flops(encoder, (64, 32), 2, (16, 4), masks_locals=False)
    assert masked == 5 * whole + 6 * local


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    times = iter([4.0, 0.5, 2.0])
    clock = iter([0.0, 1.0, 2.0, 9.0])
    monkeypatch.setattr(gpu_flops, "seconds_of", lambda work, device: work() is not None and next(times))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert measured_peak("cpu", torch.float32, 10, at_least_s=5.0) == 2 * 1000 / 0.5


# ---- the whole


def test_presets_need_no_download_and_a_recipe_keeps_its_architecture():
    found = gpu.with_random_weights(gpu.load_recipe("standard"), gpu_peer.ARCHITECTURE).model
    assert (found.weights, found.architecture) == ("random", "vit_small_patch14_dinov2")
    assert gpu.with_random_weights(tiny_recipe(), gpu_peer.ARCHITECTURE).model.architecture == "test_vit"


@pytest.fixture
def recipes(tmp_path: Path) -> tuple[str, ...]:
    standard = write_tiny_recipe(tmp_path / "standard.yaml", *FUSED)
    paper = write_tiny_recipe(tmp_path / "paper.yaml", "pretrain.batch_size=2")
    return ("--recipe", str(standard), "--paper", str(paper))


@pytest.mark.slow
def test_one_command_measures_everything_and_ends_with_the_rows_as_a_table(recipes, capsys, monkeypatch, small_heads):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert main(["--device", "cpu", "--images", "16", "--seconds", "0.01", *recipes]) == 0
    printed = capsys.readouterr().out
    as_it_goes, at_the_end = printed.split("\n\n", 1)
    title, heads, rule, *rows = at_the_end.replace("\n\n", "\n").splitlines()
    assert as_it_goes.splitlines() == rows and title.startswith("`python -m flawmap_bench.gpu` on cpu (")
    assert {line.count("|") for line in (heads, rule, *rows)} == {5}
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [cell[0] for cell in cells] == [
        *("peak in fp32", "peak in bf16", "training", "scoring alone", "detection, decoded images"),
        *("flawmap detect --no-overlays", "flawmap detect", "step of stage 1 of the paper"),
        *("anomalib, AnomalyDINO", "anomalib, PatchCore-1 %"),
    ]
    assert all(float(cell[1].replace(",", "")) > 0 for cell in cells[2:8])
    assert all(float(cell[2].rstrip("%")) > 0 for cell in cells[3:4])
    assert cells[2][3].startswith("16 images in ") and cells[5][3].startswith("16 files, ")
    assert {cell[3] for cell in cells[8:]} == {"not measured: anomalib is not installed (extra peers)"}


@pytest.mark.slow
def test_when_the_time_is_over_no_part_begins_and_the_rest_is_said(recipes, capsys):
    assert main(["--device", "cpu", "--images", "12", "--seconds", "0.01", "--minutes", "0", *recipes]) == 0
    rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert [row for row in rows if "no time left" in row or "not installed" in row] == rows[5:]
    assert len(rows) == 10


def test_a_device_that_is_not_there_is_refused(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["--device", "cuda"]) == 2
    assert "--device cuda" in capsys.readouterr().err


# ---- rows


def test_a_row_says_what_is_not_known_with_a_dash():
    assert Row("a", None, None, "why").line() == "| a | – | – | why |"
    assert Row("a", 1234.56, 0.125).line() == "| a | 1,234.6 | 12.5% |  |"
    assert table("cpu", [Row("a", 1.0)]).splitlines()[-1] == "| a | 1.0 | – |  |"


def test_the_share_is_the_encoders_work_over_the_peak():
    encoder = encoder_of("test_vit")
    detector = SimpleNamespace(scorer_=SimpleNamespace(encoder=encoder), sizes_px=(32, 64))
    work = encoder_flops(encoder, 32) + encoder_flops(encoder, 64)
    assert gpu.share_of(10.0, detector, Peaks(1e9, 4e9)) == pytest.approx(10 * work / 1e9)


def test_made_images_are_the_same_each_time_and_differ_from_each_other(tmp_path):
    paths = sorted(make_images(tmp_path / "good", 3, (48, 64)).iterdir())
    pixels = [pixels_of(path) for path in paths]
    assert [image.shape for image in pixels] == [(48, 64, 3)] * 3
    assert np.array_equal(pixels[1], gpu.made_image(1, (48, 64)))
    assert not np.array_equal(pixels[0], pixels[1])


# ---- anomalib


def plan(**changes) -> Plan:
    until = time.monotonic() + 1000
    return replace(Plan(tiny_recipe(), tiny_recipe(), "parts", "cpu", until, 0.01, 8), **changes)


def ends(monkeypatch, code: int, out: str = "", err: str = "") -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(gpu, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu.subprocess, "run", run)
    return commands


def test_a_peer_has_its_rates_and_the_ratio_to_them(monkeypatch):
    line = gpu_peer.PREFIX + '{"training": 20.0, "detection": 50.0}'
    commands = ends(monkeypatch, 0, f"Epoch 0\n{line}\n")
    rows = [*peer(plan(), "patchcore", 64, {"training": 30.0, "detection": 400.0})]
    assert [(row.what, row.rate, row.note) for row in rows] == [
        ("anomalib, PatchCore-1 %: training", 20.0, "flawmap is 1.50 times as fast"),
        ("anomalib, PatchCore-1 %: detection", 50.0, "flawmap is 8.00 times as fast"),
    ]
    assert commands[0][1:8] == ["-m", "flawmap_bench.gpu_peer", "patchcore", "parts", "cpu", "32", "64"]


def test_a_peer_that_fails_or_takes_too_long_is_a_row_and_no_error(monkeypatch):
    ends(monkeypatch, 1, "", "Traceback\nCUDA out of memory\n")
    (row,) = peer(plan(), "anomaly_dino", 8, {})
    assert (row.rate, row.note) == (None, "not measured: CUDA out of memory")
    (row,) = peer(plan(until=time.monotonic() + 1), "anomaly_dino", 8, {})
    assert row.note == "not measured: no time left"

    def never_ends(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu.subprocess, "run", never_ends)
    (row,) = peer(plan(), "anomaly_dino", 8, {})
    assert row.note == "not measured: it did not end within the time"


def test_a_rate_counts_whole_batches_after_one_to_warm_up(monkeypatch):
    clock = iter([10.0, 11.0, 12.0, 15.0])
    monkeypatch.setattr(gpu_peer.time, "perf_counter", lambda: next(clock))
    images, batches = [np.full((1, 1, 3), number, np.uint8) for number in range(3)], []
    found = gpu_peer.rate(lambda some: batches.append([int(image.max()) for image in some]), images, 2, at_least_s=1.5)
    assert batches == [[0, 1], [2, 0], [1, 2]] and found == 2 * 2 / 5.0


def test_images_that_a_peer_scores_together_have_the_scores_that_they_have_alone():
    class Means(torch.nn.Module):
        def forward(self, images):
            return SimpleNamespace(anomaly_map=images.mean(dim=1, keepdim=True), pred_score=images.mean(dim=(1, 2, 3)))

    method = object.__new__(AnomalibMethod)
    method._settings, method._size_px = MethodSettings(0, 28, None, "cpu"), 28
    method.module, method._normalise = SimpleNamespace(model=Means()), lambda images: images
    images = [gpu.made_image(number, (32, 48 + number)) for number in range(3)]
    together = method.score_many(images)
    for image, scored in zip(images, together, strict=True):
        alone = method.score(image)
        assert alone.image_score == pytest.approx(scored.image_score) and scored.anomaly_map.shape == image.shape[:2]
        np.testing.assert_allclose(alone.anomaly_map, scored.anomaly_map, atol=1e-6)
    method.module.model.forward = lambda images: SimpleNamespace(anomaly_map=images[:, :1], pred_score=None)
    assert method.score(images[0]).image_score == pytest.approx(method.score_many(images)[0].anomaly_map.max(), rel=0.1)

"""What can go wrong once the data has been read: no hub, a loss that is not finite, too little memory, too few."""

from pathlib import Path

import numpy as np
import pytest
import torch

from assertions import assert_explained
from flawmap.paper.finetune import FinetuneModule
from flawmap.vit import weights
from images import striped, write_good, write_image

STAGE_2_ONLY = ("--set", "pretrain.enabled=false", "--device", "cpu")


def test_a_hub_that_does_not_answer_is_explained(cli, trained, monkeypatch):
    write_good(Path("parts"))
    monkeypatch.setattr(weights, "cached_file", lambda *_: None)
    monkeypatch.setattr(weights, "why_unreachable", lambda: "https://huggingface.co does not answer: no network")
    of_hub = ("--set", "model.weights=hub:vit_small_patch8_224.dino", "--set", "model.architecture=null")
    result = cli("train", "parts", "--recipe", trained.recipe, *of_hub)
    problem = ("the weights vit_small_patch8_224.dino are not in the Hugging Face cache", "does not answer: no network")
    assert_explained(result, problem, "model.weights", ("connect once, or pass --set model.weights=PATH",))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--set", "model.weights=nowhere.pth"), "nowhere.pth is neither the name of weights nor a file"),
        (("--set", "model.weights=torn.pth"), "the weights cannot be read safely"),
        (("--set", "model.weights=torn.safetensors"), "the weights cannot be read safely"),
        (("--set", "model.architecture=vit_imaginary"), "timm knows no model 'vit_imaginary'"),
        (("--set", "model.architecture=resnet18"), "resnet18 is not a vision transformer"),
        (("--set", "model.weights=hub:vit_small_patch8_224.imaginary"), "timm has no pretrained weights named"),
        (("--device", "cuda"), "--device cuda, but "),
        (("--device", "mps"), "--device mps, but "),
        (("--set", "pretrain.enabled=false", "--stage", "pretrain"), "stage 1 is switched off in this recipe"),
        (("--stage", "finetune"), "stage 1 of this recipe is not finished"),
    ],
)
def test_what_cannot_start_leaves_no_run_folder(cli, trained, monkeypatch, words, problem):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    write_good(Path("parts"))
    for torn in ("torn.pth", "torn.safetensors"):
        Path(torn).write_bytes(b"no weights")
    for run in ((), ("--run", "elsewhere/mine")):
        result = cli("train", "parts", "--recipe", trained.recipe, *run, *words)
        assert result.code == 2 and f"error: {problem}" in result.err, result.err
        assert "remedy: " in result.err
        folders = [path for place in ("runs", "elsewhere") for path in Path(place).glob("*")]
        assert [path for path in folders if not path.name.endswith(".lock")] == []


def test_weights_that_want_other_statistics_are_refused(cli, trained):
    write_good(Path("parts"))
    weights = ("--set", "model.weights=hub:vit_tiny_patch16_224", "--set", "model.architecture=null")
    result = cli("train", "parts", "--recipe", trained.recipe, *weights)
    problem = ("vit_tiny_patch16_224 was trained on images normalised to mean (0.5, 0.5, 0.5)", "not ImageNet's")
    assert_explained(result, problem, "model.weights", ("DINO, DINOv2",))


def test_a_loss_that_is_not_finite_stops_training(cli, trained, monkeypatch):
    write_good(Path("parts"))
    step = FinetuneModule.training_step

    def diverged(self, batch, number):
        with torch.no_grad():
            self.scorer.detection.neurons.bias.fill_(torch.nan)
        return step(self, batch, number)

    monkeypatch.setattr(FinetuneModule, "training_step", diverged)
    result = cli("train", "parts", "--recipe", trained.recipe, *STAGE_2_ONLY)
    assert_explained(result, ("the loss is nan at step 0",), "stage finetune", ("lower finetune.learning_rate",))


def test_too_little_memory_in_training_names_the_batch(cli, trained, monkeypatch):
    write_good(Path("parts"))

    def too_large(self, batch, number):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 9e12 bytes")

    monkeypatch.setattr(FinetuneModule, "training_step", too_large)
    result = cli("train", "parts", "--recipe", trained.recipe, *STAGE_2_ONLY)
    problem = ("out of memory with batches of 10 images of 32 px",)
    assert_explained(result, problem, "stage finetune", ("--set finetune.batch_size=5",))


def test_a_single_image_is_too_few_even_without_a_threshold(cli, trained):
    write_image(Path("parts/only.png"), striped(1))
    result = cli("train", "parts", "--recipe", trained.recipe, "--set", "calibration.held_out_fraction=0")
    assert_explained(result, ("1 good image", "at least 2 are needed to train"), "parts", ("add images",))


def test_an_anomalous_row_in_a_training_manifest_is_refused(cli):
    write_image(Path("d/a.png"), np.zeros((8, 8, 3), np.uint8))
    Path("d/manifest.csv").write_text("image,split,label\na.png,train,1\n")
    assert_explained(cli("train", "d"), ("normal images only",), "manifest.csv", ("set its split to test",))

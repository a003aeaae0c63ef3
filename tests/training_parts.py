"""Tiny images, recipes and modules, so that a stage of training takes a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from flawmap.data.sample import NormalImage
from flawmap.engine.compute import Compute
from flawmap.engine.training import QuietLightning
from flawmap.paper import projection
from flawmap.recipe.settings import (
    DataSettings,
    FinetuneSettings,
    MaskingSettings,
    ModelSettings,
    PretrainSettings,
    Recipe,
)
from flawmap.runs.run_folder import RunFolder, create_run
from flawmap.vit.encoder import Encoder
from flawmap.vit.weights import load_encoder

CPU = Compute("cpu", "fp32", "for the test")


@pytest.fixture
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hidden layers of 2048 would take most of a step's time."""
    monkeypatch.setattr(projection, "HIDDEN_DIM", 32)


@pytest.fixture
def cpu() -> Compute:
    return CPU


@pytest.fixture
def tiny_recipe() -> Recipe:
    """Both stages on images of 2 x 2 patches, four steps each, with stochastic depth."""
    return Recipe(
        method="paper",
        data=DataSettings(image_size_px=32),
        model=ModelSettings("random", "test_vit", drop_path_rate=0.3),
        pretrain=PretrainSettings(
            enabled=True,
            epochs=2,
            batch_size=4,
            local_views=1,
            local_size_px=32,
            prototypes=4,
            warmup_epochs=0.5,
            center_outputs=True,
            masking=MaskingSettings(strategy="random"),
        ),
        finetune=FinetuneSettings(epochs=2, batch_size=4, warmup_epochs=0.5),
    )


@pytest.fixture
def normal_images(good_folder: Path) -> tuple[NormalImage, ...]:
    """Ten of the good images: two batches of four per epoch, two images left over."""
    return tuple(NormalImage(path.name, path) for path in sorted(good_folder.glob("*.png"))[:10])


@pytest.fixture
def new_run(tmp_path: Path, tiny_recipe: Recipe) -> Callable[..., RunFolder]:
    """Makes a run folder; runs with the same ``shelf`` share their stages."""
    return lambda name, shelf="runs": create_run(tmp_path / shelf / name, "tiles", tiny_recipe)


@pytest.fixture
def tiny_encoder() -> Callable[..., Encoder]:
    """Makes a test_vit with attention that is far from uniform; its initial one hardly differs between patches."""

    def make(seed: int = 0, drop_path_rate: float = 0.0) -> Encoder:
        encoder, _ = load_encoder(ModelSettings("random", "test_vit"), drop_path_rate, seed)
        with torch.no_grad():
            for block in encoder.vit.blocks:
                block.attn.qkv.weight.mul_(8)
        return encoder

    return make


@pytest.fixture
def views() -> Callable[..., dict[str, Tensor]]:
    """Makes a batch of stage 1: random uint8 views of 64 px and two local ones of 32 px."""

    def make(seed: int, batch_size: int = 4, num_locals: int = 2) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def pixels(*shape: int) -> Tensor:
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

        return {
            "teacher": pixels(batch_size, 3, 64, 64),
            "student_global": pixels(batch_size, 3, 64, 64),
            "student_locals": pixels(batch_size, num_locals, 3, 32, 32),
        }

    return make


@pytest.fixture
def pretrain_settings() -> Callable[..., PretrainSettings]:
    """Makes settings of stage 1 for the ``views``."""
    basis = PretrainSettings(
        enabled=True, batch_size=4, local_views=2, local_size_px=32, prototypes=5, warmup_epochs=1.0
    )
    return lambda **changes: replace(basis, **changes)


@pytest.fixture
def fit_on() -> Callable[..., None]:
    """Makes Lightning's steps on a list of batches, without a run folder."""

    def fit(
        module: lightning.LightningModule, batches: list[dict[str, Tensor]], *callbacks: lightning.Callback
    ) -> None:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=len(batches),
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[QuietLightning(), *callbacks],
        )
        trainer.fit(module.train(), DataLoader(batches, batch_size=None))

    return fit

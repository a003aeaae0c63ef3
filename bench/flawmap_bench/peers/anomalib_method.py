"""One of anomalib's models as a method: its networks, losses and optimisers, our images, sizes, budget and scorer.

Post-processor, evaluator and visualiser are off, because anomalib's post-processor clamps scores; raw maps and scores
come from the torch model. There is no validation split, so no test image can leak into training. Run each model in its
own process: anomalib changes timm for the whole process.
"""

import copy
import inspect
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.optim.lr_scheduler import MultiStepLR

from flawmap.advice import install
from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.images.resize import resize_image
from flawmap.data.sample import NormalImage
from flawmap.errors import UserError
from flawmap.recipe.settings import ModelSettings
from flawmap.vit.positions import round_to_patches
from flawmap_bench.baselines.from_scratch import as_tensor, drawn_images
from flawmap_bench.baselines.maps import as_map, resized_map
from flawmap_bench.method import MethodSettings, ScoredImage
from flawmap_bench.peers.lightning_parts import CoresetWithin, GoodBatches, GoodImages, StepClock
from flawmap_bench.peers.local_weights import write_local_weights

PATCH_SIZE_PX = 14
PROBE_STEPS = 3  # the first is not timed
SAFETY = 0.95
# of a training, for models whose milestones anomalib counts in epochs; others count steps, or have none
MILESTONES = {"Supersimplenet": (0.8, 0.9), "Draem": (400 / 700, 600 / 700)}


@dataclass(frozen=True)
class Peer:
    """How a model of anomalib is built.

    Attributes:
        class_name: in ``anomalib.models.image``.
        encoder_argument: the argument that takes the encoder's name; None for a model with its own encoder.
        arguments: others that differ from anomalib's defaults.
        batch_size: images of a training step.
        is_fp32: whether it cannot train under autocast.
        is_scheduled_by_step: whether its learning rates are meant to change with each step. anomalib leaves them to
            Lightning, which changes them once per epoch: in our single epoch the rate would stay at the warm-up's
            first value, which is 0.
        own_weights: what it downloads if it has its own encoder.
        remark: how this differs from the publication.
    """

    class_name: str
    encoder_argument: Literal["encoder_name", "backbone"] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    is_fp32: bool = False
    is_scheduled_by_step: bool = False
    own_weights: str = ""
    remark: str = ""


PEERS: dict[str, Peer] = {
    "patchcore": Peer(
        "Patchcore",
        "backbone",
        {"layers": ("blocks.5", "blocks.8"), "coreset_sampling_ratio": 0.01},
        8,
        remark="blocks 6 and 9 in place of WideResNet-50's layers 2 and 3; coreset",
    ),
    "anomaly_dino": Peer("AnomalyDINO", "encoder_name", batch_size=8, remark="full bank, no mask"),
    "dinomaly": Peer(
        "Dinomaly", "encoder_name", is_scheduled_by_step=True, remark="ViT-S without registers in place of ViT-B"
    ),
    "inp_former": Peer(
        "InpFormer",
        "encoder_name",
        is_fp32=True,
        is_scheduled_by_step=True,
        remark="trained in fp32; ViT-S without registers in place of ViT-B",
    ),
    # its noise is tuned to this encoder's features, so no other can replace it
    "supersimplenet": Peer("Supersimplenet", batch_size=8, own_weights="wide_resnet50_2.tv_in1k of timm"),
}
PREFIX = "anomalib:"  # before the class of any other model: anomalib:Fastflow


class AnomalibMethod:
    """A model of anomalib.

    Args:
        settings: of the board.
        name: of :data:`PEERS`, or ``anomalib:CLASS``.
        weights: of the encoder, for tests; None for DINOv2 ViT-S/14.

    Raises:
        UserError: anomalib is not installed, has no such model, or cannot build it without a download.
    """

    def __init__(self, settings: MethodSettings, name: str, weights: ModelSettings | None = None) -> None:
        if find_spec("anomalib") is None:
            raise UserError(
                f"{name} needs anomalib, which is not installed", "--methods", install("peers", "flawmap-bench")
            )
        warnings.filterwarnings("ignore")  # anomalib triggers its own deprecation warnings
        lightning.seed_everything(settings.seed, verbose=False)
        self._settings = settings
        self._peer = PEERS.get(name) or Peer(name.removeprefix(PREFIX))
        self._size_px = round_to_patches(settings.image_size_px, PATCH_SIZE_PX)
        with tempfile.TemporaryDirectory(prefix="flawmap-peer-") as folder:
            self.module, origin = self._built(name, Path(folder), weights or ModelSettings(weights="dinov2_vits14"))
        self._normalise = _own_normalisation(self.module)
        self._origin = origin
        self.note = ""

    def fit(self, images: Sequence[NormalImage]) -> None:
        """One pass for a memory bank; otherwise as many steps as the budget holds, with the whole schedule in them."""
        started = time.monotonic()
        pixels = NormalPixels(images, self._size_px)
        if _is_memory_bank(self.module):
            steps = -(-len(pixels) // self._peer.batch_size)
            batches = GoodBatches(self._in_order(pixels), self._normalise, steps)
            coreset = CoresetWithin(self._settings.budget_seconds, started)
            self._train(self.module, batches, steps, "32-true", coreset)
            trained = coreset.note
        else:
            steps = self._steps_within(pixels, started)
            _shorten_warmup(self.module, steps)
            shorten_mining(self.module, steps)
            schedule_by_step(self.module, steps, self._peer.is_scheduled_by_step)
            precision = self._precision
            self._train(self.module, GoodBatches(self._at_random(pixels), self._normalise, steps), steps, precision)
            trained = f"{steps} steps of {self._peer.batch_size} images"
        self.module.eval()
        parts = (f"{self._size_px} px", self._peer.remark, trained, self._origin)
        self.note = "; ".join(part for part in parts if part)

    def score(self, image: UInt8[np.ndarray, "h w 3"]) -> ScoredImage:
        """See :class:`flawmap_bench.method.Method`."""
        return self.score_many([image])[0]

    @torch.inference_mode()
    def score_many(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[ScoredImage]:
        """Score images in one pass."""
        resized = [resize_image(image, self._size_px, self._size_px) for image in images]
        out = self.module.model(self._normalise(as_tensor(resized, self._settings.compute.device)))
        scored = []
        for number, image in enumerate(images):
            raw_map = None if out.anomaly_map is None else as_map(out.anomaly_map[number].squeeze())
            anomaly_map = None if raw_map is None else resized_map(raw_map, *image.shape[:2])
            if out.pred_score is not None:
                scored.append(ScoredImage(float(out.pred_score.flatten()[number]), anomaly_map))
            else:
                assert raw_map is not None  # a model gives at least one of the two
                scored.append(ScoredImage(float(raw_map.max()), anomaly_map))
        return scored

    def num_parameters(self) -> int:
        """Weights and memory bank; a memory bank is a buffer."""
        return sum(tensor.numel() for tensor in (*self.module.model.parameters(), *self.module.model.buffers()))

    @property
    def _precision(self) -> Literal["32-true", "bf16-mixed"]:
        return "32-true" if self._peer.is_fp32 else self._settings.compute.lightning_precision

    def _built(self, name: str, folder: Path, weights: ModelSettings) -> tuple[Any, str]:
        """The Lightning module alone, and where its encoder's weights came from."""
        kind = getattr(import_module("anomalib.models.image"), self._peer.class_name, None)
        if kind is None or not inspect.isclass(kind):
            known = f"choose {', '.join(PEERS)}, or {PREFIX}CLASS"
            raise UserError(f"anomalib has no model {self._peer.class_name}", "--methods", known)
        arguments: dict[str, Any] = dict(self._peer.arguments)
        source = "anomalib's own weights"
        if self._peer.encoder_argument is not None:
            encoder, origin = write_local_weights(folder, weights)
            arguments[self._peer.encoder_argument] = encoder
            source = f"encoder: {origin.source.split(' (')[0]}"
        off = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
        try:
            return kind(**arguments, **off), source
        except Exception as error:  # a download without network or an unknown argument can raise anything
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
                what = self._peer.own_weights or "weights of its own"
                reason = f"{what} must be downloaded, but the hub cannot be reached"
            raise UserError(
                f"anomalib cannot build {self._peer.class_name} ({reason})",
                name,
                "it needs its own weights: run it once where it can download them",
            ) from error

    def _in_order(self, pixels: NormalPixels) -> Any:
        size = self._peer.batch_size
        return lambda step: np.stack([pixels[i] for i in range(step * size, min((step + 1) * size, len(pixels)))])

    def _at_random(self, pixels: NormalPixels) -> Any:
        return lambda step: drawn_images(pixels, self._peer.batch_size, self._settings.seed, "peer", step)

    def _steps_within(self, pixels: NormalPixels, started: float) -> int:
        """How many steps fit into the rest of the budget, measured with a few on a copy of the model."""
        if self._settings.max_steps is not None or self._settings.budget_seconds is None:
            return self._settings.max_steps or 1000
        clock = StepClock()
        batches = GoodBatches(self._at_random(pixels), self._normalise, PROBE_STEPS)
        precision = self._precision
        self._train(copy.deepcopy(self.module), batches, PROBE_STEPS, precision, clock)
        left = SAFETY * (self._settings.budget_seconds - (time.monotonic() - started))
        return max(1, int(left / clock.seconds_per_step()))

    def _train(
        self, module: Any, batches: GoodBatches, steps: int, precision: Any, callback: lightning.Callback | None = None
    ) -> None:
        clip = module.trainer_arguments.get("gradient_clip_val", 0)
        trainer = lightning.Trainer(
            max_epochs=1,
            max_steps=steps,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            accelerator=self._settings.compute.device,
            devices=1,
            precision=precision,
            gradient_clip_val=clip,
            logger=False,
            callbacks=[callback] if callback else None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=GoodImages(batches))
        module.to(self._settings.compute.device)


def _is_memory_bank(module: Any) -> bool:
    """Whether a model only collects features in one pass."""
    return isinstance(module, import_module("anomalib.models.components").MemoryBankMixin)


def _shorten_warmup(module: Any, steps: int) -> None:
    """anomalib fixes 100 steps of warm-up; a training of fewer than 1,000 steps warms up for a tenth of them."""
    config = getattr(sys.modules[type(module).__module__], "TRAINING_CONFIG", None)
    if isinstance(config, dict) and "warmup_iters" in config.get("scheduler", {}):
        config["scheduler"]["warmup_iters"] = min(100, max(1, steps // 10))


def shorten_mining(module: Any, steps: int) -> None:
    """Dinomaly's loss drops easy points gradually, over 1,000 of anomalib's 5,000 steps; here over a fifth of ours."""
    loss: Any = getattr(module.model, "loss_fn", None)
    if hasattr(loss, "p_schedule_steps"):
        loss.p_schedule_steps = min(loss.p_schedule_steps, max(1, steps // 5))


def schedule_by_step(module: Any, steps: int, is_by_step: bool) -> None:
    """Let Lightning change the model's learning rates after each step, not after each epoch.

    Milestones that anomalib counts in epochs become the same shares of the steps. Within a single epoch they would all
    be at 0, where the rate would start at its final value, or would never be reached.
    """
    original, milestones = module.configure_optimizers, MILESTONES.get(type(module).__name__)

    def configure_optimizers() -> Any:
        configured = original()
        if not (isinstance(configured, tuple | list) and len(configured) == 2 and isinstance(configured[1], list)):
            return configured
        optimizers, schedulers = configured
        if milestones is not None:
            schedulers = [
                _in_steps(scheduler, [int(share * steps) for share in milestones]) for scheduler in schedulers
            ]
        elif not is_by_step:
            return configured
        return optimizers, [{"scheduler": scheduler, "interval": "step"} for scheduler in schedulers]

    module.configure_optimizers = configure_optimizers


def _in_steps(scheduler: MultiStepLR, milestones: list[int]) -> MultiStepLR:
    """The same factor at other milestones, from the initial rate, which the old milestones may have changed already."""
    for group in scheduler.optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    return MultiStepLR(scheduler.optimizer, milestones, gamma=scheduler.gamma)


def _own_normalisation(module: Any) -> Any:
    """The normalisation of the model's pre-processor, without resize and crop; identity where it has none."""
    from torchvision.transforms.v2 import Compose, Normalize

    transform = getattr(type(module).configure_pre_processor(), "transform", None)
    steps = [step for step in transform.transforms if isinstance(step, Normalize)] if transform is not None else []

    def normalise(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return Compose(steps)(images) if steps else images

    return normalise

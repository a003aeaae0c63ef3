"""Tiny ViTs with random weights, one for each option that a timm ViT may have."""

from functools import partial

import timm
import torch
from timm.layers.attention import Attention
from timm.layers.mlp import GluMlp, SwiGLU
from timm.layers.norm import LayerNormFp32
from torch import Tensor, nn

from flawmap.vit.encoder import Encoder

SwiGLUPacked = partial(GluMlp, act_layer=nn.SiLU, gate_last=False)
VARIANTS: dict[str, dict] = {
    "plain": {},
    "layer scale": {"init_values": 0.5},
    "registers": {"reg_tokens": 3},
    "registers without positions": {"reg_tokens": 3, "no_embed_class": True},
    "norm before": {"pre_norm": True},
    "no final norm": {"final_norm": False},
    "query and key norm": {"qk_norm": True},
    "query and key norm, no biases": {"qk_norm": True, "qkv_bias": False, "proj_bias": False},
    "no biases": {"qkv_bias": False, "proj_bias": False, "init_values": 0.5},
    "norms in attention and MLP": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "tanh": {"act_layer": "gelu_tanh"},
    "torch's tanh": {"act_layer": partial(nn.GELU, approximate="tanh")},
    "swish": {"act_layer": "silu"},
    "packed SwiGLU": {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "init_values": 0.5},
    "SwiGLU": {"mlp_layer": SwiGLU, "act_layer": nn.SiLU},
    "GLU with its gate last": {"mlp_layer": GluMlp, "scale_mlp_norm": True},
    "another norm": {"norm_layer": LayerNormFp32},
    "stochastic depth": {"drop_path_rate": 0.3, "proj_drop_rate": 0.2, "attn_drop_rate": 0.2},
    "gate": {},
    "one block": {"depth": 1},
}


def tiny_encoder(variant: str = "plain", gain: float = 4.0) -> Encoder:
    """An encoder of 3 blocks and 64 dimensions in evaluation mode; ``gain`` takes attention away from uniform."""
    torch.manual_seed(0)
    options = {"img_size": 48, "depth": 3, "embed_dim": 64, "num_heads": 2, "num_classes": 0} | VARIANTS[variant]
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, **options)
    if variant == "gate":
        for block in vit.blocks:
            block.attn = Attention(64, 2, qkv_bias=True, gated=True)
    for name, parameter in vit.named_parameters():
        if "norm" in name or "gamma" in name or "bias" in name or "token" in name:  # ones and zeros hide a wrong use
            nn.init.normal_(parameter, 0.7, 0.2)
    with torch.no_grad():
        for block in vit.blocks:
            block.attn.qkv.weight.mul_(gain)
    return Encoder(vit).eval()


def noise(height_px: int, width_px: int, number: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height_px * 1000 + width_px)
    return torch.randn(number, 3, height_px, width_px, generator=generator)

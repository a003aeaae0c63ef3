"""A frozen encoder as an ONNX graph, written operator by operator for ONNX Runtime on processors.

torch's exporter takes ten seconds for the same graph; this takes hundredths. In fp32 the graph refers to torch's own
weights, so that nothing is copied and the limit of 2 GB for a graph does not apply. In int8 each linear layer's weights
are rounded per output channel, and its input is rounded for each run by the input's own range.

Shapes in comments: b images, n patches, p prefix tokens, t = p + n, d dimensions, a = heads x d', of attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from timm.layers.attention import Attention
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from flawmap.vit.encoder import Encoder
from flawmap.vit.onnx_known import TANH_GELUS
from flawmap.vit.onnx_nodes import CONTRIB, TO_THE_END, OnnxGraph, OnnxNodes

# Of a rounded weight. On x86 without VNNI, products of 8 bits are added in pairs in 16 bits, which cuts off large sums
# without a word: two products of 64 and 255 just fit. With 7 bits everywhere, all processors give the same scores.
LARGEST_INT8 = 64

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class Wanted:
    """The outputs of a graph.

    Attributes:
        blocks: whose patch tokens are wanted, ascending from 0 = first. The outputs are named ``block_NUMBER``.
        cls: whether ``cls`` and ``cls_attention`` are. Without them, blocks after the last chosen one are left out.
    """

    blocks: tuple[int, ...]
    cls: bool

    @property
    def names(self) -> list[str]:
        """Names of the graph's outputs, in their order."""
        return [f"block_{number}" for number in self.blocks] + ["cls", "cls_attention"] * self.cls


def onnx_graph(encoder: Encoder, wanted: Wanted, precision: Precision = "fp32") -> OnnxGraph:
    """Write the graph of an encoder of which :func:`flawmap.vit.onnx_known.unknown_parts` finds nothing unknown.

    Args:
        encoder: on the processor, float32.
        wanted: its outputs; at least one.
        precision: of the linear layers. The attention between tokens, norms and the patch embedding are fp32 always.

    Returns:
        a graph of ``images`` float32 (b, 3, h, w), normalised, and ``positions`` float32 (1, n, d), those of
        :meth:`flawmap.vit.encoder.Encoder.patch_positions` for the images' grid. Its weights are float32 or int8; in
        fp32 they share the encoder's memory.
    """
    writer = _Writer(encoder, precision)
    writer.encoder(wanted)
    d, heads = encoder.embed_dim, encoder.num_heads
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"]),
        helper.make_tensor_value_info("positions", TensorProto.FLOAT, [1, "n", d]),
    ]
    shapes = {"cls": ["b", d], "cls_attention": ["b", heads, "n"]}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, ["b", "n", d])) for name in wanted.names
    ]
    return writer.graph("encoder", inputs, outputs)


def rounded_per_channel(weight: Tensor, largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (out, in) as integers (in, out) from -largest to largest, and the step (out,) between two of them."""
    step = weight.abs().amax(dim=1) / largest  # (out,)
    step = torch.where(step == 0, 1.0, step)
    integers = (weight / step[:, None]).round_().to(torch.int8)  # (out, in)
    return integers.t().contiguous().numpy(), step.numpy()


class _Writer(OnnxNodes):
    """Writes the parts of an encoder."""

    def __init__(self, encoder: Encoder, precision: Precision) -> None:
        super().__init__()
        self._encoder, self._is_int8 = encoder, precision == "int8"
        self._rounded: dict[str, list[str]] = {}  # a tensor as uint8 with its step and zero, by its name

    # ---- the ViT

    def encoder(self, wanted: Wanted) -> None:
        """Everything from images and positions to the outputs."""
        vit = self._encoder.vit
        num_blocks, prefix = len(vit.blocks), vit.num_prefix_tokens
        last = num_blocks - 1 if wanted.cls else None
        x = self._norm(self._embed(), vit.norm_pre)  # (b, t, d)
        attention = ""
        for number in range(num_blocks if wanted.cls else max(wanted.blocks) + 1):
            block = vit.blocks[number]
            assert isinstance(block, Block)
            if number == last:
                x, attention = self._last_block(x, block, number in wanted.blocks)  # (b, t or 1, d)
            else:
                x = self._block(x, block)  # (b, t, d)
            if number in wanted.blocks:
                self.slice(x, 1, prefix, TO_THE_END, output=f"block_{number}")  # (b, n, d)
        if wanted.cls:
            cls = self._norm(self.slice(x, 1, 0, 1), vit.norm)  # (b, 1, d)
            self.op("Squeeze", cls, self.integers(1), output="cls")  # (b, d)
            rows = self.slice(attention, 3, prefix, TO_THE_END)  # (b, heads, 1, n)
            self.op("Squeeze", rows, self.integers(2), output="cls_attention")  # (b, heads, n)

    def _embed(self) -> str:
        """Prefix and patch tokens with their positions (b, t, d)."""
        vit, projection = self._encoder.vit, self._encoder.vit.patch_embed.proj
        assert vit.cls_token is not None and isinstance(projection, nn.Conv2d)
        operands = ["images", *self._all_weights(projection.weight, projection.bias)]
        patches = self.op("Conv", *operands, strides=list(projection.stride))  # (b, d, r, c)
        patches = self.op("Reshape", patches, self.integers(0, 0, -1))  # (b, d, n)
        patches = self.op("Add", self.op("Transpose", patches, perm=[0, 2, 1]), "positions")  # (b, n, d)
        prefix = vit.cls_token if vit.reg_token is None else torch.cat([vit.cls_token, vit.reg_token], dim=1)
        prefix_positions, _ = self._encoder.patch_positions(vit.patch_embed.grid_size)
        prefix = prefix if prefix_positions is None else prefix + prefix_positions  # (1, p, d)
        batch = self.op("Shape", "images", start=0, end=1)
        shape = self.op("Concat", batch, self.integers(1, 1), axis=0)
        return self.op("Concat", self.op("Expand", self._weight(prefix), shape), patches, axis=1)  # (b, t, d)

    def _block(self, x: str, block: Block) -> str:
        """A block on all tokens (b, t, d)."""
        attention = block.attn
        assert isinstance(attention, Attention)
        normed = self._norm(x, block.norm1)
        qkv, bias = self._qkv(normed, normed, attention)
        mixed = self._attend(qkv, bias, attention)  # (b, t, a)
        return self._after_attention(x, normed, mixed, block)

    def _last_block(self, x: str, block: Block, all_tokens: bool) -> tuple[str, str]:
        """The last block, (b, t, d) or (b, 1, d), and its [CLS] attention row (b, heads, 1, t)."""
        attention = block.attn
        assert isinstance(attention, Attention)
        normed = self._norm(x, block.norm1)  # (b, t, d)
        queries_of = normed if all_tokens else self.slice(normed, 1, 0, 1)
        (q, k, v), bias = self._qkv(queries_of, normed, attention, add_bias=True)
        cls_query = self.slice(q, 1, 0, 1) if all_tokens else q
        shape = self.integers(0, 0, attention.num_heads, attention.head_dim)
        cls_query, v_heads = (
            self.op("Transpose", self.op("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in (cls_query, v)
        )  # (b, heads, 1, d'), (b, heads, t, d')
        k_heads = self.op("Transpose", self.op("Reshape", k, shape), perm=[0, 2, 3, 1])  # (b, heads, d', t)
        logits = self.op("FusedMatMul", cls_query, k_heads, domain=CONTRIB, alpha=float(attention.scale))
        row = self.op("Softmax", logits, axis=-1)  # (b, heads, 1, t)
        if all_tokens:
            mixed = self._attend((q, k, v), bias, attention)  # (b, t, a)
        else:
            mixed = self.op("Transpose", self.op("MatMul", row, v_heads), perm=[0, 2, 1, 3])  # (b, 1, heads, d')
            mixed = self.op("Reshape", mixed, self.integers(0, 0, -1))  # (b, 1, a)
            x = self.slice(x, 1, 0, 1)
        return self._after_attention(x, queries_of, mixed, block), row

    def _qkv(
        self, queries_of: str, tokens: str, attention: Attention, add_bias: bool = False
    ) -> tuple[tuple[str, str, str], str]:
        """Queries (b, t or 1, a), keys and values (b, t, a), and their bias (3 a,) where it is not yet added.

        Three products give the same as one and need no split. The attention operator adds the bias while it reorders.
        """
        weights, bias = attention.qkv.weight.chunk(3), attention.qkv.bias
        has_norms = not all(isinstance(norm, nn.Identity) for norm in (attention.q_norm, attention.k_norm))
        add_bias = bias is not None and (add_bias or has_norms)
        biases = bias.chunk(3) if bias is not None and add_bias else (None, None, None)
        inputs = (queries_of, tokens, tokens)
        q, k, v = (self._product(*part) for part in zip(inputs, weights, biases, strict=True))
        q, k = self._norm_heads(q, attention.q_norm, attention), self._norm_heads(k, attention.k_norm, attention)
        return (q, k, v), "" if bias is None or add_bias else self._weight(bias)

    def _norm_heads(self, x: str, norm: nn.Module, attention: Attention) -> str:
        """Norm the queries or keys (b, t, a) of each head."""
        if isinstance(norm, nn.Identity):
            return x
        heads = self.op("Reshape", x, self.integers(0, 0, attention.num_heads, attention.head_dim))
        return self.op("Reshape", self._norm(heads, norm), self.integers(0, 0, -1))  # (b, t, a)

    def _attend(self, qkv: Sequence[str], bias: str, attention: Attention) -> str:
        """Softmax attention of all tokens (b, t, a)."""
        settings = {"num_heads": attention.num_heads, "scale": float(attention.scale)}
        return self.op("MultiHeadAttention", *qkv, *[bias] * bool(bias), domain=CONTRIB, **settings)

    def _after_attention(self, x: str, normed: str, mixed: str, block: Block) -> str:
        """The rest of a block: gate, projection, MLP, and both residuals; shapes as those of ``x``."""
        attention = block.attn
        assert isinstance(attention, Attention)
        mixed = self._norm(mixed, attention.norm)
        if attention.gate is not None:
            mixed = self.op("Mul", mixed, self.op("Sigmoid", self._linear(normed, attention.gate)))
        x = self.op("Add", x, self._linear(mixed, attention.proj, block.ls1))
        mlp = block.mlp
        assert isinstance(mlp, Mlp | GluMlp | SwiGLU) and isinstance(mlp.fc2, nn.Linear)
        hidden = self._norm(self._hidden(self._norm(x, block.norm2), mlp), mlp.norm)
        return self.op("Add", x, self._linear(hidden, mlp.fc2, block.ls2))

    def _hidden(self, x: str, mlp: Mlp | GluMlp | SwiGLU) -> str:
        """The MLP up to and with its activation."""
        if isinstance(mlp, SwiGLU):
            return self.op("Mul", self._activation(self._linear(x, mlp.fc1_g), mlp.act), self._linear(x, mlp.fc1_x))
        fc1, act = mlp.fc1, mlp.act
        assert isinstance(fc1, nn.Linear) and isinstance(act, nn.Module)
        if not isinstance(mlp, GluMlp):
            return self._activation(self._linear(x, fc1), act)
        biases = fc1.bias.chunk(2) if fc1.bias is not None else (None, None)
        halves = [self._product(x, *half) for half in zip(fc1.weight.chunk(2), biases, strict=True)]
        gate, value = halves[::-1] if mlp.gate_last else halves
        return self.op("Mul", self._activation(gate, act), value)

    def _activation(self, x: str, act: nn.Module) -> str:
        if isinstance(act, nn.SiLU):
            return self.op("Mul", x, self.op("Sigmoid", x))
        is_tanh = isinstance(act, TANH_GELUS) or (isinstance(act, nn.GELU) and act.approximate == "tanh")
        return self.op("Gelu", x, approximate="tanh" if is_tanh else "none")

    # ---- layers

    def _norm(self, x: str, norm: nn.Module) -> str:
        if isinstance(norm, nn.Identity):
            return x
        assert isinstance(norm, nn.LayerNorm)
        operands = self._all_weights(norm.weight, norm.bias)
        return self.op("LayerNormalization", x, *operands, axis=-1, epsilon=norm.eps)

    def _linear(self, x: str, linear: nn.Linear, scale: nn.Module | None = None) -> str:
        """A linear layer and what scales its result."""
        gamma = scale.gamma if scale is not None and not isinstance(scale, nn.Identity) else None
        return self._product(x, linear.weight, linear.bias, gamma if isinstance(gamma, Tensor) else None)

    def _product(self, x: str, weight: Tensor, bias: Tensor | None, gamma: Tensor | None = None) -> str:
        """(x W^T + bias) gamma: (b, t, in) -> (b, t, out)."""
        if self._is_int8:
            return self._int8_product(x, weight, bias, gamma)
        y = self.op("FusedMatMul", x, self._weight(weight), domain=CONTRIB, transB=1)
        y = y if bias is None else self.op("Add", y, self._weight(bias))
        return y if gamma is None else self.op("Mul", y, self._weight(gamma))

    def _int8_product(self, x: str, weight: Tensor, bias: Tensor | None, gamma: Tensor | None) -> str:
        """The same with x and W rounded; gamma is a factor of W's steps, which costs nothing."""
        integers, step = rounded_per_channel(weight.detach(), LARGEST_INT8)
        if gamma is not None:
            step = step * gamma.detach().numpy()
            bias = bias if bias is None else bias * gamma
        if x not in self._rounded:
            outputs = [f"{x}_uint8", f"{x}_step", f"{x}_zero"]
            self._rounded[x] = self.ops("DynamicQuantizeLinear", x, outputs=outputs)
        x_integers, x_step, x_zero = self._rounded[x]
        operands = [x_integers, self.stored(integers), x_step, self.stored(step), x_zero]
        operands += [] if bias is None else ["", self._weight(bias)]  # "": W's zero is 0
        return self.op("MatMulIntegerToFloat", *operands, domain=CONTRIB)

    # ---- weights

    def _all_weights(self, *tensors: Tensor | None) -> list[str]:
        return [self._weight(tensor) for tensor in tensors if tensor is not None]

    def _weight(self, tensor: Tensor) -> str:
        return self.stored(tensor.detach().numpy())

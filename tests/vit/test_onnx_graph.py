"""The ONNX graph of a frozen encoder against torch's forward pass, option by option, and what it must refuse."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from timm.layers.norm import RmsNorm
from timm.models.vision_transformer import DiffAttention, VisionTransformer
from torch import nn
from torch.nn.utils import parametrizations

from flawmap.vit.encoder import Encoder
from flawmap.vit.onnx_graph import Wanted, onnx_graph, rounded_per_channel
from flawmap.vit.onnx_known import unknown_parts
from flawmap.vit.onnx_nodes import OnnxGraph
from vit_variants import VARIANTS, noise, tiny_encoder


def run(encoder: Encoder, graph: OnnxGraph, images: torch.Tensor) -> dict[str, torch.Tensor]:
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in graph.weights.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_external_initializers([*values], [*values.values()])
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    positions = encoder.patch_positions(encoder.grid(*images.shape[-2:]))[1].detach().contiguous().numpy()
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"images": images.numpy(), "positions": positions})
    return {name: torch.from_numpy(array) for name, array in zip(names, outputs, strict=True)}


def close(found: torch.Tensor, expected: torch.Tensor, relative: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()


@torch.no_grad()
def outputs_of(encoder: Encoder, wanted: Wanted, images: torch.Tensor) -> dict[str, torch.Tensor]:
    output = encoder(images, blocks=wanted.blocks)
    blocks = {f"block_{number}": output.block_tokens[number] for number in wanted.blocks}
    return blocks | ({"cls": output.cls, "cls_attention": output.cls_attention} if wanted.cls else {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_option_equals_torch(variant: str):
    encoder = tiny_encoder(variant)
    assert unknown_parts(encoder) == []
    last = len(encoder.vit.blocks) - 1
    for wanted in (Wanted((), True), Wanted((0, last)[: last + 1], True), Wanted((0,), False), Wanted((last,), False)):
        graph = onnx_graph(encoder, wanted)
        for images in (noise(48, 48), noise(64, 32, number=3)):
            found, expected = run(encoder, graph, images), outputs_of(encoder, wanted, images)
            assert found.keys() == expected.keys()
            for name in wanted.names:
                close(found[name], expected[name])


def test_it_is_a_valid_model_that_shares_torchs_memory():
    encoder = tiny_encoder("registers")
    graph = onnx_graph(encoder, Wanted((1,), False))
    onnx.checker.check_model(with_matmuls(graph), full_check=True)
    graph = onnx_graph(encoder, Wanted((1,), True))
    assert len(graph.model.SerializeToString()) < 20_000
    addresses = {parameter.data_ptr() for parameter in encoder.parameters()}
    shared = [array for array in graph.weights.values() if array.ctypes.data in addresses]
    largest = [block.mlp.fc1.weight for block in encoder.vit.blocks]
    assert {weight.data_ptr() for weight in largest} <= {array.ctypes.data for array in shared}


def test_blocks_after_the_last_wanted_one_are_not_written():
    nodes = [len(onnx_graph(tiny_encoder(), Wanted((number,), False)).model.graph.node) for number in range(3)]
    assert nodes[0] < nodes[1] < nodes[2]
    assert nodes[2] - nodes[1] == nodes[1] - nodes[0]


def test_last_block_of_cls_alone_has_one_query():
    """The MLP of one token, and no attention of all tokens, in the last block."""
    graph = onnx_graph(tiny_encoder(), Wanted((0,), True)).model.graph
    assert sum(node.op_type == "MultiHeadAttention" for node in graph.node) == 2


# ---- int8


@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_is_near_and_its_weights_are_int8(variant: str):
    encoder, wanted = tiny_encoder(variant, gain=1.0), Wanted((0,), True)
    graph = onnx_graph(encoder, wanted, "int8")
    linears = [module for block in encoder.vit.blocks for module in block.modules() if isinstance(module, nn.Linear)]
    rounded = [array for array in graph.weights.values() if array.dtype == np.int8]
    assert sum(array.size for array in rounded) == sum(linear.weight.numel() for linear in linears)
    in_blocks = [array for array in graph.weights.values() if array.dtype != np.int8 and array.ndim == 2]
    assert in_blocks == []
    found, expected = run(encoder, graph, noise(64, 48)), outputs_of(encoder, wanted, noise(64, 48))
    for name in wanted.names:
        close(found[name], expected[name], 0.06)
    assert not torch.equal(found["cls"], expected["cls"])


@pytest.mark.parametrize("largest", [127, 64])
def test_rounding_is_to_the_nearest_step_of_each_channel(largest: int):
    weight = torch.randn(5, 40) * torch.tensor([1e-6, 1.0, 1e3, 0.0, 2.0])[:, None]
    integers, step = rounded_per_channel(weight, largest)
    assert integers.shape == (40, 5) and integers.flags.c_contiguous
    assert (np.abs(integers).max(axis=0) == [largest, largest, largest, 0, largest]).all()
    error = np.abs(integers.T * step[:, None] - weight.numpy())
    assert (error <= step[:, None] * (0.5 + 1e-4)).all()


def test_products_cannot_overflow_16_bits():
    graph = onnx_graph(tiny_encoder(), Wanted((), True), "int8")
    largest = max(int(np.abs(array).max()) for array in graph.weights.values() if array.dtype == np.int8)
    assert largest == 64 and 2 * 255 * largest < 2**15


def test_int8_equals_onnxruntimes_own_quantisation(tmp_path):
    """The same numbers as ``quantize_dynamic`` gives, which takes seconds and temporary files."""
    encoder, wanted, images = tiny_encoder("registers"), Wanted((0, 1, 2), False), noise(48, 64)
    as_matmul = with_matmuls(onnx_graph(encoder, wanted))
    quantize_dynamic(
        as_matmul,
        tmp_path / "int8.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    theirs = run(encoder, OnnxGraph(onnx.load(tmp_path / "int8.onnx"), {}), images)
    ours = run(encoder, onnx_graph(encoder, wanted, "int8"), images)
    for name in wanted.names:
        close(ours[name], theirs[name], 2e-2)
    exact = outputs_of(encoder, wanted, images)
    assert (ours["block_0"] - theirs["block_0"]).abs().max() < (ours["block_0"] - exact["block_0"]).abs().max() / 5


def with_matmuls(graph: OnnxGraph) -> onnx.ModelProto:
    """The graph with its weights inside, and plain MatMul nodes, which are all that ``quantize_dynamic`` knows."""
    model, weights = onnx.ModelProto(), dict(graph.weights)
    model.CopyFrom(graph.model)
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            weights[node.input[1]] = weights[node.input[1]].T
            node.op_type, node.domain = "MatMul", ""
            node.ClearField("attribute")
    integers = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
    inside = [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    model.graph.ClearField("initializer")
    model.graph.initializer.extend([*integers, *inside])
    return model


# ---- what the writer does not know


class OwnLinear(nn.Linear):
    """Computes the same, but nothing says so."""


def replace_norm(encoder: Encoder) -> None:
    encoder.vit.blocks[1].norm2 = RmsNorm(64)


def replace_attention(encoder: Encoder) -> None:
    encoder.vit.blocks[0].attn = DiffAttention(64, 2)


def derive_linear(encoder: Encoder) -> None:
    encoder.vit.blocks[2].mlp.fc1 = OwnLinear(64, 256)


def replace_activation(encoder: Encoder) -> None:
    encoder.vit.blocks[2].mlp.act = nn.Hardswish()


def add_part(encoder: Encoder) -> None:
    encoder.vit.blocks[1].adapter = nn.Linear(64, 64)


def add_parameter(encoder: Encoder) -> None:
    encoder.vit.blocks[1].attn.sink = nn.Parameter(torch.zeros(2))


def add_buffer(encoder: Encoder) -> None:
    encoder.vit.blocks[1].attn.register_buffer("mask", torch.zeros(2))


def add_hook(encoder: Encoder) -> None:
    encoder.vit.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: output * 2)


def add_hook_before(encoder: Encoder) -> None:
    encoder.vit.norm.register_forward_pre_hook(lambda module, inputs: inputs)


def own_forward(encoder: Encoder) -> None:
    encoder.vit.blocks[0].mlp.forward = lambda x: x


def weight_norm(encoder: Encoder) -> None:
    parametrizations.weight_norm(encoder.vit.blocks[0].attn.proj)


def overlapping_patches(encoder: Encoder) -> None:
    encoder.vit.patch_embed.proj.stride = (8, 8)


def half_precision(encoder: Encoder) -> None:
    encoder.vit.blocks[1].half()


def double_tokens(encoder: Encoder) -> None:
    encoder.vit.cls_token.data = encoder.vit.cls_token.data.double()


def no_weight(encoder: Encoder) -> None:
    encoder.vit.norm = nn.LayerNorm(64, elementwise_affine=False)


def plain_list_of_blocks(encoder: Encoder) -> None:
    encoder.vit.blocks = nn.ModuleList(encoder.vit.blocks)


UNKNOWN = {
    replace_norm: "blocks.1.norm2 is a RmsNorm",
    replace_attention: "blocks.0.attn is a DiffAttention",
    derive_linear: "blocks.2.mlp.fc1 is a OwnLinear",
    replace_activation: "blocks.2.mlp.act is a Hardswish",
    add_part: "blocks.1 has a part adapter",
    add_parameter: "blocks.1.attn has a parameter sink",
    add_buffer: "blocks.1.attn has a buffer mask",
    add_hook: "blocks.1.mlp has a hook or a forward pass of its own",
    add_hook_before: "norm has a hook or a forward pass of its own",
    own_forward: "blocks.0.mlp has a hook or a forward pass of its own",
    weight_norm: "blocks.0.attn.proj is a ParametrizedLinear",
    overlapping_patches: "patch_embed.proj has patches that overlap, lie apart or are padded",
    half_precision: "blocks.1.norm1.weight is not float32",
    double_tokens: "cls_token is not float32",
    no_weight: "norm has no weight per entry of a token",
    plain_list_of_blocks: "ModuleList is not or not only a Sequential",
}


@pytest.mark.parametrize("change", UNKNOWN)
def test_unknown_parts_are_recognised(change):
    encoder = tiny_encoder()
    change(encoder)
    assert unknown_parts(encoder)[0] == UNKNOWN[change]


def test_classes_that_derive_from_the_vit_or_the_encoder_are_unknown():
    class OwnViT(VisionTransformer):
        pass

    class OwnEncoder(Encoder):
        pass

    own = OwnViT(img_size=48, embed_dim=64, depth=1, num_heads=2, num_classes=0).eval()
    assert unknown_parts(Encoder(own)) == ["OwnViT is not or not only a VisionTransformer"]
    assert unknown_parts(OwnEncoder(tiny_encoder().vit)) == ["OwnEncoder is not or not only a Encoder"]


def test_dropout_is_unknown_in_training_alone():
    encoder = tiny_encoder("stochastic depth")
    assert unknown_parts(encoder.eval()) == []
    assert "blocks.1.drop_path1 has stochastic depth, and is in training" in unknown_parts(encoder.train())
    assert "blocks.0.attn.attn_drop has dropout, and is in training" in unknown_parts(encoder)
    assert unknown_parts(tiny_encoder().train()) == []  # it has no dropout

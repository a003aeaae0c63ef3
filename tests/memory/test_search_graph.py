"""The search of an exported file: as near as its rounding allows, the same as detection's, and ready after loading."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flawmap.memory.patch_memory import PatchMemory
from flawmap.memory.search import GROUP, ROWS, SMALLEST_COARSE, NearestSearch
from flawmap.memory.search_graph import LARGEST_MEMORY, LARGEST_QUERY, search_name, write_search
from flawmap.vit.onnx_nodes import OnnxGraph, OnnxNodes

ONE_THREAD = onnxruntime.SessionOptions()
ONE_THREAD.intra_op_num_threads = ONE_THREAD.inter_op_num_threads = 1


def tokens(count: int, dim: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    """Tokens around a common mean, of any length, as those of a ViT lie."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(dim, generator=generator) + 3 * spread * torch.randn(count, dim, generator=generator)


def memory_of(tokens: torch.Tensor, precision: str = "fp32") -> PatchMemory:
    memory = PatchMemory(1, *tokens.shape, precision)
    sources = torch.zeros(len(tokens), dtype=torch.int32)
    memory.fill(tokens[:, None], sources, torch.arange(len(tokens))[None])
    memory.spacing.copy_(torch.linspace(0.5, 2, len(tokens)))
    return memory


def graph_of(memory: PatchMemory, num_queries: int) -> OnnxGraph:
    nodes = OnnxNodes()
    found = write_search(nodes, memory, 0, "queries", num_queries)
    float_of = {name: TensorProto.FLOAT for name in (found.distances, found.tokens, found.spacing)}
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in float_of.items()]
    queries = helper.make_tensor_value_info("queries", TensorProto.FLOAT, ["b", num_queries, memory.tokens.shape[2]])
    return nodes.graph("search", [queries], outputs)


def searched(memory: PatchMemory, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances, nearest tokens and their spacing, by ONNX Runtime, of the tokens of one image."""
    distances, nearest, spacing = (found[0] for found in searched_images(memory, queries[None]))
    return distances, nearest, spacing


def searched_images(memory: PatchMemory, queries: torch.Tensor) -> list[torch.Tensor]:
    model = graph_of(memory, queries.shape[1]).with_weights()
    session = onnxruntime.InferenceSession(model.SerializeToString(), ONE_THREAD)
    return [torch.from_numpy(found) for found in session.run(None, {"queries": queries.numpy()})]


def largest_error(unit: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Of each query's coarse product, by the Cauchy-Schwarz inequality on what rounding takes away."""
    memory = unit - unit.mean(dim=0)
    step = memory.abs().max() / 127
    lost = (memory - (memory / step).round() * step).norm(dim=1).max()
    steps = queries.abs().amax(dim=1, keepdim=True) / 63
    rounded = (queries / steps).round() * steps
    return (queries - rounded).norm(dim=1) * memory.norm(dim=1).max() + rounded.norm(dim=1) * lost


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@given(seed=st.integers(0, 10_000), count=st.integers(SMALLEST_COARSE, 1500), spread=st.floats(0.01, 2.0))
@settings(max_examples=15, deadline=None)
def test_a_distance_exceeds_the_true_one_by_at_most_twice_the_rounding_bound(
    precision: str, seed: int, count: int, spread: float
):
    memory, queries = memory_of(tokens(count, 24, seed, spread), precision), tokens(40, 24, seed + 1, spread)
    distances, nearest, spacing = searched(memory, queries)
    unit, (known,) = F.normalize(queries, dim=-1), memory.unit
    exact = 1 - (unit @ known.T).max(dim=1).values
    assert (distances - exact <= 2 * largest_error(known, unit) + 2e-6).all()
    assert (distances >= exact - 2e-6).all()
    torch.testing.assert_close(distances, 1 - (unit * nearest).sum(dim=1), atol=2e-6, rtol=0)
    at = torch.cdist(nearest, known, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    assert at.values.max() < 1e-6
    assert torch.equal(spacing, memory.spacing[0, at.indices])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("count", [1, 17, SMALLEST_COARSE - 1])
def test_a_small_memory_is_searched_exactly(count: int, precision: str):
    memory, queries = memory_of(tokens(count, 32, 0), precision), tokens(50, 32, 1)
    assert search_name(memory) == "fp32"
    distances, nearest, spacing = searched(memory, queries)
    best, index = (F.normalize(queries, dim=-1) @ memory.unit[0].T).max(dim=1)
    torch.testing.assert_close(distances, 1 - best, atol=1e-6, rtol=0)
    torch.testing.assert_close(nearest, memory.unit[0, index], atol=1e-6, rtol=0)
    assert torch.equal(spacing, memory.spacing[0, index])


@pytest.mark.parametrize("count", [SMALLEST_COARSE, SMALLEST_COARSE + 1, SMALLEST_COARSE + GROUP - 1])
def test_every_token_finds_itself(count: int):
    """The last group is filled up with the first tokens, which must not be taken for others."""
    memory = memory_of(tokens(count, 48, 0))
    assert search_name(memory) == "int8, 8 re-ranked in fp32"
    distances, nearest, spacing = searched(memory, memory.tokens[0].float())
    assert distances.abs().max() < 1e-6 and torch.equal(spacing, memory.spacing[0])
    torch.testing.assert_close(nearest, memory.unit[0], atol=1e-6, rtol=0)


def test_it_finds_what_detection_finds():
    memory, queries = memory_of(tokens(3001, 96, 0)), tokens(500, 96, 1)
    unit = F.normalize(queries, dim=-1)
    distances, _, _ = searched(memory, queries)
    for product in ("int8", "fp32"):
        theirs, _ = NearestSearch(memory.unit[0], product)(unit)
        assert ((1 - theirs - distances).abs() < 2e-6).float().mean() > 0.99


def test_queries_do_not_depend_on_each_other():
    memory, queries = memory_of(tokens(2000, 48, 0)), tokens(2 * ROWS + 3, 48, 1)
    together = searched(memory, queries)
    for start, stop in ((0, ROWS), (ROWS - 1, ROWS + 2), (2 * ROWS, 2 * ROWS + 3)):
        for alone, of_all in zip(searched(memory, queries[start:stop]), together, strict=True):
            torch.testing.assert_close(alone, of_all[start:stop], atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [40, 2000])
def test_images_searched_together_find_what_each_finds_alone(count: int):
    memory, queries = memory_of(tokens(count, 48, 0)), tokens(3 * (ROWS + 5), 48, 1).reshape(3, ROWS + 5, 48)
    together = searched_images(memory, queries)
    assert [tuple(found.shape) for found in together] == [(3, ROWS + 5), (3, ROWS + 5, 48), (3, ROWS + 5)]
    for number, image in enumerate(queries):
        for alone, of_all in zip(searched(memory, image), together, strict=True):
            torch.testing.assert_close(alone, of_all[number], atol=1e-6, rtol=0)


def with_outputs_of(graph: OnnxGraph, kind: str, inputs: tuple[int, ...]) -> onnx.ModelProto:
    """The graph giving some inputs of its only node of a kind."""
    model = graph.with_weights()
    (node,) = [node for node in model.graph.node if node.op_type == kind]
    del model.graph.output[:]
    types = {0: TensorProto.UINT8, 1: TensorProto.INT8}
    model.graph.output.extend(helper.make_tensor_value_info(node.input[n], types[n], None) for n in inputs)
    return model


def test_products_cannot_overflow_16_bits_on_any_processor():
    """Without VNNI, two products of neighbours are added in 16 bits."""
    memory = memory_of(torch.cat([tokens(1200, 16, 0), torch.eye(16) * 9, -torch.eye(16) * 9]))
    queries = torch.cat([tokens(20, 16, 1), torch.eye(16), -torch.eye(16), torch.zeros(1, 16)])
    model = with_outputs_of(graph_of(memory, len(queries)), "MatMulInteger", (0, 1))
    a, b = onnxruntime.InferenceSession(model.SerializeToString(), ONE_THREAD).run(
        None, {"queries": queries[None].numpy()}
    )
    assert (a.min(), a.max()) == (1, 2 * LARGEST_QUERY + 1) and np.abs(b.astype(int)).max() == LARGEST_MEMORY
    assert (a[-1] == LARGEST_QUERY + 1).all()  # zero is exact
    assert 2 * int(a.max()) * LARGEST_MEMORY < 2**15


@pytest.mark.parametrize(("precision", "stored"), [("fp32", np.float16), ("int8", np.int8)])
def test_the_memory_is_stored_once_and_prepared_when_the_file_is_loaded(tmp_path, precision, stored):
    graph = graph_of(memory_of(tokens(1030, 40, 0), precision), 5)
    assert [array.dtype for array in graph.weights.values() if array.size >= 1030 * 40] == [stored]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.with_weights().SerializeToString(), options)
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    large = [(list(one.dims), one.data_type) for one in loaded.initializer if np.prod(one.dims) >= 1030 * 40]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(stored))
    assert sorted(large) == sorted([([1030, 40], kind), ([40, 1040], TensorProto.INT8)])
    assert not {"QuantizeLinear", "ReduceMean", "Neg"} & {node.op_type for node in loaded.node}

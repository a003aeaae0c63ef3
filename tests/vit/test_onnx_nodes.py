"""Graphs under construction: what no output needs is left out, and graphs can be put together."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from flawmap.vit.onnx_nodes import OnnxGraph, OnnxNodes


def value(name: str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])


def affine(factor: float, weights: np.ndarray) -> OnnxGraph:
    """factor x + weights, and something that nobody needs."""
    nodes = OnnxNodes()
    nodes.op("Neg", nodes.stored(np.zeros((9, 9), np.float32)))
    scaled = nodes.op("Mul", "x", nodes.constant(np.float32(factor)))
    nodes.op("Add", scaled, nodes.stored(weights), output="y")
    return nodes.graph("affine", [value("x")], [value("y")])


def run(graph: OnnxGraph, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.with_weights().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


X = np.arange(6, dtype=np.float32).reshape(2, 3)
ROW = np.array([1, 10, 100], np.float32)


def test_what_no_output_needs_is_left_out():
    graph = affine(2, ROW)
    assert [node.op_type for node in graph.model.graph.node] == ["Mul", "Add"]
    assert [array.tolist() for array in graph.weights.values()] == [ROW.tolist()]
    assert np.array_equal(run(graph, X), 2 * X + ROW)


def test_graphs_with_the_same_names_are_put_together():
    first, second, nodes = affine(2, ROW), affine(3, -ROW), OnnxNodes()
    nodes.include(first.model.graph, "first/", {"x": "x"}, first.weights)
    nodes.include(second.model.graph, "second/", {"x": "first/y", "y": "y"}, second.weights)
    both = nodes.graph("both", [value("x")], [value("y")])
    assert np.array_equal(run(both, X), 3 * (2 * X + ROW) - ROW)
    assert len(both.weights) == 2


def test_a_slice_and_several_outputs():
    nodes = OnnxNodes()
    columns = nodes.slice("x", 1, 1, 3)
    values, _ = nodes.ops("TopK", columns, nodes.integers(1), outputs=["values", "indices"], axis=1)
    graph = nodes.graph("highest", [value("x")], [helper.make_tensor_value_info(values, TensorProto.FLOAT, [2, 1])])
    assert run(graph, -X).tolist() == [[-1], [-4]]

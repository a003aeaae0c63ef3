"""Weights in half precision: matrices alone are rounded, and the graph computes with them as before."""

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from flawmap.deploy.half_weights import SMALLEST, halve_weights


def test_matrices_are_rounded_and_vectors_are_not():
    generator = np.random.default_rng(0)
    matrix, small = (
        generator.normal(size=(64, 32)).astype(np.float32),
        generator.normal(size=(32, 3)).astype(np.float32),
    )
    vector = generator.normal(size=SMALLEST * 2).astype(np.float32)[-64:]
    assert matrix.size >= SMALLEST > small.size
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["x", "vector"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "matrix"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "small"], ["y"]),
        ],
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 3])],
        [
            numpy_helper.from_array(array, name)
            for name, array in {"matrix": matrix, "small": small, "vector": vector}.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    halve_weights(model)
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert kinds == {"matrix/half": TensorProto.FLOAT16, "small": TensorProto.FLOAT, "vector": TensorProto.FLOAT}
    x = generator.normal(size=(5, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = (x / vector) @ matrix.astype(np.float16).astype(np.float32) @ small
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)


def test_matrices_of_a_loop_are_rounded_too():
    matrix = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side]) for name, side in (("a", 64), ("b", 32)))
    product = helper.make_node("MatMul", ["a", "matrix"], ["b"])
    body = helper.make_graph([product], "each_row", [x], [y], [numpy_helper.from_array(matrix, "matrix")])
    graph = helper.make_graph(
        [helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)],
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 1, 32])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    halve_weights(model)
    (weight,) = model.graph.node[0].attribute[0].g.initializer or model.graph.node[0].attribute[1].g.initializer
    assert (weight.name, weight.data_type) == ("matrix/half", TensorProto.FLOAT16)
    given = np.random.default_rng(1).normal(size=(3, 1, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = given @ matrix.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": given})[0], expected, rtol=1e-4, atol=1e-4)

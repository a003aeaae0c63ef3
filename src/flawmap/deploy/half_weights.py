"""Weights of an ONNX graph stored in half precision and computed with in fp32."""

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

SMALLEST = 1024  # entries; smaller tensors save nothing


def halve_weights(model: ModelProto) -> None:
    """Store the float32 matrices of a graph in float16, each with a cast, which ONNX Runtime computes when it loads.

    Those of graphs inside it as well. Vectors stay as they are: they are small, and among them are scales that every
    value is divided by.
    """
    _halve(model.graph)


def _halve(graph: GraphProto) -> None:
    casts = list[NodeProto]()
    for number, weight in enumerate(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2 or np.prod(weight.dims) < SMALLEST:
            continue
        name = f"{weight.name}/half"
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), name)
        casts.append(helper.make_node("Cast", [name], [weight.name], to=TensorProto.FLOAT))
        graph.initializer[number].CopyFrom(half)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _halve(attribute.g)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)

"""An ONNX graph under construction: nodes, small constants, and weights that are kept beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10  # the oldest with Gelu; what the oldest ONNX Runtime that we support can read
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class OnnxGraph:
    """A graph whose weights lie outside it.

    Attributes:
        model: its external initializers are named in ``weights``.
        weights: by name.
    """

    model: ModelProto
    weights: dict[str, NDArray]

    def with_weights(self) -> ModelProto:
        """One model that holds its weights."""
        model = ModelProto()
        model.CopyFrom(self.model)
        for number, initializer in enumerate(model.graph.initializer):
            if initializer.name in self.weights:
                inside = numpy_helper.from_array(self.weights[initializer.name], initializer.name)
                model.graph.initializer[number].CopyFrom(inside)
        return model


class OnnxNodes:
    """Its methods add nodes or constants and return the name of their result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.weights: dict[str, NDArray] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        """The result of an operator with one output."""
        return self.ops(kind, *inputs, outputs=[output or f"{kind}_{len(self.nodes)}"], domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: Sequence[str], domain: str = "", **attributes: Any) -> list[str]:
        """The results of an operator with several outputs, under these names."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes))
        return list(outputs)

    def slice(self, x: str, axis: int, start: int, end: int, output: str = "") -> str:
        """Entries from ``start`` to before ``end`` along an axis."""
        bounds = [self.integers(number) for number in (start, end, axis)]
        return self.op("Slice", x, *bounds, output=output)

    def integers(self, *numbers: int) -> str:
        """A small int64 tensor of one dimension."""
        name = f"integers_{len(self.initializers)}"
        self.initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers))
        return name

    def constant(self, value: np.generic) -> str:
        """A number of this type."""
        name = f"number_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def stored(self, array: NDArray) -> str:
        """A weight that lies outside the graph."""
        name = f"weight_{len(self.initializers)}"
        self.initializers.append(_outside(array, name))
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def include(
        self, graph: GraphProto, prefix: str, inputs: Mapping[str, str], weights: Mapping[str, NDArray]
    ) -> None:
        """Take all of another graph in.

        Args:
            graph: without graphs inside it.
            prefix: of its names here; the name of an output, too.
            inputs: what each of its inputs is called here.
            weights: those of its initializers that lie outside it.
        """

        def name_of(name: str) -> str:
            return inputs.get(name) or (f"{prefix}{name}" if name else "")

        for node in graph.node:
            assert not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute), node.op_type
            renamed = NodeProto()
            renamed.CopyFrom(node)
            renamed.input[:], renamed.output[:] = map(name_of, node.input), map(name_of, node.output)
            renamed.name = ""
            self.nodes.append(renamed)
        for initializer in graph.initializer:
            renamed = TensorProto()
            renamed.CopyFrom(initializer)
            renamed.name = name_of(initializer.name)
            self.initializers.append(renamed)
            if initializer.name in weights:
                self.weights[renamed.name] = weights[initializer.name]

    def graph(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> OnnxGraph:
        """The graph, without what no output needs."""
        needed, nodes = {output.name for output in outputs}, []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                needed.update(node.input)
                nodes.append(node)
        kept = [initializer for initializer in self.initializers if initializer.name in needed]
        graph = helper.make_graph(nodes[::-1], name, list(inputs), list(outputs), kept)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="flawmap")
        return OnnxGraph(model, {key: array for key, array in self.weights.items() if key in needed})


def _outside(array: NDArray, name: str) -> TensorProto:
    tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.external_data.add(key="location", value="memory")
    return tensor

"""Whether this processor's products of 8-bit integers are exact."""

from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


@cache
def products_saturate() -> bool:
    """Whether ONNX Runtime's product of uint8 and int8 matrices overflows on this processor.

    On x86 without VNNI it adds two products of 8 bits in 16, which cuts off large sums without a word; weights of 7
    bits are then safe. The largest possible products are computed to find out, because this needs no list of
    processors: it asks the very code that will compute. Rows and columns cover its separate paths for one and many.
    """
    inner, columns = 64, 48
    largest = np.full((inner, columns), 127, np.int8)
    value_info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "products",
        [value_info("a", TensorProto.UINT8, ["m", inner])],
        [value_info("y", TensorProto.INT32, ["m", columns])],
        [numpy_helper.from_array(largest, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums = [np.asarray(session.run(None, {"a": np.full((rows, inner), 255, np.uint8)})[0]) for rows in (1, 17)]
    return not all(np.array_equal(found, np.full_like(found, 255 * 127 * inner)) for found in sums)

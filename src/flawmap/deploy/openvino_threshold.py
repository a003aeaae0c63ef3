"""The threshold of an OpenVINO model: a variable with a default, because inputs there have none.

OpenVINO does not refuse an input that a program has not filled: it holds zeros, or whatever was there. A variable keeps
its default until a program sets it, with ``request.query_state()``.
"""

import math
from typing import Any

import numpy as np

from flawmap.deploy.graph import THRESHOLD

MANTISSA_BITS = 24  # of a float32


def store_threshold(model: Any, default: float) -> None:
    """Turn the input ``threshold`` of a model into a variable of this name.

    Args:
        model: an ``openvino.Model``; is changed.
        default: a float32, or infinite.
    """
    import openvino
    from openvino import opset13 as ops
    from openvino.op.util import Variable, VariableInfo

    (parameter,) = (one for one in model.get_parameters() if one.friendly_name == THRESHOLD)
    info = VariableInfo()
    info.data_shape, info.data_type, info.variable_id = openvino.PartialShape([]), openvino.Type.f32, THRESHOLD
    variable = Variable(info)
    threshold = ops.read_value(_exact(default), variable)
    for reader in parameter.output(0).get_target_inputs():
        reader.replace_source_output(threshold.output(0))
    model.add_variables([variable])
    model.add_sinks([ops.assign(threshold, variable)])
    model.remove_parameter(parameter)


def _exact(value: float) -> Any:
    """A number that stays as it is where float constants are stored in half precision: mantissa x 2 ^ exponent."""
    from openvino import opset13 as ops

    if math.isinf(value):
        return ops.constant(np.float32(value))
    mantissa, exponent = math.frexp(value)
    whole, shift = int(mantissa * 2**MANTISSA_BITS), exponent - MANTISSA_BITS
    power = ops.power(ops.constant(np.float32(2)), ops.convert(ops.constant(np.int32(shift)), "f32"))
    return ops.multiply(ops.convert(ops.constant(np.int32(whole)), "f32"), power)
